"""The launch: QEMU is started paused, dumped, compared with the description, and only then continued.

    prepared()   guest XML and description -> everything that is decided before QEMU exists (pure; --print shows it)
    started()    a QEMU that is paused and has all its devices
    checked()    what it has otherwise than the description
    launched()   all of it, until the guest ends

A machine that differs from its description never runs: QEMU ends, and the differing nodes are named.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.commandline.option import Option, options_from_words, users, words_from_options
from mdtool.compare import Compared, Difference, comparison, guest_visible
from mdtool.errors import ConflictError, MdtoolError, Position, QemuError
from mdtool.files import write_file
from mdtool.guest.model import Guest, Wanted
from mdtool.launch import device, file, monitor, options
from mdtool.launch.device import Handover
from mdtool.machine.tree import BUILTIN, HAND, Tree
from mdtool.qemu.process import FORBIDDEN, START_SECONDS, GuestDirectory, QemuProcess, live, run_by_libvirt

if TYPE_CHECKING:
    from mdtool.launch.argv import Commandline
    from mdtool.launch.backends.base import Secret

#: ``--via``: how the options of a command line reach QEMU; ``libvirt`` is no command line of ours
WAYS: Mapping[str, Callable[[Sequence[Option]], Handover]] = {
    "file": file.handover,
    "device": device.handover,
    "monitor": monitor.handover,
    "options": options.handover,
}
DEFAULT_WAY = "file"
CONFIG = "machine.cfg"
RESET_SECONDS = 10.0
_RETRIES = 12  # devices that QEMU may call unpluggable one after the other before we give up

Say = Callable[[str], None]


def silent(_text: str) -> None:
    """For ``say`` where nobody listens."""


# --- before QEMU exists --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Prepared:
    """A launch before QEMU exists.

    ``tree``       what QEMU must then be
    ``options``    the whole command line as options; ``handover`` says how each of them reaches QEMU
    ``positions``  id of a device, or of what stands behind it -> its line of guest XML
    ``stands_in``  in a rehearsal: nodes that another driver stands in for, or that are left out
    """

    tree: Tree
    binary: str
    options: tuple[Option, ...]
    handover: Handover
    positions: Mapping[str, Position] = field(default_factory=dict)
    stands_in: frozenset[str] = frozenset()
    commandline: Commandline | None = None

    def words(self, config: str | Path | None = None) -> list[str]:
        """The command line; ``config`` is where the file for -readconfig is."""
        read = ["-readconfig", str(config)] if self.handover.config and config is not None else []
        return [self.binary, *words_from_options(self.handover.options), *read]


def prepared(
    guest: Guest,
    tree: Tree,
    wanted: Sequence[Wanted],
    *,
    via: str = DEFAULT_WAY,
    rehearse: bool = False,
    binary: str | None = None,
    runtime: Path | None = None,
    port: Callable[[int], int] = int,
) -> Prepared:
    """The launch of a description; touches nothing of the host.  Raises InputError with the XML's lines."""
    from mdtool.launch.argv import argv_from_tree

    line = argv_from_tree(guest, tree, wanted, rehearse=rehearse, binary=binary, runtime=runtime, port=port)
    devices = [word for made in line.devices for word in made.words]
    found = options_from_words([*line.platform, *line.backends, *devices, *line.extra])
    if rehearse:
        found = [_under_tcg(option) for option in found]
    places = {str(made.arguments["id"]): made.position for made in line.devices if "id" in made.arguments}
    places |= dict(line.positions)
    behind = {name: places[user] for name, user in users(found).items() if user in places}
    return Prepared(
        tree=tree,
        binary=line.binary,
        options=tuple(found),
        handover=options.handover(found, version_of(line.binary)) if via == "options" else WAYS[via](found),
        positions={name: place for name, place in {**behind, **places}.items() if place is not None},
        stands_in=frozenset({*line.stand_ins, *line.left_out}),
        commandline=line,
    )


def wanted_by(guest: Guest, tree: Tree) -> list[Wanted]:
    """The devices that the XML asks for, by whose origins a node finds its element and so its host side.

    ``tree`` is what reconcile made of the XML: the ports that it added are wanted too, and no element says so.
    """
    from mdtool.errors import Report
    from mdtool.guest.defaults import with_defaults
    from mdtool.guest.devices import wanted_from_guest
    from mdtool.guest.override import overridden

    report = Report()
    ids = {place.node.origin: place.node.id for place in tree.places}
    wanted = with_defaults(guest, wanted_from_guest(guest, report))
    wanted = overridden(guest, [replace(want, id=ids.get(want.origin, want.id)) for want in wanted], report)
    report.done()
    asked = {want.origin for want in wanted}
    return [
        *wanted,
        *(
            Wanted(kind=origin.partition("/")[0], driver=place.node.driver, origin=origin, id=place.node.id)
            for place in tree.places
            if (origin := place.node.origin) not in (None, BUILTIN, HAND) and origin not in asked
        ),
    ]


def version_of(binary: str) -> tuple[int, ...]:
    """A QEMU's version, ``(7, 2, 22)``; (0,) where it does not say."""
    with suppress(OSError, subprocess.TimeoutExpired):
        said = subprocess.run([binary, "--version"], capture_output=True, text=True, timeout=5, check=False).stdout
        if found := re.search(r"version (\d+(?:\.\d+)*)", said):
            return tuple(map(int, found[1].split(".")))
    return (0,)


def _under_tcg(option: Option) -> Option:
    """A rehearsal needs no KVM: the machine is the same, and no guest runs in it."""
    return replace(option, value="tcg") if option.name == "accel" else option


def free_port(first: int) -> int:
    """The first TCP port from ``first`` up on which nobody listens."""
    for port in range(first, min(first + 1000, 65536)):
        with socket.socket() as attempt, suppress(OSError):
            attempt.bind(("127.0.0.1", port))
            return port
    raise QemuError(f"no free TCP port from {first} up", remedy="end some guests, or give the guest a port")


# --- QEMU, paused and whole ---------------------------------------------------------------------------------------


@contextmanager
def started(
    prepared: Prepared,
    *,
    directory: Path,
    pass_fds: Sequence[int] = (),
    more: Sequence[str] = (),
    death_signal: signal.Signals = signal.SIGTERM,
    say: Say = silent,
    **settings: Any,
) -> Iterator[QemuProcess]:
    """A paused QEMU with all its devices; ended when the block is left.

    ``directory`` is private and outlives QEMU; ``more`` are words that no description knows (-qmp, -incoming);
    ``settings`` go to QemuProcess.  Raises QemuError with the XML's line where QEMU refuses.
    """
    refused: list[tuple[str, str]] = []
    while True:
        try:
            with _once(prepared, directory, pass_fds, more, death_signal=death_signal, **settings) as qemu:
                for addition in prepared.handover.additions:
                    _plug(qemu, addition)
                if prepared.handover.additions and "-incoming" not in more:  # an incoming state brings its own
                    _reset(qemu, reboots="-no-reboot" not in prepared.words())
                for note in prepared.handover.notes:
                    say(note)
                yield qemu
                return
        except _Unpluggable as error:
            if len(refused) >= _RETRIES:
                raise error.cause from None
            refused.append((error.id, error.reason))
            prepared = replace(prepared, handover=monitor.handover(prepared.options, refused))


class _Unpluggable(Exception):
    """QEMU refused to plug ``id``; not that it refused the device."""

    def __init__(self, id: str, reason: str, cause: QemuError) -> None:
        super().__init__(id)
        self.id, self.reason, self.cause = id, reason, cause


def _plug(qemu: QemuProcess, addition: Mapping[str, Any]) -> None:
    try:
        qemu.execute("device_add", **addition)
    except QemuError as error:
        said = error.what.partition(": ")[2]
        if monitor.is_refusal(said) and "id" in addition:
            raise _Unpluggable(str(addition["id"]), f"QEMU says: {said}", error) from None
        raise


def _reset(qemu: QemuProcess, *, reboots: bool) -> None:
    """Reset the machine, still paused: what was plugged has not seen the reset that QEMU does when it starts.

    Without it the firmware finds no boot order and the ports show no devices.
    """
    if not reboots:
        qemu.execute("set-action", reboot="reset")
    qemu.session.events()
    qemu.execute("system_reset")
    end = time.monotonic() + RESET_SECONDS
    while not any(event.get("event") == "RESET" for event in qemu.session.events(timeout=0.1)):
        if time.monotonic() > end:
            raise QemuError(f"QEMU did not reset the machine within {RESET_SECONDS:g} s", rule="qemu-hangs")
    if not reboots:
        qemu.execute("set-action", reboot="shutdown")


@contextmanager
def _once(
    prepared: Prepared, directory: Path, pass_fds: Sequence[int], more: Sequence[str], **settings: Any
) -> Iterator[QemuProcess]:
    line = prepared.commandline
    with ExitStack() as stack:
        config = {}
        path = directory / CONFIG
        if text := prepared.handover.config:
            _write(path, text)
            stack.callback(path.unlink, missing_ok=True)
            config = {str(path): text}
        numbers = {}
        for secret in line.secrets if line else ():
            numbers[secret.name] = _descriptor(secret, prepared.positions.get(secret.name))
            stack.callback(os.close, numbers[secret.name])
        words = [numbered(word, numbers) for word in (*prepared.words(path), *more)]
        qemu = QemuProcess(
            words,
            pass_fds=(*pass_fds, *numbers.values()),
            directory=directory,
            positions=prepared.positions,
            config=config,
            helpers=line.processes if line else (),
            environment=line.environment if line else {},
            meanwhile=_ready_to_dump,
            **settings,
        )
        yield stack.enter_context(qemu)


def _ready_to_dump() -> None:
    """Load the reader of QEMU's answers and its grammar, a tenth of a second that QEMU takes to start anyway."""
    import mdtool.qemu.dump  # noqa: F401 - so that it is there when it is wanted
    from mdtool.qemu.qtree import buses_from_qtree

    buses_from_qtree("")


def numbered(word: str, numbers: Mapping[str, int]) -> str:
    return re.sub(r"<fd:([^>]+)>", lambda found: str(numbers[found[1]]), word) if "<fd:" in word else word


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w") as stream:
            stream.write(text)
    except OSError as error:
        raise MdtoolError(f"cannot write {path}: {error.strerror}", remedy="make room, or set XDG_RUNTIME_DIR") from None


def _descriptor(secret: Secret, at: Position | None) -> int:
    """A descriptor from which QEMU reads a secret: memory of ours, on no disk and on no command line."""
    if secret.value is None:
        what = f"the secret {secret.key!r} is in libvirt's keeping, and direct launch does not know its value"
        raise QemuError(what, at=at, remedy="start the guest with --via libvirt", rule="host-side")
    descriptor = os.memfd_create(secret.name)
    os.write(descriptor, secret.value.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def checked(qemu: QemuProcess, prepared: Prepared) -> tuple[list[Difference], Compared]:
    """What the paused machine has otherwise than the description, and how much was compared."""
    from mdtool.qemu.dump import dump

    differences, compared = comparison(prepared.tree, dump(qemu.session))
    return [difference for difference in differences if counts(difference, prepared)], compared


def counts(difference: Difference, prepared: Prepared) -> bool:
    """Whether a launch stops for it.

    A stand-in sits where the real device would, and nothing else about it is comparable; firmware of another version is
    the host's package, which ``verify`` tells of.
    """
    if (difference.node, difference.property) == ("firmware", "sha256"):
        return False
    return difference.node not in prepared.stands_in or difference.property == "address"


# --- the whole of it -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Settings:
    """What the user of a launch decides, beside the machine.

    ``paused``     leave the guest paused after the check
    ``qmp``        a monitor of the user's own, at this path
    ``incoming``   a migration URI: the guest's state comes from there
    ``sandbox``    forbid QEMU what a running guest's QEMU never needs
    ``runs``       called once the machine is checked and the guest runs
    ``ready``      called after that, to let go of the terminal (``--daemonize``)
    ``follow``     called at last, with the monitor open, for who wants to see what becomes of the guest
    """

    paused: bool = False
    qmp: str | None = None
    pidfile: Path | None = None
    log: Path | None = None
    incoming: str | None = None
    timeout: float = START_SECONDS
    sandbox: bool = True
    user: str | None = None
    runs: Callable[[], None] = lambda: None
    ready: Callable[[], None] | None = None
    follow: Callable[[QemuProcess], None] | None = None
    say: Say = silent


class Differs(MdtoolError):
    """The machine is not the described one; ``differences`` are what a guest would see, and ``found`` is all of it."""

    def __init__(self, found: list[Difference]) -> None:
        self.found = found
        self.differences = guest_visible(found)
        super().__init__(f"{len(self.differences)} differences between the description and the machine")


@contextmanager
def alone(guest: Guest, *, incoming: bool = False) -> Iterator[GuestDirectory]:
    """The guest's private directory, and the certainty that no other QEMU of ours runs it.  Raises ConflictError.

    The source of a migration on this host runs the same guest, and hands its disks over when the state is there: the
    target has a lock of its own, which is in the way of whoever launches the guest anew.
    """
    name = guest.uuid or guest.name.replace("/", "_")
    target = f"{name}-incoming"
    with ExitStack() as stack:
        place = stack.enter_context(GuestDirectory(target if incoming else name, guest.name))
        if not incoming:
            with GuestDirectory(target, guest.name):
                pass
        yield place


def launched(guest: Guest, prepare: Callable[[Path], Prepared], settings: Settings) -> int:
    """Launch a guest and stay with it until it ends; returns QEMU's exit status.

    ``prepare`` gets the guest's private directory.  Raises Differs where the machine is not the described one, after
    QEMU has ended; QemuError where QEMU refuses; ConflictError where the guest runs already.
    """
    with signals_end_it(), alone(guest, incoming=settings.incoming is not None) as place:
        if not settings.incoming and (pid := run_by_libvirt(guest.name, guest.uuid)):
            what = f"libvirt runs guest '{guest.name}' already, process {pid}"
            raise ConflictError(what, remedy=f"virsh shutdown {guest.name}", rule="already-runs")
        prepared = prepare(place.path)
        more = _words(prepared, settings)
        make_copies(prepared)
        with (
            started(
                prepared,
                directory=place.path,
                pass_fds=[place.fd],
                more=more,
                say=settings.say,
                log=settings.log,
                timeout=settings.timeout,
                user=settings.user,
                stdio=any("stdio" in word for word in prepared.words() if not word.startswith("{")),
            ) as qemu,
            _pidfile(settings.pidfile, qemu.pid),
        ):
            place.holds(qemu.pid)
            found, compared = checked(qemu, prepared)
            if guest_visible(found):
                raise Differs(found)
            if settings.incoming:
                qemu.execute("migrate-incoming", uri=settings.incoming)
            elif not settings.paused:
                qemu.cont()
            settings.runs()
            if not settings.incoming and settings.follow is None:
                qemu.close_monitor()
            _pass_signals_on(qemu, settings)
            for difference in found:
                settings.say(f"warning: {difference} ({difference.severity})")
            settings.say(f"{guest.name}: as described: {compared}")
            if settings.ready is not None:
                settings.ready()
            if settings.incoming and _state_came(qemu) and not settings.paused:
                qemu.cont()
            if settings.follow is not None:
                settings.follow(qemu)
            qemu.close_monitor()
            status = qemu.wait()
            if status and (said := qemu.words()):
                settings.say(said)
            return status


def _state_came(qemu: QemuProcess) -> bool:
    """Wait for a migration's end: continuing sooner would take the disks from the source, which still runs.

    False where somebody ended QEMU before; raises QemuError where the state is of another machine.
    """
    while True:
        try:
            status: Any = qemu.execute("query-status")
        except QemuError:
            if qemu.process.poll() == 0:
                return False
            raise
        if status["status"] != "inmigrate":
            return True
        time.sleep(0.02)


def _words(prepared: Prepared, settings: Settings) -> list[str]:
    words: list[str] = []
    spawns = prepared.commandline is not None and prepared.commandline.spawns
    if settings.sandbox:
        words += ["-sandbox", FORBIDDEN.replace("spawn=deny", "spawn=allow") if spawns else FORBIDDEN]
    if settings.qmp is not None:
        path = str(Path(settings.qmp).absolute()).replace(",", ",,")
        words += ["-qmp", f"unix:{path},server=on,wait=off"]
    if settings.incoming is not None:  # the state must not come before the devices are all there and checked
        words += ["-incoming", "defer"]
    return words


def make_copies(prepared: Prepared) -> None:
    """Make the files that a first launch makes: a guest's UEFI variables from their template."""
    for copy in prepared.commandline.copies if prepared.commandline else ():
        if os.path.exists(copy.target):
            continue
        # A file that is there is whole, since the next launch takes it for the guest's.
        half = f"{copy.target}.{os.getpid()}"
        try:
            os.makedirs(os.path.dirname(copy.target), exist_ok=True)
            shutil.copyfile(copy.source, half)
            os.rename(half, copy.target)
        except OSError as error:
            with suppress(OSError):
                os.unlink(half)
            raise MdtoolError(f"cannot make {copy.target} from {copy.source}: {error.strerror}") from None


@contextmanager
def _pidfile(path: Path | None, pid: int) -> Iterator[None]:
    if path is None:
        yield
        return
    write_file(path, f"{pid}\n")
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


_SIGNALS = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)


@contextmanager
def signals_end_it() -> Iterator[None]:
    """SIGTERM, SIGHUP and ctrl-C end QEMU at once, and what then fails unwinds the stack, so that no file stays.

    Raising from the handler would do it in the midst of whatever runs; a QEMU that died is an error that everybody
    expects.
    """
    stopped: list[int] = []

    def end(number: int, _frame: object) -> None:
        stopped.append(number)
        for qemu in live:
            qemu.send_signal(signal.SIGKILL)
        if not live:
            raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in _SIGNALS}
    try:
        yield
    except MdtoolError:
        if stopped:
            raise SystemExit(128 + stopped[0]) from None
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _pass_signals_on(qemu: QemuProcess, settings: Settings) -> None:
    """From now on the guest runs: SIGTERM and SIGHUP are QEMU's to handle, which closes its disks first.

    ctrl-C asks the guest to power down; a second one ends QEMU, and a third one does so without its consent.
    """
    interrupts = 0

    def pass_on(number: int, _frame: object) -> None:
        qemu.send_signal(number)

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal interrupts
        interrupts += 1
        runs = qemu.monitor_is_free and not settings.paused
        if interrupts == 1 and runs and qemu.powerdown():
            settings.say("asked the guest to power down; ctrl-C once more ends QEMU")
        else:
            qemu.send_signal(signal.SIGTERM if interrupts < 3 else signal.SIGKILL)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGHUP, pass_on)
    signal.signal(signal.SIGINT, interrupt)
