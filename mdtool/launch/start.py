"""A described machine started: a QEMU that is paused, has all its devices and is compared with its description."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.errors import InputError, MdtoolError, Position, QemuError
from mdtool.launch import monitor
from mdtool.launch.backends.base import numbered
from mdtool.launch.prepare import Prepared
from mdtool.launch.ways import WAYS
from mdtool.qemu.process import QemuProcess
from mdtool.records import replace

if TYPE_CHECKING:
    from mdtool.compare import Compared, Difference
    from mdtool.launch.backends.base import Secret

CONFIG = "machine.cfg"
RESET_SECONDS = 10.0
_RETRIES = 12  # devices that QEMU may call unpluggable one after the other before we give up

Say = Callable[[str], None]


def silent(_text: str) -> None:
    """For ``say`` without a listener."""


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
                for command, arguments in prepared.commandline.settings if prepared.commandline else ():
                    qemu.execute(command, **arguments)
                for note in prepared.handover.notes:
                    say(note)
                yield qemu
                return
        except _Unpluggable as error:
            again = WAYS[prepared.via].refused
            if again is None or len(refused) >= _RETRIES:
                raise error.cause from None
            refused.append((error.id, error.reason))
            prepared = replace(prepared, handover=again(prepared.options, refused))


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
        qemu.execute("query-status")  # which raises where QEMU is gone
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
            numbers[secret.name] = descriptor(secret, prepared.positions.get(secret.name))
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
            folder=prepared.folder,
            meanwhile=partial(_ready_to_dump, "" if prepared.is_rehearsal else text),
            **settings,
        )
        yield stack.enter_context(qemu)


def _ready_to_dump(config: str) -> None:
    """Load what reads QEMU's answers and compares them, in the time that QEMU takes to start anyway.

    ``config`` is the file that is read with the process's arguments; "" where these are not looked at.
    """
    import mdtool.compare
    import mdtool.qemu.arguments
    import mdtool.qemu.dump  # noqa: F401 - so that they are there when they are wanted

    if config:
        from mdtool.commandline.config import remember_config

        with suppress(InputError):  # who reads it says so
            remember_config(config)


def _write(path: Path, text: str) -> None:
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
    except OSError as error:
        raise MdtoolError(f"cannot write {path}: {error.strerror}", remedy="make room, or set XDG_RUNTIME_DIR") from None


def descriptor(secret: Secret, at: Position | None) -> int:
    """A descriptor from which QEMU reads a secret: memory of ours, on no disk and on no command line."""
    if secret.value is None:
        what = f"the secret {secret.key!r} is kept by libvirt, and direct launch does not know its value"
        raise QemuError(what, at=at, remedy="start the guest with --via libvirt", rule="host-side")
    descriptor = os.memfd_create(secret.name)
    os.write(descriptor, secret.value.encode())
    os.lseek(descriptor, 0, os.SEEK_SET)
    return descriptor


def checked(qemu: QemuProcess, prepared: Prepared) -> tuple[list[Difference], Compared]:
    """What the paused machine has otherwise than the description, and how much was compared."""
    from mdtool.compare import comparison
    from mdtool.qemu.dump import dump

    machine = dump(qemu.session)
    if not prepared.is_rehearsal:  # a rehearsal's own arguments leave out what it needs nothing of
        from mdtool.qemu.arguments import completed

        machine = completed(machine, qemu.session, lambda _: None)
    differences, compared = comparison(prepared.tree, machine)
    return [difference for difference in differences if counts(difference, prepared)], compared


def counts(difference: Difference, prepared: Prepared) -> bool:
    """Whether a launch stops for it.

    A substitute sits where the real device would, and nothing else about it is comparable; firmware of another version is
    the host's package, which ``verify`` reports.
    """
    if (difference.node, difference.property) == ("firmware", "sha256"):
        return False
    return difference.node not in prepared.substitutes or difference.property == "address"
