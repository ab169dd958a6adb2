"""Private directories: where they are, and the one of a guest with the lock that keeps it to one QEMU at a time."""

from __future__ import annotations

import fcntl
import os
import re
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from mdtool.commandline.process import arguments_of
from mdtool.errors import ConflictError, MdtoolError
from mdtool.records import dataclass

LOCK_SECONDS = 5.0  # how long a QEMU that was killed may hold its lock


def runtime_base() -> Path:
    """Where private directories go: in $XDG_RUNTIME_DIR, for root in /run, else in the temporary directory."""
    given = os.environ.get("XDG_RUNTIME_DIR")
    for base in (given, "/run" if os.geteuid() == 0 else None):
        if base and os.access(base, os.W_OK | os.X_OK):
            return _private(Path(base) / "mdtool")
    from tempfile import gettempdir

    return _private(Path(gettempdir()) / f"mdtool-{os.geteuid()}")


def _private(path: Path) -> Path:
    """A directory that is ours alone; refuses one of another user."""
    remedy = "set XDG_RUNTIME_DIR to a directory of yours"
    try:
        path.mkdir(mode=0o700, exist_ok=True)
        held = path.lstat()
    except OSError as error:
        raise MdtoolError(f"cannot make {path}: {error.strerror}", remedy=remedy) from None
    if not stat.S_ISDIR(held.st_mode) or held.st_uid != os.geteuid() or held.st_mode & 0o022:
        raise MdtoolError(f"{path} belongs to somebody else", remedy=remedy)
    if os.geteuid() == 0 and held.st_mode & 0o777 != 0o711:
        path.chmod(0o711)  # with --user a QEMU that is not root's has to reach its guest's directory, and no other one
    return path


@dataclass(slots=True)
class GuestDirectory:
    """The private directory of one guest, and the lock that keeps it to one QEMU at a time.

    ``name`` is the guest's ``key``, a uuid.  The lock is on a file that QEMU inherits (``fd``): it holds until QEMU itself
    has ended, also where mdtool was killed.  What an earlier mdtool left behind when it was killed is removed on entry.
    """

    name: str
    label: str
    path: Path = Path()
    fd: int = -1

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[\w-]+", self.name):  # it is removed with all that is in it
            raise ValueError(f"not the name of a private directory: {self.name!r}")

    def __enter__(self) -> Self:
        base = runtime_base()
        lock = base / f"{self.name}.lock"
        while True:
            with _as_error(lock):
                self.fd = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            self._locked()
            with suppress(FileNotFoundError):
                if os.stat(lock).st_ino == os.fstat(self.fd).st_ino:
                    break
            os.close(self.fd)  # the one before us ended and removed its lock file just now
        self.path = base / self.name
        _remove(self.path)
        try:
            with _as_error(self.path):
                self.path.mkdir(mode=0o700)
        except MdtoolError as error:
            self.__exit__(type(error), error, None)
            raise
        return self

    def _locked(self) -> None:
        deadline = time.monotonic() + LOCK_SECONDS
        while True:
            try:
                fcntl.flock(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return
            except OSError:
                held = os.pread(self.fd, 64, 0).decode(errors="replace").strip()
                # A QEMU that was killed holds the lock until the last of its threads is gone.
                if not held.isdigit() or _alive(int(held)) or time.monotonic() > deadline:
                    break
            time.sleep(0.02)
        os.close(self.fd)
        who = f", process {held}" if held.isdigit() else ""
        remedy = "end that one first; two QEMUs on the same disks destroy them"
        raise ConflictError(f"guest '{self.label}' already runs{who}", remedy=remedy, rule="already-runs")

    def held_by(self) -> int | None:
        """The process that runs the guest, by its lock; None where none does.  Takes nothing and waits for nothing."""
        with suppress(OSError, ValueError), open(runtime_base() / f"{self.name}.lock", "rb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except OSError:
                return int(lock.read(64))
        return None

    def holds(self, pid: int) -> None:
        """Write into the lock which process it is that runs the guest."""
        with _as_error(self.path.parent / f"{self.name}.lock"):
            os.ftruncate(self.fd, 0)
            os.pwrite(self.fd, f"{pid}\n".encode(), 0)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        _remove(self.path)
        with suppress(OSError):
            (self.path.parent / f"{self.name}.lock").unlink()
        os.close(self.fd)


def run_by_libvirt(name: str, uuid: str | None) -> int | None:
    """The process of a guest that this host's libvirt runs, by the file that libvirt keeps of it; None where it does not.

    Without asking libvirt: that would cost a launch as long as all the rest, and start a daemon on some hosts.
    """
    own = os.environ.get("XDG_RUNTIME_DIR")
    if "/" in name:  # libvirt has no such guest
        return None
    for base in (Path("/run/libvirt/qemu"), *([Path(own, "libvirt/qemu/run")] if own else [])):
        with suppress(OSError, ValueError):
            pid = int((base / f"{name}.pid").read_text())
            if uuid is None or uuid.lower() in arguments_of(pid):
                return pid
    return None


def saved_by_libvirt(name: str, uuid: str | None) -> Path | None:
    """The image in which this host's libvirt keeps a guest's memory (virsh managedsave); None if there is none.

    The image begins with the guest's XML, so that another guest's of the same name is not taken for it.
    """
    if "/" in name:
        return None
    own = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    for base in (Path("/var/lib/libvirt/qemu/save"), Path(own, "libvirt/qemu/save")):
        image = base / f"{name}.save"
        with suppress(OSError, UnicodeError):  # a name that this locale cannot write
            with open(image, "rb") as file:
                head = file.read(1 << 16)
            found = re.search(rb"<uuid>\s*([0-9a-fA-F-]+)\s*</uuid>", head)
            if uuid is None or found is None or found[1].decode().lower() == uuid:
                return image
    return None


@contextmanager
def _as_error(path: Path) -> Iterator[None]:
    """What cannot be made or written, as an error of ours."""
    try:
        yield
    except OSError as error:
        remedy = "make room, or set XDG_RUNTIME_DIR to another directory of yours"
        raise MdtoolError(f"cannot write {path}: {error.strerror}", remedy=remedy) from None


def _alive(pid: int) -> bool:
    try:
        return "\nState:\tZ" not in Path(f"/proc/{pid}/status").read_text(errors="replace")
    except OSError:
        return False


def _remove(path: Path) -> None:
    try:
        path.rmdir()
    except FileNotFoundError:
        pass
    except OSError:  # something is in it
        from shutil import rmtree  # it brings the compression libraries

        rmtree(path, ignore_errors=True)
