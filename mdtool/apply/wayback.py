"""A way back: what is needed to start a running guest again just as it runs, noted before it is powered down.

Of a QEMU that mdtool or a script started: its arguments, its -readconfig file, its secrets, the processes beside it, and
the machine that it shows.  Of a guest of libvirt's: the XML that it runs with and the one that libvirt keeps.
"""

from __future__ import annotations

import os
import pwd
import re
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Protocol

from mdtool.commandline.companion import MONITOR, Process
from mdtool.commandline.option import Option, options_from_words
from mdtool.commandline.process import arguments_of, opened, program_in, words_of
from mdtool.compare import comparison, guest_visible
from mdtool.errors import MdtoolError, QemuError
from mdtool.guest.model import Guest
from mdtool.launch.argv import Commandline
from mdtool.launch.backends.base import SECRET_WORD, Secret
from mdtool.launch.device import Handover
from mdtool.launch.prepare import Prepared
from mdtool.launch.run import Settings, launched
from mdtool.launch.start import CONFIG
from mdtool.machine.buses.arguments import device_arguments
from mdtool.machine.roles import ROLES
from mdtool.machine.tree import Place, Tree
from mdtool.qemu.dump import dump
from mdtool.qemu.runtime import runtime_base
from mdtool.qemu.session import Refused, Session, session_from_source
from mdtool.qemu.virsh import Virsh
from mdtool.records import dataclass, replace
from mdtool.text import pattern

#: options of a process that are no part of the machine, or that mdtool sets itself
_LEFT = frozenset({"S", "daemonize", "incoming"})
_SECRET = pattern(r"/dev/fd/(\d+)")
#: descriptors that cannot be opened a second time
_DESCRIPTOR = pattern(r"(?:^|,)(?:vhost)?fds?=|\"(?:vhost)?fds?\":|/dev/fdset/")


class NoWayBack(MdtoolError):
    """The guest could not be started again as it is; ``what`` says why."""


class Back(Protocol):
    """A guest as it ran.  ``start`` starts it again; returns the exit status of a launch that stays with it."""

    def start(self, settings: Settings) -> int: ...


def noted(session: Session, guest: Guest, connect: str | None) -> Back:
    """The way back to the guest that runs behind ``session``.  Raises NoWayBack."""
    if session.source.startswith("libvirt:"):
        return _noted_of_libvirt(session, connect)
    return _noted_of_process(session, guest)


# --- a process -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProcessBack:
    """A QEMU that ran on this host, of mdtool's or of a script's."""

    guest: Guest
    prepared: Prepared
    paused: bool
    user: str | None

    def start(self, settings: Settings) -> int:
        # QEMU's arguments have the sandbox and the monitors already
        same = replace(settings, paused=self.paused, user=self.user, sandbox=False, qmp=None, incoming=None, follow=None)
        return launched(self.guest, lambda _directory: self.prepared, same)


def _noted_of_process(session: Session, guest: Guest) -> ProcessBack:
    pid = session.pid
    if pid is None:
        raise NoWayBack("its process is not known on this host")
    try:
        words = words_of(pid)
        environment = _environment(pid)
        folder = Path(os.readlink(f"/proc/{pid}/cwd"))
        uid = os.stat(f"/proc/{pid}").st_uid
    except (OSError, LookupError):
        raise NoWayBack("its process cannot be read") from None
    if program_in(words) != 0:
        raise NoWayBack("its program runs behind a loader")
    private = runtime_base() / guest.key
    options, config = _options(pid, words, private)
    options, secrets = _with_secrets(pid, options)
    machine = dump(session)
    commandline = Commandline(
        words[0], (), (), (),
        secrets=tuple(secrets),
        processes=tuple(_helpers(pid, private)),
        environment=environment,
        spawns=True,
    )  # fmt: skip
    known = {option.id for option in options if option.name == "device"}
    known |= set(re.findall(r'^\[device "(.*)"\]', config, re.M))
    additions = tuple(_plugged(session, machine, known))
    prepared = Prepared(
        tree=machine,
        binary=words[0],
        options=tuple(options),
        handover=Handover(tuple(options), config, additions),
        via="device",
        commandline=commandline,
        folder=folder,
    )
    paused = str(session.execute("query-status")["status"]) != "running"
    return ProcessBack(guest, prepared, paused, _user(uid))


def _options(pid: int, words: list[str], private: Path) -> tuple[list[Option], str]:
    """The options of a process without those that mdtool sets itself; the text of the machine file of mdtool's own."""
    kept: list[Option] = []
    config = ""
    for option in options_from_words(words[1:]):
        text = option.value or ""
        if option.name in _LEFT or (option.name in ("chardev", "mon") and _is_monitor(option)):
            continue
        if option.name == "readconfig" and Path(text) == private / CONFIG:
            try:
                with opened(pid, text) as file:
                    config = file.read().decode()
            except (OSError, ValueError):
                raise NoWayBack(f"{text} cannot be read") from None
            continue
        if _DESCRIPTOR.search(text) or (_SECRET.search(text) and not _is_secret(option)):
            raise NoWayBack(f"-{option.name} has a descriptor that cannot be opened again")
        kept.append(option)
    others = [path for path in _private_folders([*words, config]) if path != str(private)]
    if others:
        raise NoWayBack(f"it uses {others[0]}, the private folder of another guest")
    return kept, config


def _is_secret(option: Option) -> bool:
    return option.name == "object" and (option.value or "").startswith(SECRET_WORD)


def _is_monitor(option: Option) -> bool:
    bag = option.bag
    return MONITOR in (bag.get("id"), bag.get("chardev"))


def _private_folders(texts: list[str]) -> Iterator[str]:
    for text in texts:
        yield from re.findall(rf"{re.escape(str(runtime_base()))}/[0-9a-f-]{{36}}", text)


def _with_secrets(pid: int, options: list[Option]) -> tuple[list[Option], list[Secret]]:
    """The options with the secrets that QEMU read from descriptors, which it still holds."""
    secrets: dict[str, Secret] = {}
    for number in {found for option in options if _is_secret(option) for found in _SECRET.findall(option.value or "")}:
        try:
            with open(f"/proc/{pid}/fd/{number}", "rb") as file:
                secrets[number] = Secret(f"descriptor{number}", file.read(1 << 16).decode())
        except (OSError, ValueError):
            raise NoWayBack("one of its secrets is no longer there") from None

    def named(found: re.Match[str]) -> str:
        return secrets[found[1]].placeholder

    kept = [replace(one, value=_SECRET.sub(named, one.value or "")) if _is_secret(one) else one for one in options]
    return kept, [*secrets.values()]


def _environment(pid: int) -> dict[str, str]:
    rows = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    pairs = (os.fsdecode(row).partition("=") for row in rows if b"=" in row)
    return {name: value for name, _, value in pairs}


def _user(uid: int) -> str | None:
    """As whom QEMU runs, where that is not mdtool's own user."""
    if uid == os.geteuid():
        return None
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"{uid}:{uid}"


def _helpers(pid: int, private: Path) -> Iterator[Process]:
    """The processes that mdtool started beside QEMU (swtpm, virtiofsd): they name a socket in its private folder."""
    parent = re.search(r"^PPid:\s*(\d+)", Path(f"/proc/{pid}/status").read_text(errors="replace"), re.M)
    for child in _children(int(parent[1])) if parent else ():
        with suppress(OSError):
            words = arguments_of(child, "surrogateescape")
            socket = re.search(rf"{re.escape(str(private))}/[^,\s]+", " ".join(words))
            if child != pid and socket:
                yield Process(tuple(words), ready=Path(socket[0]))


def _children(pid: int) -> list[int]:
    with suppress(OSError):
        return [
            int(child) for task in Path(f"/proc/{pid}/task").iterdir() for child in (task / "children").read_text().split()
        ]
    return []


def _plugged(session: Session, machine: Tree, known: set[str | None]) -> Iterator[Mapping[str, Any]]:
    """Arguments of ``device_add`` for the devices that were plugged since QEMU was started."""
    there = session.execute("qom-list", {"path": "/machine/peripheral"})
    plugged = {row["name"] for row in there if str(row["type"]).startswith("child<")} - known
    for place in machine.places:
        if place.node.id in plugged:
            yield {**device_arguments(place.bus.name if place.bus else None, place.node), **_back_ends(session, place)}


def _back_ends(session: Session, place: Place) -> dict[str, Any]:
    path = f"/machine/peripheral/{place.node.id}"
    found = {}
    for row in session.execute("qom-list", {"path": path}):
        name = row["name"]
        if (ROLES.get(name) == "host" and row["type"] == "str") or str(row["type"]).startswith("link<"):
            with suppress(Refused):
                value = session.execute("qom-get", {"path": path, "property": name})
                if value and ROLES.get(name) == "host":
                    found[name] = str(value).rpartition("/")[2]
    return found


# --- libvirt -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class LibvirtBack:
    """A guest of libvirt's: ``live`` is the XML that it ran with, ``kept`` the one of its next start, None for none."""

    virsh: Virsh
    name: str
    live: str
    kept: str | None
    paused: bool
    machine: Tree

    def start(self, settings: Settings) -> int:
        if self.kept is None:
            self._create()
        else:
            self.virsh.define(self.live)
            try:
                self.virsh("start", "--paused", self.virsh.named(self.name))
            finally:
                self.virsh.define(self.kept)
        with session_from_source(f"libvirt:{self.name}", connect=self.virsh.connect) as session:
            found = guest_visible(comparison(self.machine, dump(session))[0])
        for difference in found:
            settings.say(f"warning: {difference} ({difference.severity})")
        if not self.paused:
            self.virsh("resume", self.virsh.named(self.name))
        settings.runs()
        if settings.ready is not None:
            settings.ready()
        return 0

    def _create(self) -> None:
        self.virsh("create", "--paused", "/dev/stdin", text=self.live)


def _noted_of_libvirt(session: Session, connect: str | None) -> LibvirtBack:
    virsh, name = Virsh(connect), session.source.partition(":")[2]
    try:
        domain = virsh.named(name)
        persistent = virsh.facts(domain).get("Persistent") != "no"
        return LibvirtBack(
            virsh,
            name,
            live=virsh.xml(domain, "--migratable"),
            kept=virsh.xml(domain, "--inactive") if persistent else None,
            paused=virsh.state(domain) != "running",
            machine=dump(session),
        )
    except QemuError as error:
        raise NoWayBack(error.what) from None
