"""A QEMU that stands still after reset, with qtest and QMP attached: what fingerprints are read from.

The command line is the guest's own, with everything taken out that would make the machine run, move into the background
or need KVM.  QEMU inherits both sockets, open already, so that nothing has to wait until a socket file appears.
"""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import IO

from mdtool.errors import MdtoolError, MonitorError, QemuError
from mdtool.lifetime import die_with
from mdtool.proof.qtest import QTest
from mdtool.qemu.root import rooted
from mdtool.qemu.session import Session, session_from_source
from mdtool.records import dataclass
from mdtool.text import in_utf8, pattern

SECONDS = 30.0  # QEMU answers within 0.2 s; this long only where a disk image or a huge memory has to be made

#: options that a probe has in its own way; the number of arguments that go with each
DROPPED = {
    "-accel": 1,
    "-enable-kvm": 0,
    "-S": 0,
    "-daemonize": 0,
    "-preconfig": 0,
    "-no-shutdown": 0,
    "-no-reboot": 0,
    "-qtest": 1,
    "-qtest-log": 1,
    "-pidfile": 1,
    "-incoming": 1,
    "-loadvm": 1,
    "-runas": 1,
    "-run-with": 1,
    "-sandbox": 1,
    "-qmp": 1,
    "-monitor": 1,
    "-gdb": 1,
    "-s": 0,
    "-msg": 1,
    "-D": 1,
}


@dataclass(frozen=True, slots=True)
class Probe:
    """The two ways into a paused machine: ``qtest``, and ``session`` (QMP)."""

    qtest: QTest
    session: Session


def probe_argv(argv: Sequence[str]) -> list[str]:
    """``argv`` as a machine that can stand still anywhere: no KVM, no background, no migration, no monitor of its own.

    >>> probe_argv(["qemu-system-x86_64", "-machine", "pc-q35-7.2,accel=kvm", "-enable-kvm", "-cpu", "host"])
    ['qemu-system-x86_64', '-machine', 'pc-q35-7.2', '-cpu', 'max']
    """
    kept: list[str] = []
    words = iter(argv)
    for word in words:
        option = "-" + word.lstrip("-") if word.startswith("--") else word
        if option in DROPPED:
            for _ in range(DROPPED[option]):
                next(words, None)
        elif option in ("-machine", "-M"):
            kept += [option, _machine(next(words, ""))]
        elif option == "-cpu":
            kept += [option, _cpu(next(words, ""))]
        else:
            kept.append(word)
    return kept


def _machine(value: str) -> str:
    """Without ``accel``, which would say KVM."""
    if value.startswith("{"):
        return json.dumps({key: item for key, item in json.loads(value).items() if key != "accel"})
    return ",".join(part for part in value.split(",") if not part.startswith("accel="))


def _cpu(value: str) -> str:
    """``host`` needs KVM; TCG's name for "all there is" is ``max``.  KVM's own switches mean nothing to TCG."""
    model, *features = value.split(",")
    return ",".join(["max" if model == "host" else model, *(f for f in features if f != "migratable=on")])


@contextmanager
def probed(
    argv: Sequence[str], *, root: str | Path | None = None, more: Sequence[str] = (), seconds: float = SECONDS
) -> Iterator[Probe]:
    """Start ``argv`` paused and hand out its :class:`Probe`; the process is gone when the block ends.

    ``more`` are words that ``probe_argv`` would take out (-incoming).
    ``root`` is a folder with another distribution's QEMU (see ``mdtool.qemu.root``).  QemuError with what QEMU wrote
    to stderr where it does not start.
    """
    command, environment = rooted([*probe_argv(argv), *more], root)
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="mdtool-")))
        stderr = stack.enter_context(tempfile.TemporaryFile())
        ours, its = (stack.enter_context(end) for end in socket.socketpair())
        ours.settimeout(seconds)
        listener = stack.enter_context(socket.socket(socket.AF_UNIX))
        listener.bind(str(folder / "qmp"))
        listener.listen(1)  # before QEMU exists: a connection waits for it, and never misses it
        command += ["-accel", "tcg", "-S", "-qtest-log", os.devnull]
        command += [
            "-chardev",
            f"socket,id=qtest,fd={its.fileno()}",
            "-qtest",
            "chardev:qtest",
        ]  # 7.2 knows no other id
        command += ["-chardev", f"socket,id=mdtool-qmp,fd={listener.fileno()},server=on,wait=off"]
        command += ["-mon", "chardev=mdtool-qmp,mode=control"]
        process = _started(command, environment, stderr, (its.fileno(), listener.fileno()))
        its.close()
        listener.close()
        qtest = QTest(ours)
        stack.callback(qtest.close)
        try:
            with session_from_source(str(folder / "qmp"), timeout=seconds) as session:
                yield Probe(qtest, session)
        except MdtoolError as error:
            raise _told(error, process, stderr.fileno()) from None
        except TimeoutError:
            raise QemuError(f"{argv[0]} does not answer after {seconds:.0f} s") from None
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGKILL)  # nothing in it is worth an orderly end
            process.wait()


def _started(
    command: list[str], environment: dict[str, str], stderr: IO[bytes], inherited: tuple[int, ...]
) -> subprocess.Popen[bytes]:
    parent = os.getpid()
    try:
        return subprocess.Popen(
            in_utf8(command),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=stderr,
            pass_fds=inherited,
            env=environment,
            start_new_session=True,  # ^C at mdtool's terminal is mdtool's to handle
            preexec_fn=lambda: die_with(parent, signal.SIGKILL),  # also where mdtool itself is killed
        )
    except OSError as error:
        raise QemuError(f"cannot start {command[0]}: {error.strerror}", remedy="install QEMU, or name its binary") from None


_IN_PASSING = pattern(r"(?i)warning:| is deprecated, ")


def _told(error: MdtoolError, process: subprocess.Popen[bytes], stderr: int) -> MdtoolError:
    """QEMU's first message is why it ended (the rest is its consequence); if it lives on, the error is reported."""
    try:
        process.wait(0.5 if isinstance(error, MonitorError) else 0.05)
    except subprocess.TimeoutExpired:
        return error
    said = os.pread(stderr, 8192, 0).decode("utf-8", "replace")
    lines = [line for line in said.splitlines() if line.strip() and not _IN_PASSING.search(line)]
    return QemuError(f"QEMU does not start: {lines[0]}") if lines else error
