"""The launch: QEMU is started paused, dumped, compared with the description, and only then continued.

    prepared()   guest XML and description -> everything that is decided before QEMU exists (prepare; --print shows it)
    started()    a QEMU that is paused and has all its devices (start)
    checked()    what it has otherwise than the description (start)
    launched()   all of it, until the guest ends

A machine that differs from its description never runs: QEMU ends, and the differing nodes are named.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.errors import ConflictError, MdtoolError, QemuError
from mdtool.files import write_file
from mdtool.guest.model import Guest
from mdtool.launch.prepare import Prepared
from mdtool.launch.signals import pass_signals_on, signals_end_it
from mdtool.launch.start import Say, checked, silent, started
from mdtool.qemu.account import account
from mdtool.qemu.process import FORBIDDEN, START_SECONDS, QemuProcess
from mdtool.qemu.runtime import GuestDirectory, run_by_libvirt, saved_by_libvirt
from mdtool.records import dataclass
from mdtool.text import counted

if TYPE_CHECKING:
    from mdtool.compare import Difference


@dataclass(frozen=True)
class Settings:
    """What the user of a launch decides, beside the machine.

    ``paused``     leave the guest paused after the check
    ``qmp``        a monitor of the user's own, at this path
    ``incoming``   a migration URI: the guest's state comes from there
    ``sandbox``    forbid QEMU what a running guest's QEMU never needs
    ``checked``    called once the machine is as described, before the guest runs; where it raises, QEMU ends
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
    checked: Callable[[], None] = lambda: None
    runs: Callable[[], None] = lambda: None
    ready: Callable[[], None] | None = None
    follow: Callable[[QemuProcess], None] | None = None
    say: Say = silent


class Differs(MdtoolError):
    """The machine is not the described one; ``differences`` are what a guest would see, and ``found`` is all of it."""

    def __init__(self, found: list[Difference]) -> None:
        self.found = found
        from mdtool.compare import guest_visible

        self.differences = guest_visible(found)
        super().__init__(f"{counted(len(self.differences), 'difference')} between the description and the machine")


@contextmanager
def alone(guest: Guest, *, incoming: bool = False) -> Iterator[GuestDirectory]:
    """The guest's private directory, and the certainty that no other QEMU of ours runs it.  Raises ConflictError.

    The source of a migration on this host runs the same guest, and hands its disks over when the state is there: the
    target has a lock of its own, which would block the next launch of the guest.
    """
    name, target = guest.key, f"{guest.key}-incoming"
    with ExitStack() as stack:
        place = stack.enter_context(GuestDirectory(target if incoming else name, guest.name))
        if not incoming:
            with GuestDirectory(target, guest.name):
                pass
        yield place


def check_libvirt(guest: Guest) -> None:
    """Raise ConflictError where this host's libvirt runs the guest, or keeps its saved memory for the next start."""
    if pid := run_by_libvirt(guest.name, guest.uuid):
        what = f"libvirt runs guest '{guest.name}' already, process {pid}"
        raise ConflictError(what, remedy=f"virsh shutdown {guest.name}", rule="already-runs")
    if image := saved_by_libvirt(guest.name, guest.uuid):
        raise managed_save(guest.name, str(image))


def managed_save(name: str, image: str = "") -> ConflictError:
    """The refusal of a launch that libvirt's managed save of the guest would not survive."""
    where = f" ({image})" if image else ""
    return ConflictError(
        f"libvirt keeps the saved memory of guest '{name}'{where}: it belongs to the machine as it was, and a start with"
        " other hardware, or on disks that have changed since, would lose it",
        remedy=f"virsh start {name} resumes it; virsh managedsave-remove {name} gives the saved memory up",
        rule="managed-save",
    )


def launched(guest: Guest, prepare: Callable[[Path], Prepared], settings: Settings) -> int:
    """Launch a guest and stay with it until it ends; returns QEMU's exit status.

    ``prepare`` gets the guest's private directory.  Raises Differs where the machine is not the described one, after
    QEMU has ended; QemuError where QEMU refuses; ConflictError where the guest runs already.
    """
    with signals_end_it(), alone(guest, incoming=settings.incoming is not None) as place:
        if not settings.incoming:
            check_libvirt(guest)
        prepared = prepare(place.path)
        more = _words(prepared, settings)
        make_copies(prepared)
        with (
            _no_dead_socket(settings.qmp),
            started(
                prepared,
                directory=place.path,
                pass_fds=[place.fd],
                more=more,
                say=settings.say,
                log=settings.log,
                timeout=settings.timeout,
                user=account(settings.user) if settings.user else None,
                stdio=any("stdio" in word for word in prepared.words() if not word.startswith("{")),
            ) as qemu,
            _pidfile(settings.pidfile, qemu.pid),
        ):
            place.holds(qemu.pid)
            found, compared = checked(qemu, prepared)
            if (differs := Differs(found)).differences:
                raise differs
            settings.checked()
            if settings.incoming:
                qemu.execute("migrate-incoming", uri=settings.incoming)
            elif not settings.paused:
                qemu.cont()
            settings.runs()
            if not settings.incoming and settings.follow is None:
                qemu.close_monitor()
            pass_signals_on(qemu, paused=settings.paused or settings.incoming is not None, say=settings.say)
            for difference in found:
                settings.say(f"warning: {difference} ({difference.severity})")
            settings.say(f"{guest.name}: as described: {compared}")
            if settings.ready is not None:
                settings.ready()
            if settings.incoming and _state_came(qemu) and not settings.paused:
                qemu.cont()
                pass_signals_on(qemu, paused=False, say=settings.say)
            if settings.follow is not None:
                settings.follow(qemu)
            qemu.close_monitor()
            status = qemu.wait()
            if status and (said := qemu.words()):
                settings.say(said)
            return status


def _state_came(qemu: QemuProcess) -> bool:
    """Wait for a migration's end: continuing sooner would take the disks from the source, which still runs.

    False if QEMU ended before; raises QemuError where the state is of another machine.
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
            from shutil import copyfile  # it brings the compression libraries

            copyfile(copy.source, half)
            os.rename(half, copy.target)
        except OSError as error:
            with suppress(OSError):
                os.unlink(half)
            raise MdtoolError(f"cannot make {copy.target} from {copy.source}: {error.strerror}") from None


@contextmanager
def _no_dead_socket(path: str | None) -> Iterator[None]:
    """Remove the socket that a QEMU leaves behind which refused what it was started with."""
    before = _socket_at(path)
    try:
        yield
    except BaseException:
        if path is not None and _socket_at(path) not in (None, before):
            os.unlink(path)
        raise


def _socket_at(path: str | None) -> tuple[int, int] | None:
    with suppress(OSError):
        found = os.stat(path or "")
        return (found.st_ino, found.st_ctime_ns) if stat.S_ISSOCK(found.st_mode) else None
    return None


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
