"""What signals and ctrl-C do to the QEMU of a launch, before its guest runs and afterwards."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from mdtool.errors import MdtoolError
from mdtool.qemu.process import QemuProcess, live

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


def pass_signals_on(qemu: QemuProcess, *, paused: bool, say: Callable[[str], None]) -> None:
    """From now on the guest runs: SIGTERM and SIGHUP are QEMU's to handle, which closes its disks first.

    ctrl-C asks the guest to power down; a second one ends QEMU, and a third one does so without its consent.
    """
    interrupts = 0

    def pass_on(number: int, _frame: object) -> None:
        qemu.send_signal(number)

    def interrupt(_number: int, _frame: object) -> None:
        nonlocal interrupts
        interrupts += 1
        if interrupts == 1 and not paused:
            qemu.when_free(ask)
        else:
            qemu.send_signal(signal.SIGTERM if interrupts < 3 else signal.SIGKILL)

    def ask() -> None:
        if qemu.powerdown():
            say("asked the guest to power down; ctrl-C once more ends QEMU")
        else:
            qemu.send_signal(signal.SIGTERM)

    signal.signal(signal.SIGTERM, pass_on)
    signal.signal(signal.SIGHUP, pass_on)
    signal.signal(signal.SIGINT, interrupt)
