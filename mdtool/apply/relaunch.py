"""A running guest restarted with its new hardware: what can be known is checked first, and there is a way back.

relaunch.check()       nothing is touched: host, images, a rehearsal, what libvirt accepts, the state of the guest
relaunch.shut_down()   the guest is powered down
relaunch.start()       started, compared, files written, then continued; else started again with its old hardware
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from mdtool.apply.restart import POWERDOWN_SECONDS, check_may_end, shut_down
from mdtool.apply.wayback import Back, NoWayBack, noted
from mdtool.commandline.option import Option, options_from_words
from mdtool.commandline.process import program_in
from mdtool.compare import guest_visible
from mdtool.errors import ConflictError, MdtoolError, Position, QemuError
from mdtool.files import Rewrite, check_writable
from mdtool.guest.model import Guest
from mdtool.guest.xml import Element
from mdtool.launch.context import LaunchContext
from mdtool.launch.device import Handover
from mdtool.launch.libvirt import launched_by_libvirt, manual_overrides, refusal, xml_to_define
from mdtool.launch.preflight import check_host
from mdtool.launch.prepare import Prepared, free_port, prepared, wanted_by
from mdtool.launch.rehearse import rehearsal
from mdtool.launch.run import Differs, Settings, launched, managed_save
from mdtool.launch.start import checked
from mdtool.launch.ways import DEFAULT, Way
from mdtool.machine.tree import Tree
from mdtool.qemu.account import account
from mdtool.qemu.runtime import GuestDirectory, runtime_base
from mdtool.qemu.session import Session, session_from_source
from mdtool.qemu.virsh import Virsh
from mdtool.records import dataclass, field, replace


@dataclass
class Relaunch:
    """One guest that runs at ``source`` and is to run as ``tree`` says.

    ``rewrite``   the files that are written once the new machine is as described
    ``written``   called when they are
    ``settings``  of the launch; ``ready`` of it is called with the exit status
    ``seconds``   how long the guest may take to power down
    ``may_end``   asked where it does not
    """

    guest: Guest
    tree: Tree
    way: Way
    source: str
    rewrite: Rewrite
    settings: Settings
    connect: str | None = None
    seconds: float = POWERDOWN_SECONDS
    may_end: Callable[[str], bool] = lambda _why: False
    written: Callable[[], None] = lambda: None
    ready: Callable[[int], None] | None = None
    _back: Back | None = field(default=None, init=False)
    _runs: bool = field(default=False, init=False)

    # --- before anything is touched ------------------------------------------------------------------------------

    def check(self) -> None:
        """Raise what would keep the guest from being started with its new hardware, and what its end would lose."""
        self.rewrite.check()
        check_writable(self.settings.pidfile, self.settings.log, self.settings.qmp, replaced=False)
        user = account(self.settings.user) if self.settings.user else None
        with session_from_source(self.source, connect=self.connect) as session:
            check_may_end(session)
            self._check_same_guest(session)
            if self.way.by_libvirt:
                self._check_libvirt(session.pid)
            else:
                made = self._prepared(runtime_base() / self.guest.key)
                check_host(made, runs=session.pid, user=user, timeout=self.settings.timeout)
                self._check_lock(session)
            self._rehearse()
            try:
                self._back = noted(session, self.guest, self.connect)
            except NoWayBack as error:
                self.settings.say(f"warning: the guest could not be started again as it is: {error.what}")

    def _prepared(self, runtime: Path, *, rehearse: bool = False) -> Prepared:
        return prepared(
            self.guest,
            self.tree,
            wanted_by(self.guest, self.tree),
            via=DEFAULT if self.way.by_libvirt else self.way.name,
            context=LaunchContext(rehearse=True) if rehearse else LaunchContext(runtime=runtime, port=free_port),
        )

    def _check_same_guest(self, session: Session) -> None:
        """Another guest would be powered down for a source that was mistyped."""
        runs = str((session.execute("query-uuid") or {}).get("UUID", "")).lower()
        known = {str(uuid).lower() for uuid in (self.guest.uuid, self.tree.guest.get("uuid")) if uuid}
        if known and runs.strip("0-") and runs not in known:
            name = (session.execute("query-name") or {}).get("name")
            raise ConflictError(
                f"{self.source}: another guest runs there: {name or 'one without a name'}, uuid {runs}",
                remedy=f"name the monitor of '{self.guest.name}'",
                rule="other-guest",
            )

    def _check_lock(self, session: Session) -> None:
        held = GuestDirectory(self.guest.key, self.guest.name).held_by()
        if held is not None and session.pid is not None and held != session.pid:
            raise ConflictError(
                f"guest '{self.guest.name}' runs as process {held} as well, beside the one at {self.source}",
                remedy="end that one first; two QEMUs on the same disks destroy them",
                rule="already-runs",
            )

    def _rehearse(self) -> None:
        """The new machine with nothing of the host behind it.

        It runs without KVM: of a guest with KVM a refusal and a difference are warnings, as they may be due to that.
        """
        made = self._prepared(Path(), rehearse=True)
        try:
            with rehearsal(made, timeout=self.settings.timeout) as qemu:
                found, _ = checked(qemu, made)
            if guest_visible(found):
                raise Differs(found)
        except MdtoolError as error:
            if self.guest.domain.get("@type") != "kvm":
                raise
            self.settings.say(f"warning: rehearsed without KVM: {error}")

    # --- libvirt -------------------------------------------------------------------------------------------------

    def _check_libvirt(self, runs: int | None) -> None:
        virsh = Virsh(self.connect)
        wanted = wanted_by(self.guest, self.tree)
        if virsh.knows(self.guest.name):
            domain = virsh.named(self.guest.name)
            if virsh.facts(domain).get("Managed save") == "yes":
                raise managed_save(self.guest.name)
        make = xml_to_define(self.guest, self.tree, wanted, self.tree.guest.get("uuid"))
        try:
            native = virsh("domxml-to-native", "qemu-argv", "/dev/stdin", text=make(manual_overrides(self.tree, wanted)))
        except QemuError as error:
            raise refusal(error, self.guest, self.tree, wanted) from None
        for interface in self.guest.devices:
            name = interface.get("source/@network") if interface.tag == "interface" else None
            if name and not _is_active(virsh, name):
                what = f"network '{name}' is not active"
                raise QemuError(what, at=interface.position, remedy=f"virsh net-start {name}", rule="libvirt-refuses")
        if virsh.is_local:
            self._check_host_of(native, runs)

    def _check_host_of(self, native: str, runs: int | None) -> None:
        """The files on libvirt's own command line that the XML names; the others libvirt makes when the guest starts."""
        words = shlex.split(native)
        at = program_in(words)
        while words and at is None:  # variables come before the program
            words = words[1:]
            at = program_in(words)
        if at is None:
            return
        options = tuple(options_from_words(words[at + 1 :]))
        made = Prepared(Tree(), words[at], options, Handover(options), positions=self._positions(options))
        check_host(made, among=set(_texts(self.guest.domain)), runs=runs, timeout=self.settings.timeout)

    def _positions(self, options: Sequence[Option]) -> Mapping[str, Position]:
        """id of a back end of libvirt's -> the element that names its file."""
        found: dict[str, Position] = {}
        for option in options:
            name, value = (
                option.id if (option.value and "=" in option.value) or option.is_json else None,
                option.value or "",
            )
            for device in self.guest.devices:
                sources = [text for path in _SOURCES if (text := device.get(path))]
                if name and device.position and any(text in value for text in sources):
                    found.setdefault(name, device.position)
            below = option.bag.get("file") if option.name == "blockdev" else None
            if name and below in found:
                found.setdefault(name, found[str(below)])
        return found

    # --- carried out ---------------------------------------------------------------------------------------------

    def shut_down(self) -> None:
        """Power the guest down.  Raises QemuError where it does not and may not be ended; it then runs on."""
        self.settings.say(f"powering down the guest at {self.source}")
        with session_from_source(self.source, connect=self.connect) as session:
            shut_down(session, seconds=self.seconds, may_end=self.may_end)

    def start(self) -> int:
        """Start the guest; where that fails, raise why once it runs again as it was."""
        settings = replace(self.settings, checked=self._checked, runs=self._running, ready=self._ready(0))
        try:
            if self.way.by_libvirt:
                wanted = wanted_by(self.guest, self.tree)
                launched_by_libvirt(self.guest, self.tree, wanted, connect=self.connect, settings=settings)
                return 0
            return launched(self.guest, lambda runtime: self._prepared(runtime), settings)
        except MdtoolError as error:
            if self._runs:
                raise
            self.rewrite.undo()
            return self._go_back(error)

    def _checked(self) -> None:
        self.rewrite.write()
        self.settings.checked()

    def _running(self) -> None:
        self._runs = True
        self.written()
        self.settings.runs()

    def _ready(self, status: int) -> Callable[[], None] | None:
        ready = self.ready
        return (lambda: ready(status)) if ready is not None else None

    def _go_back(self, error: MdtoolError) -> int:
        say, status = self.settings.say, 1 if isinstance(error, Differs) else 2
        if self._back is None:
            raise error
        say(str(error))
        for difference in error.differences if isinstance(error, Differs) else ():
            say(f"  {difference}")

        def runs() -> None:
            self.written()
            say(f"{self.guest.name}: the new machine did not start; the guest runs again as it was, its description too")

        self._back.start(replace(self.settings, checked=lambda: None, runs=runs, ready=self._ready(status)))
        return status


_SOURCES = ("source/@file", "source/@dev", "source/@dir", "source/@path", "source")


def _texts(element: Element) -> Iterator[str]:
    """Every value and text of an element, but for the UEFI variables, which libvirt makes."""
    yield from element.attributes.values()
    if element.text:
        yield element.text
    for child in element:
        if child.tag != "nvram":
            yield from _texts(child)


def _is_active(virsh: Virsh, network: str) -> bool:
    with suppress(QemuError):
        return re.search(r"^Active:\s+yes", virsh("net-info", "--network", network), re.M) is not None
    return False
