"""QEMU as a process: started paused, spoken to over a monitor of mdtool's own, and never left behind.

    with QemuProcess(argv) as qemu:      # running, paused, its monitor greeted; QemuError with QEMU's words where not
        qemu.session                     # the Session to it
        qemu.cont()
        status = qemu.wait()

The monitor is a unix socket that mdtool binds and QEMU inherits: it exists before QEMU does, so nothing polls for it,
and a QEMU that dies is seen at once as a closed connection.  It lives in a private directory (0700), beside the log and
the ``-readconfig`` file, and all of it goes with the guest.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from threading import current_thread, main_thread
from types import TracebackType
from typing import IO, TYPE_CHECKING, Self

from mdtool.commandline.companion import MONITOR, Process
from mdtool.errors import MdtoolError, MonitorError, Position, QemuError
from mdtool.lifetime import die_with
from mdtool.qemu.account import Account
from mdtool.qemu.refusals import error_from_words
from mdtool.qemu.runtime import runtime_base
from mdtool.records import dataclass, field
from mdtool.text import in_utf8

if TYPE_CHECKING:
    from mdtool.qemu.session import Session

START_SECONDS = 30.0  # QEMU that has not greeted by then hangs; a guest with much preallocated memory may need more
END_SECONDS = 5.0  # between asking, SIGTERM and SIGKILL
TAIL = 2000  # characters of QEMU's last words that an error shows at most
MONITOR_FILE = "qmp"
#: what the QEMU of a running guest never needs
FORBIDDEN = "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny"

#: every QEMU of this process that has been started and not yet ended, for those who must end in a hurry
live: list[QemuProcess] = []


@dataclass(slots=True)
class QemuProcess:
    """A started QEMU.

    ``argv``         the command line, program first; ``-S`` and the private monitor are added here
    ``pass_fds``     file descriptors that QEMU inherits under their numbers
    ``directory``    the private directory; None makes a temporary one.  It is removed at the end where it is temporary
    ``positions``    id -> where the guest XML asks for it, so that QEMU's refusals carry the line
    ``config``       text of the ``-readconfig`` file by path, to translate the line numbers of QEMU's errors
    ``timeout``      seconds until QEMU that says nothing is ended
    ``death_signal`` what the kernel sends QEMU when mdtool dies: SIGTERM lets it flush disks, SIGKILL is for rehearsals
    ``log``          a file of the user's for what QEMU prints; None keeps it in the private directory
    ``user``         whom to run QEMU as; None runs it as mdtool's own user
    ``stdio``        whether QEMU shares mdtool's terminal (a guest with a console on stdio)
    ``helpers``      processes that must run beside QEMU (swtpm, virtiofsd): started before it, ended after it
    ``environment``  variables for QEMU beside mdtool's own
    ``folder``       its working folder; None is mdtool's own
    ``meanwhile``    called while QEMU starts, for what will be needed once it has
    """

    argv: Sequence[str]
    pass_fds: Sequence[int] = ()
    directory: Path | None = None
    positions: Mapping[str, Position] = field(default_factory=dict)
    config: Mapping[str, str] = field(default_factory=dict)
    helpers: Sequence[Process] = ()
    timeout: float = START_SECONDS
    death_signal: signal.Signals = signal.SIGTERM
    log: Path | None = None
    user: Account | None = None
    stdio: bool = False
    environment: Mapping[str, str] = field(default_factory=dict)
    folder: Path | None = None
    meanwhile: Callable[[], object] = lambda: None
    monitor: Path = field(default=Path(), init=False)  # its socket: only mdtool reaches it
    idle: bool = field(default=False, init=False)  # connected, and no greeting
    _process: subprocess.Popen[bytes] | None = None
    _session: Session | None = None
    _stack: ExitStack = field(default_factory=ExitStack)
    _deferred: list[Callable[[], object]] = field(default_factory=list)
    _log_path: Path = Path()
    _log_start: int = 0

    # --- start ---------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.end()
            raise
        return self

    def _start(self) -> None:
        if self.directory is None:
            from shutil import rmtree
            from tempfile import mkdtemp

            made = Path(mkdtemp(prefix="mdtool-", dir=runtime_base()))
            self._stack.callback(rmtree, made, ignore_errors=True)
            self.directory = made
        self._log_path = self.log or self.directory / "qemu.log"
        # A monitor that QEMU inherits: bound now, so connecting needs no waiting, and closed here once QEMU has it.
        # Its path goes through a descriptor, since the path of a unix socket may have 107 characters at most.
        folder = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        self._stack.callback(os.close, folder)
        self._stack.callback((self.directory / MONITOR_FILE).unlink, missing_ok=True)
        self.monitor = Path(f"/proc/self/fd/{folder}/{MONITOR_FILE}")
        listener = self._stack.enter_context(_listening(self.monitor))
        if self.user is not None:
            self.user.take(self.directory, *self.directory.iterdir())
        for helper in self.helpers:
            self._start_helper(helper, self.directory)
        words = [
            *self.argv,
            *([] if "-S" in self.argv else ["-S"]),
            "-chardev",
            f"socket,id={MONITOR},fd={listener.fileno()},server=on,wait=off",
            "-mon",
            f"chardev={MONITOR},mode=control",
        ]
        with self._open_log() as log, _signals_wait():
            self._log_start = log.tell()
            self._process = self._popen(words, log, (*self.pass_fds, listener.fileno()))
            live.append(self)
        listener.close()
        self.meanwhile()
        self._session = self._greeted()

    def _open_log(self) -> IO[bytes]:
        try:
            log = open(self._log_path, "ab")  # noqa: SIM115 - a with-statement of the caller
        except OSError as error:
            raise QemuError(f"cannot write the log {self._log_path}: {error.strerror}") from None
        log.seek(0, os.SEEK_END)
        return log

    def _popen(self, words: Sequence[str], log: IO[bytes], fds: Sequence[int]) -> subprocess.Popen[bytes]:
        parent = os.getpid()
        user = self.user if os.geteuid() == 0 else None  # who is not root is that user already
        try:
            return subprocess.Popen(
                in_utf8(words),
                stdin=None if self.stdio else subprocess.DEVNULL,
                stdout=None if self.stdio else log,
                stderr=log,
                pass_fds=tuple(fds),
                user=user.uid if user else None,
                group=user.gid if user else None,
                extra_groups=user.groups if user else None,
                cwd=self.folder,
                env={**os.environ, **self.environment},
                # ctrl-C is for mdtool, which asks the guest to power down; with a shared terminal QEMU stays in front.
                start_new_session=not self.stdio,
                preexec_fn=lambda: die_with(parent, self.death_signal),
            )
        except (FileNotFoundError, NotADirectoryError):
            remedy = "install the QEMU of that architecture (Debian: qemu-system-x86, qemu-system-arm)"
            raise QemuError(f"no such QEMU: {words[0]}", remedy=remedy, rule="qemu-missing") from None
        except PermissionError:
            raise QemuError(f"QEMU cannot be run: {words[0]}: permission denied", rule="qemu-missing") from None
        except OSError as error:
            raise QemuError(f"QEMU cannot be run: {words[0]}: {error.strerror}", rule="qemu-missing") from None

    def _start_helper(self, helper: Process, directory: Path) -> None:
        parent = os.getpid()
        words = directory / f"{Path(helper.argv[0]).name}.log"
        try:
            if helper.folder is not None:
                helper.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with open(words, "ab") as log:
                process = subprocess.Popen(
                    in_utf8(helper.argv),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                    preexec_fn=lambda: die_with(parent, signal.SIGTERM),
                )
        except OSError as error:
            raise QemuError(f"{helper.argv[0]} cannot be run: {error.strerror}", rule="helper") from None
        self._stack.callback(_end_process, process)
        deadline = time.monotonic() + START_SECONDS
        while helper.ready is not None and not helper.ready.exists():
            if process.poll() is not None:
                said = words.read_text(errors="replace").strip()[-TAIL:] or _status(process.returncode)
                raise QemuError(f"{helper.argv[0]} ended at once: {said}", rule="helper")
            if time.monotonic() > deadline:
                raise QemuError(
                    f"{helper.argv[0]} did not listen on {helper.ready} within {START_SECONDS:g} s", rule="helper"
                )
            time.sleep(0.01)
        if self.user is not None and helper.ready is not None:
            self.user.take(helper.ready)  # the helper is root's still, and QEMU has to reach it

    def _greeted(self) -> Session:
        from mdtool.qemu.session import session_from_source

        start = time.monotonic()
        try:
            return session_from_source(str(self.monitor), timeout=self.timeout)
        except MonitorError as error:
            early = time.monotonic() - start < self.timeout
            with suppress(subprocess.TimeoutExpired):  # a closed monitor is the first sign of a QEMU that dies
                self.process.wait(0.5)
            if self.process.poll() is None:
                self.process.kill()  # it may be stopped, and deaf to SIGTERM; and no guest of it has disks to flush
                raise self._hangs(error.what if early else "") from None
            raise self.death() from None

    def _hangs(self, answer: str) -> QemuError:
        """``answer`` is what came in place of a greeting; "" where nothing did in time."""
        said = f"; it said: {words}" if (words := self.words()) else ""
        if answer:
            answer = answer.removeprefix(f"{self.monitor}: ")
            what = f"the program does not answer as QEMU does, and was ended: {answer}{said}"
            return QemuError(what, remedy="name a QEMU binary in <emulator>, or with --qemu", rule="qemu-missing")
        what = f"QEMU did not greet on its monitor within {self.timeout:g} s and was ended{said}"
        return QemuError(what, remedy="--timeout gives a slow start more time", rule="qemu-hangs")

    # --- while it runs -------------------------------------------------------------------------------------------

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    @property
    def session(self) -> Session:
        assert self._session is not None
        return self._session

    @property
    def pid(self) -> int:
        return self.process.pid

    def execute(self, command: str, **arguments: object) -> object:
        """A QMP command; QEMU's refusal as QemuError with the XML line of the id that it is about."""
        try:
            return self.session.execute(command, arguments or None)
        except QemuError as error:
            name = arguments.get("id")
            at = self.positions.get(name) if isinstance(name, str) else None
            what = f"QEMU refused {command} {arguments.get('driver', '')}".rstrip()
            said = error.what.partition(": ")[2] or error.what
            raise QemuError(f"{what}: {said}", at=at, rule="qemu-refuses") from None
        except MonitorError:
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(0.5)
            if self.process.poll() is not None:
                raise self.death() from None
            raise

    def cont(self) -> None:
        self.execute("cont")

    def close_monitor(self) -> None:
        """Let go of the monitor; a client that never reads would let QEMU's events pile up."""
        if self._session is not None:
            self._session.close()
            self._session = None
            self._act()

    def when_free(self, action: Callable[[], object]) -> None:
        """For a signal handler, which may speak to QEMU while no command is in progress: call it now, or as soon as so."""
        self._deferred.append(action)
        if self._session is None or self.idle:
            self._act()

    def _act(self) -> None:
        while self._deferred:
            self._deferred.pop(0)()

    def powerdown(self) -> bool:
        """Press the guest's power button; False where QEMU does not answer."""
        from mdtool.qemu.session import session_from_source

        try:
            with ExitStack() as stack:
                session = self._session or stack.enter_context(session_from_source(str(self.monitor)))
                session.execute("system_powerdown")
        except MdtoolError:
            return False
        return True

    def ends_within(self, seconds: float) -> bool:
        """Wait for QEMU's end; meanwhile signal handlers may speak to it."""
        ends = os.pidfd_open(self.pid)
        self.idle = True
        try:
            self._act()
            return bool(select.select([ends], [], [], seconds)[0])
        finally:
            self.idle = False
            os.close(ends)

    def send_signal(self, number: int) -> None:
        if self.process.poll() is None:
            self.process.send_signal(number)

    def wait(self, timeout: float | None = None) -> int:
        """QEMU's exit status; 128 + the signal's number where one ended it."""
        code = self.process.wait(timeout)
        return 128 - code if code < 0 else code

    # --- end -----------------------------------------------------------------------------------------------------

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.end()

    def end(self) -> None:
        """End QEMU and its helpers, and remove what was made for them; does nothing a second time."""
        self.close_monitor()
        if self._process is not None:
            _end_process(self._process)
        live[:] = [other for other in live if other is not self]
        self._stack.close()

    # --- QEMU's words --------------------------------------------------------------------------------------------

    def words(self) -> str:
        """What QEMU has printed since it was started, without its program name; '' where nothing."""
        try:
            with open(self._log_path, "rb") as log:
                log.seek(self._log_start)
                text = log.read().decode(errors="replace")
        except OSError:
            return ""
        return text.strip()[-TAIL:]

    def death(self) -> QemuError:
        """Why QEMU died, in its own words, at the guest XML's line of the device it spoke about."""
        said = self.words()
        if not said:
            what = f"QEMU ended at start with {_status(self.process.returncode)} and said nothing"
            if _is_full(self._log_path.parent):
                what += f", or what it said was lost: {self._log_path.parent} is full"
            return QemuError(what, rule="qemu-died")
        return error_from_words(said, self.positions, self.config)


def _is_full(folder: Path) -> bool:
    with suppress(OSError):
        return os.statvfs(folder).f_bavail == 0
    return False


def _status(code: int | None) -> str:
    if code is not None and code < 0:
        return f"signal {signal.Signals(-code).name}"
    return f"exit status {code}"


def _listening(path: Path) -> socket.socket:
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        path.unlink(missing_ok=True)
        listener.bind(str(path))
        listener.listen(1)
    except OSError as error:
        listener.close()
        raise QemuError(f"cannot make the monitor socket {path}: {error.strerror or error}") from None
    return listener


@contextmanager
def _signals_wait() -> Iterator[None]:
    """Signals that end a launch wait until the QEMU that is being started can be ended.

    A mask would hold them back from one thread alone; whichever gets them, Python calls handlers in the main thread.
    """
    came: list[int] = []
    with ExitStack() as stack:
        stack.callback(lambda: list(map(signal.raise_signal, came)))
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT) if current_thread() is main_thread() else ():
            if signal.getsignal(number) not in (signal.SIG_IGN, None):  # what is ignored QEMU ignores too
                stack.callback(signal.signal, number, signal.signal(number, lambda number, _: came.append(number)))
        yield


def _end_process(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL where that does not help; reaped in any case."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        if process.poll() is not None:
            break
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(END_SECONDS)
