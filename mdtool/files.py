"""Files: read whole; written as the old one or the new one, never half of either, and never by two writers at once."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from mdtool.errors import InputError, MdtoolError, Position


def bytes_from_file(path: str | Path) -> bytes:
    """What a file holds; raises InputError where it cannot be read."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from None


def text_from_file(path: str | Path) -> str:
    """The same as text, line ends as they are; raises InputError at the first byte that is not UTF-8."""
    data = bytes_from_file(path)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        before = data[: error.start].decode()
        at = Position(str(path), before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise InputError("not UTF-8", at=at, remedy="save it as UTF-8", rule="utf-8") from None


def write_file(path: str | Path, text: str) -> None:
    """Replace ``path`` atomically: a new file beside it, synced, renamed over it.

    The mode of an existing file is kept, a symbolic link is followed, and a device or a pipe (/dev/null, /dev/stdout) is
    written to.  MdtoolError where it cannot be written, and then the old file is untouched and nothing is left beside it.
    """
    target = Path(os.path.realpath(path))
    temporary: str | None = None
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            with open(path, "w", encoding="utf-8") as stream:
                stream.write(text)
            return
        mode = target.stat().st_mode & 0o7777 if target.exists() else 0o666 & ~_umask()
        temporary = str(target.parent / f".{target.name}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(text)
            stream.flush()
            os.fchmod(stream.fileno(), mode)
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise MdtoolError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def locked(path: str | Path) -> Iterator[None]:
    """Hold the right to rewrite ``path``; a second writer waits until the first is done.

    The lock is on the file itself (on its folder where there is none yet), so that no lock file is left behind.  A writer
    that waited may find another file under the name, since files are replaced by renaming: it starts over with that one.
    """
    target = Path(os.path.realpath(path))
    while True:
        descriptor = _opened(target, path)
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        if _still_there(descriptor, target):
            break
        os.close(descriptor)
    try:
        yield
    finally:
        os.close(descriptor)


def _opened(target: Path, named: str | Path) -> int:
    try:
        return os.open(target if target.exists() else target.parent, os.O_RDONLY)
    except OSError as error:
        raise MdtoolError(f"cannot write {named}: {error.strerror}") from None


def _still_there(descriptor: int, target: Path) -> bool:
    held = os.fstat(descriptor)
    now = os.stat(target if target.exists() else target.parent)
    return (held.st_dev, held.st_ino) == (now.st_dev, now.st_ino)
