"""SOURCE: where a command's machine, description or guest XML comes from; one notation for all of them.

FILE            a description, guest XML, a QEMU command line or a QMP socket, by what it is
-               standard input, the same
REV:PATH        a file as git has it: ``HEAD:web01.yaml``, ``main~3:./web01.xml``, ``:web01.yaml`` for what is staged
tcp:HOST:PORT   a QMP monitor
pid:N           a QEMU that runs here, by its process
libvirt:NAME    a guest of libvirt: its monitor where a machine is wanted, else the XML that libvirt keeps of it

tree_from_source       a machine, wherever it is
guest_from_source      guest XML
document_from_source   a description, the one inside of guest XML included
data_from_source       the bytes of either
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import TYPE_CHECKING, Any

from mdtool.errors import InputError, QemuError, Warned
from mdtool.files import bytes_from_file, is_standard, on_path, text_from_bytes
from mdtool.machine.document import Document, document_from_known_text, is_description, is_xml
from mdtool.records import dataclass, field, replace
from mdtool.text import as_command

if TYPE_CHECKING:
    from mdtool.guest.model import Guest
    from mdtool.launch.prepare import Prepared
    from mdtool.machine.tree import Tree
    from mdtool.qemu.read import Method
    from mdtool.qemu.session import Session

RUNNING = ("tcp", "pid", "libvirt")
EXPECTED = "a file, -, a QMP socket, tcp:HOST:PORT, pid:N, libvirt:NAME or REV:PATH"


class SourceKind(Enum):
    """What a source turns out to be."""

    RUNNING = "a running machine"
    XML = "guest XML"
    DESCRIPTION = "a machine description"
    COMMANDLINE = "a QEMU command line"


def _silent(_text: str) -> None:
    """For ``warn`` without a listener."""


@dataclass(frozen=True)
class Access:
    """How sources are reached.

    ``connect``  libvirt's URI; None for libvirt's own default
    ``qemu``     the binary in place of the one that the XML or the command line names
    ``root``     the folder that the binary lives in, as / does
    ``way``      how a monitor is read; None for the quickest that this QEMU has
    ``tree``     the description of guest XML, where it is not the one inside
    ``arguments``  whether to warn where the arguments of a running QEMU are out of reach, which have what no monitor has
    ``texts``    what is read in place of a file: a text that is not written yet
    ``secrets``  whether libvirt's XML comes with its secrets: not where it goes into a file
    ``warn``     takes what a person should know
    """

    connect: str | None = None
    qemu: str | None = None
    root: str | None = None
    way: Method | None = None
    tree: Tree | None = None
    arguments: bool = True
    secrets: bool = True
    texts: Mapping[str, bytes] = field(default_factory=dict, hash=False)
    warn: Warned = field(default=_silent)

    def binary(self, name: str) -> str | None:
        """The QEMU to start where a source names ``name``; None for that one itself.  QemuError where it is not there."""
        if self.root is None:
            if self.qemu is not None and on_path(self.qemu) is None:
                if os.path.exists(self.qemu):
                    raise QemuError(f"QEMU cannot be run: {self.qemu}: permission denied", rule="qemu-missing")
                raise QemuError(f"no such QEMU: {self.qemu}", remedy="name a QEMU binary", rule="qemu-missing")
            return self.qemu
        from mdtool.qemu.root import program

        return program(self.qemu or os.path.basename(name), self.root)


DEFAULT = Access()


def is_running(source: str) -> bool:
    """Whether a source is a monitor, and no text.

    >>> is_running("tcp:localhost:4444"), is_running("libvirt:web01"), is_running("web01.yaml"), is_running("-")
    (True, True, False, False)
    """
    scheme, colon, _ = source.partition(":")
    if colon and scheme in RUNNING:
        return True
    try:
        return not is_standard(source) and stat.S_ISSOCK(os.stat(source).st_mode)
    except (OSError, ValueError):
        return False


def is_file(source: str) -> bool:
    """Whether a source is a file, there or not, or a standard stream: something that can be written.

    >>> is_file("new.yaml"), is_file("HEAD:web01.yaml"), is_file("libvirt:web01"), is_file("./a:b.yaml")
    (True, False, False, True)
    """
    if is_running(source):
        return False
    return is_standard(source) or ":" not in source or os.path.exists(source) or os.path.isdir(os.path.dirname(source))


def is_revision(source: str) -> bool:
    """Whether a source is a file in git, and neither a file here, a machine, libvirt's nor a command line.

    >>> is_revision("HEAD:start.sh"), is_revision("pid:7"), is_revision("qemu-system-x86_64 -chardev socket,path=a:b")
    (True, False, False)
    """
    return not is_file(source) and source.partition(":")[0] not in RUNNING and len(source.split()) == 1 and ":" in source


def check_output(source: str) -> None:
    """Raise InputError where the result of a command would go to what is no file."""
    if not is_file(source):
        what = f"{source} is not a file, and cannot be written"
        raise InputError(what, remedy="name a file for the result: -o of reconcile and embed", rule="output")


def kind_of(source: str, access: Access = DEFAULT) -> SourceKind:
    """What a source is; reads it where it is no monitor.  Raises InputError where it cannot be read."""
    return SourceKind.RUNNING if is_running(source) else kind_of_data(data_from_source(source, access), source)


def kind_of_data(data: bytes, name: str = "") -> SourceKind:
    """What a text means to be, well-formed or not; ``name`` decides where the text does not.

    >>> kind_of_data(b"<domain/>"), kind_of_data(b"qemu-system-x86_64 -S")
    (<SourceKind.XML: 'guest XML'>, <SourceKind.COMMANDLINE: 'a QEMU command line'>)
    """
    text = data.decode(errors="replace")
    if is_xml(text) or data.startswith((b"\xff\xfe<", b"\xfe\xff\0<", b"<\0", b"\0<")):  # UTF-16
        return SourceKind.XML
    return SourceKind.DESCRIPTION if is_description(text) or name.endswith((".yaml", ".yml")) else SourceKind.COMMANDLINE


# --- texts -----------------------------------------------------------------------------------------------------------


def data_from_source(source: str, access: Access = DEFAULT) -> bytes:
    """The bytes of a file, of standard input, of a file in git, or of the XML that libvirt keeps; raises InputError."""
    if source in access.texts:
        return access.texts[source]
    scheme, colon, rest = source.partition(":")
    if colon and scheme == "libvirt":
        from mdtool.qemu.virsh import Virsh

        virsh = Virsh(access.connect)
        name = virsh.named(rest)
        return (virsh.xml(name, "--inactive") if access.secrets else virsh.xml_for_file(name)).encode()
    if is_running(source):
        remedy = "mdtool import makes guest XML of a process's command line" if scheme == "pid" else None
        raise InputError(
            f"{source} is a running machine", expected="a file, -, libvirt:NAME or REV:PATH", remedy=remedy, rule="source"
        )
    if is_standard(source) or os.path.exists(source) or not colon:
        if os.path.isdir(source):
            raise InputError(f"{source} is a folder", expected=EXPECTED, rule="source")
        return bytes_from_file(source)
    return _from_git(source)


def _from_git(revision: str) -> bytes:
    """``REV:PATH`` as git has it; raises InputError with git's own words."""
    commit, _, path = revision.partition(":")
    named = revision if path.startswith("./") or not os.path.exists(path) else f"{commit}:./{path}"
    import subprocess  # slow to import, and most sources are files

    try:
        done = subprocess.run(["git", "show", "--end-of-options", named], capture_output=True, check=False)
    except FileNotFoundError:
        raise InputError(f"{revision}: git is not installed", remedy="name a file, a socket or libvirt:NAME") from None
    if done.returncode:
        words = " ".join(done.stderr.decode(errors="replace").split()).removeprefix("fatal: ")
        raise InputError(f"{revision}: {words}", expected=EXPECTED, rule="source")
    return done.stdout


def guest_from_source(source: str, access: Access = DEFAULT) -> Guest:
    """Guest XML; ``access.qemu`` is its emulator where that is given.  Raises InputError."""
    from mdtool.guest.devices import guest_from_bytes

    guest = guest_from_bytes(data_from_source(source, access), source)
    return at_home(guest, access)


def at_home(guest: Guest, access: Access) -> Guest:
    """The guest with the emulator that ``access`` names, where it names one."""
    from mdtool.guest.machines import binary_name, check_architecture

    binary = access.binary(guest.emulator or binary_name(guest))
    if binary is not None:
        check_architecture(guest, binary)
    guest = replace(guest, emulator=binary) if binary else guest

    def host_model() -> Mapping[str, Any] | None:
        from mdtool.qemu import host_model as host

        return host.host_model(guest, access.connect, ask_libvirt=access.root is None)

    def offers(feature: str) -> bool | None:
        from mdtool.qemu import host_model as host

        return host.offers(guest, feature)

    return replace(guest, host_model=host_model, offers=offers)


def document_from_source(source: str, access: Access = DEFAULT) -> Document:
    """A description, or the one inside of guest XML (``mdtool embed``); a part that is for no guest is warned of."""
    data = data_from_source(source, access)
    if kind_of_data(data, source) is SourceKind.XML:
        document = embedded_document(data, source)
        if document is None:
            raise InputError(
                f"{source} is guest XML, and has no description inside",
                remedy=f"{as_command('embed', source, 'GUEST.yaml')}, or name the description",
                rule="source",
            )
    else:
        document = document_from_known_text(text_from_bytes(data, source), source)
    for warning in document.stray:
        access.warn(str(warning))
    return document


def embedded_document(data: bytes, source: str) -> Document | None:
    """The description inside of guest XML; None if there is none."""
    from mdtool.review.embed import embedded_in

    text = embedded_in(data, source)
    return document_from_known_text(text, f"{source} (description)") if text is not None else None


# --- machines --------------------------------------------------------------------------------------------------------


def tree_from_source(source: str, access: Access = DEFAULT) -> Tree:
    """The machine that a source is: read, dumped, or started paused with nothing of the host behind it and dumped."""
    return _READERS[kind_of(source, access)](source, access)


def _running(source: str, access: Access) -> Tree:
    from mdtool.qemu.arguments import completed
    from mdtool.qemu.dump import dump
    from mdtool.qemu.session import session_from_source

    with session_from_source(source, connect=access.connect) as session:
        tree = dump(session, way=access.way, warn=access.warn)
        return completed(tree, session, access.warn if access.arguments else lambda _: None)  # else the XML says it too


def _described(source: str, access: Access) -> Tree:
    return document_from_source(source, access).tree


def _commandline(source: str, access: Access) -> Tree:
    from mdtool.qemu.commandline import dumped_commandline

    data = data_from_source(source, access)
    return dumped_commandline(source, data, way=access.way, warn=access.warn, binary=access.binary)


def _rehearsed(source: str, access: Access) -> Tree:
    return rehearsed(guest_from_source(source, access), access)


def rehearsed(guest: Guest, access: Access = DEFAULT) -> Tree:
    """The machine of guest XML, with origins, and a device that a rehearsal replaces as it was planned."""
    with rehearsal_of(guest, access) as (session, plan):
        from mdtool.qemu.arguments import firmware_of, with_sections  # loaded while QEMU started
        from mdtool.qemu.dump import as_planned, dump

        tree = as_planned(dump(session, way=access.way, warn=access.warn), plan.tree, plan.substitutes)
    return with_sections(tree, firmware_of(guest, tree))


@contextmanager
def rehearsal_of(guest: Guest, access: Access = DEFAULT) -> Iterator[tuple[Session, Prepared]]:
    """The paused machine of guest XML, by ``access.tree`` or the description inside of the XML where there is one."""
    from mdtool.launch.rehearse import prepared_rehearsal, rehearsal

    tree = access.tree
    if tree is None and (document := embedded_document(guest.source, guest.domain.position.file)) is not None:
        tree = document.tree
    plan = prepared_rehearsal(guest, tree)
    with rehearsal(plan) as qemu:
        yield qemu.session, plan


_READERS: dict[SourceKind, Callable[[str, Access], Tree]] = {
    SourceKind.RUNNING: _running,
    SourceKind.XML: _rehearsed,
    SourceKind.DESCRIPTION: _described,
    SourceKind.COMMANDLINE: _commandline,
}
