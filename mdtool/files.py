"""Files: read whole; written as the old one or the new one, never half of either, and never by two writers at once."""

from __future__ import annotations

import errno
import fcntl
import os
import pwd
import stat
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from typing import TYPE_CHECKING

from mdtool.errors import InputError, MdtoolError, Position
from mdtool.limits import MAX_BYTES
from mdtool.records import dataclass, field
from mdtool.text import shell_word

if TYPE_CHECKING:
    from pathlib import Path

#: the name of standard input, and where a command writes its result, of standard output
STANDARD = "-"
#: and what the system calls them
_STREAMS = frozenset({STANDARD, *(f"/dev/{name}" for name in ("stdin", "stdout", "fd/0", "fd/1"))})
#: what was read of standard input and of pipes, which can be read once; only while ``pipes_kept``
_kept: dict[object, bytes] | None = None


@contextmanager
def pipes_kept() -> Iterator[None]:
    """Inside, a pipe (``-``, /dev/stdin, ``<(command)``) gives the same bytes however often it is opened."""
    global _kept
    before, _kept = _kept, {}
    try:
        yield
    finally:
        _kept = before


def on_path(name: str) -> str | None:
    """The path of a program that can be run, as ``shutil.which``, which brings the compression libraries."""
    places = [name] if os.path.dirname(name) else [os.path.join(folder, name) for folder in os.get_exec_path()]
    return next((path for path in places if os.path.isfile(path) and os.access(path, os.X_OK)), None)


def bytes_from_file(path: str | Path) -> bytes:
    """What a file holds, or standard input for ``-``.

    Raises InputError where it cannot be read, or is larger than anything that mdtool reads.
    """
    try:
        key = _pipe(path)
        if key is None or _kept is None:
            return _read(path)
        if key not in _kept:
            _kept[key] = _read(path)
        return _kept[key]
    except (OSError, ValueError) as error:  # ValueError: a name with a NUL in it
        raise InputError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from None


def _read(path: str | Path) -> bytes:
    with nullcontext(sys.stdin.buffer) if is_standard(path) else open(path, "rb") as stream:
        data = stream.read(_CHUNK)  # as much memory as is asked for is set aside, and most files are small
        if len(data) == _CHUNK:
            data += stream.read(MAX_BYTES + 1 - _CHUNK)
    if len(data) > MAX_BYTES:
        raise InputError(f"{path} is larger than {MAX_BYTES >> 20} MiB", rule="limit-size")
    return data


#: bytes of a file that are read first
_CHUNK = 1 << 20


def _pipe(path: str | Path) -> object:
    """What a pipe, a terminal or a socket is known by; None for a file that can be read again."""
    held = os.fstat(0) if is_standard(path) else os.stat(path)
    return None if stat.S_ISREG(held.st_mode) and not is_standard(path) else (held.st_dev, held.st_ino)


def is_standard(path: str | Path | None) -> bool:
    """Whether a file argument is standard input or output: ``-``, /dev/stdin, /dev/stdout."""
    return str(path) in _STREAMS


def text_from_file(path: str | Path) -> str:
    """The same as text, line ends as they are; raises InputError at the first byte that is not UTF-8."""
    return text_from_bytes(bytes_from_file(path), str(path))


def text_from_bytes(data: bytes, file: str) -> str:
    """The text of what was read from ``file``; raises InputError at the first byte that is not UTF-8."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        if b"\0" in data[:512] and not data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError("this is a binary file, not text", at=Position(file, 1), rule="file-kind") from None
        before = data[: error.start].decode()
        at = Position(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise InputError("not UTF-8", at=at, remedy="save it as UTF-8", rule="utf-8") from None


def write_file(path: str | Path, text: str | bytes) -> None:
    """Replace ``path`` atomically: a new file beside it, synced, renamed over it.

    Owner, group, mode, ACL and extended attributes of an existing file are kept, a symbolic link is followed, and a device
    or a pipe (/dev/null) is written to, as standard output is for ``-``.  MdtoolError where it cannot be
    written, where one of these cannot be kept, or where the file has a second name (a hard link), which would go on naming
    the old text; the old file is then untouched and nothing is left beside it.
    """
    data = text.encode() if isinstance(text, str) else text
    if is_standard(path):
        if sys.stdout.isatty():
            sys.stdout.write(data.decode(errors="replace"))
            return
        sys.stdout.flush()
        sys.stdout.buffer.write(data)  # a document is UTF-8 in every locale
        sys.stdout.buffer.flush()
        return
    target = os.path.realpath(path)
    temporary: str | None = None
    try:
        if os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            with open(path, "wb") as stream:
                stream.write(data)
            return
        check_writable(path)
        folder, name = os.path.split(target)
        temporary = os.path.join(folder, f".{name}.{os.getpid()}.{os.urandom(4).hex()}")
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            stream.flush()
            _take_over(stream.fileno(), target)
            os.fsync(stream.fileno())
        os.replace(temporary, target)
        temporary = None
    except OSError as error:
        raise MdtoolError(f"cannot write {path}: {error.strerror}") from None
    finally:
        if temporary is not None:
            with suppress(OSError):
                os.unlink(temporary)


@dataclass(slots=True)
class Rewrite:
    """Several files that are written together, or not at all; ``put`` writes one.

    rewrite = Rewrite({"web01.yaml": text, "web01.xml": xml})
    rewrite.write()        # MdtoolError where one cannot be written, and then the others are as before
    rewrite.undo()         # all of them are as they were before
    """

    texts: Mapping[str, str]
    put: Callable[[str, str], object] = lambda path, text: write_file(path, text)
    _before: dict[str, bytes | None] = field(default_factory=dict)

    def check(self) -> None:
        """Raise MdtoolError where a file cannot be replaced, as far as that is known before."""
        for path in self.texts:
            check_writable(path)

    def write(self) -> None:
        try:
            for path, text in self.texts.items():
                before = bytes_from_file(path) if os.path.isfile(path) else None
                self.put(path, text)
                self._before[path] = before
        except BaseException:
            self.undo()
            raise

    def undo(self) -> None:
        while self._before:
            path, before = self._before.popitem()
            if before is not None:
                write_file(path, before)
            elif os.path.isfile(path):
                os.unlink(path)


def check_writable(*paths: str | Path | None, replaced: bool = True) -> None:
    """Raise MdtoolError for the first of the files that ``write_file`` would refuse, as far as that is known before.

    ``replaced`` is False for files that are opened as they are, or made where there is none.
    """
    for path in paths:
        if path is not None and not is_standard(path):
            _check_folder(path)
            if replaced:
                _check_replaceable(path)


def _check_folder(path: str | Path) -> None:
    folder = os.path.dirname(os.path.realpath(path))
    if os.path.exists(path) and not os.path.isfile(path):  # a device or a pipe is opened as it is
        if os.path.isdir(path):
            remedy = f"name a file in it, such as {os.path.join(path, 'NAME')}"
            raise MdtoolError(f"cannot write {path}: it is a folder", remedy=remedy, rule="output")
        return
    if not os.path.isdir(folder):
        named = os.path.dirname(os.readlink(path) if os.path.islink(path) else path)
        if os.path.exists(named):
            raise MdtoolError(f"cannot write {path}: {named} is not a folder", rule="output")
        what = f"cannot write {path}: the folder {named} is not there"
        raise MdtoolError(what, remedy=f"mkdir -p {shell_word(named)}", rule="output")
    if not os.access(folder, os.W_OK | os.X_OK):
        remedy = "write elsewhere, or let mdtool write there"
        raise MdtoolError(f"cannot write {path}: its folder is not writable", remedy=remedy, rule="output")


def _check_replaceable(path: str | Path) -> None:
    with suppress(FileNotFoundError):
        held = os.stat(path)
        if stat.S_ISREG(held.st_mode) and held.st_nlink > 1:
            raise MdtoolError(
                f"cannot write {path}: it has {held.st_nlink} names (hard links), and the others would keep the old text",
                remedy="make it a file of its own (cp -p FILE NEW; mv NEW FILE), or a symbolic link",
                rule="hard-link",
            )
        if stat.S_ISREG(held.st_mode) and held.st_uid != os.geteuid() and os.geteuid():
            raise MdtoolError(
                f"cannot write {path}: it belongs to {_user(held.st_uid)}, and only its owner or root can replace it",
                remedy="run mdtool as its owner, or write elsewhere",
                rule="owner",
            )


def _user(uid: int) -> str:
    with suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return f"user {uid}"


#: of the text that was, not of the file: a hash and a signature of it, and rights of a program
_OF_THE_TEXT = frozenset({"security.ima", "security.evm", "security.capability"})


def _take_over(descriptor: int, target: str) -> None:
    """Give a new file what the one that it replaces has beside its text; OSError where that is not possible.

    A new file in a folder with a default ACL has one already, which the old file may not have.
    """
    if not os.path.exists(target):
        os.fchmod(descriptor, 0o666 & ~_umask())
        return
    held, made = os.stat(target), os.fstat(descriptor)
    if (held.st_uid, held.st_gid) != (made.st_uid, made.st_gid):
        os.fchown(descriptor, held.st_uid, held.st_gid)
    old, new = _attributes(target), _attributes(descriptor)
    for name in new.keys() - old.keys():
        if not name.startswith("security."):  # a label is the system's to give
            os.removexattr(descriptor, name)
    for name, value in old.items():
        if new.get(name) != value:
            os.setxattr(descriptor, name, value)
    os.fchmod(descriptor, held.st_mode & 0o7777)


def _attributes(of: int | str) -> dict[str, bytes]:
    """The extended attributes, the ACL among them; none where the file system knows none."""
    try:
        names = os.listxattr(of)
    except OSError as error:
        if error.errno in (errno.ENOTSUP, errno.ENOSYS):
            return {}
        raise
    return {name: os.getxattr(of, name) for name in names if name not in _OF_THE_TEXT}


def write_over(path: str | Path, text: str) -> str | None:
    """``write_file`` where the file is not what the new one was made of: what is there, and is another text, is kept
    beside it as ``NAME~``.  Its name, None where nothing had to be kept.
    """
    kept = None
    if not is_standard(path) and os.path.isfile(path) and bytes_from_file(path) not in (b"", text.encode()):
        from shutil import copy2  # slow to import, and few commands keep a file

        kept = f"{path}~"
        try:
            with suppress(FileNotFoundError):
                os.unlink(kept)  # what a link of that name leads to is not ours
            copy2(path, kept)
        except OSError as error:
            raise MdtoolError(f"cannot write {kept}: {error.strerror}") from None
    write_file(path, text)
    return kept


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


@contextmanager
def locked(*paths: str | Path, seconds: float | None = None) -> Iterator[None]:
    """Hold the right to rewrite all of ``paths``; a second writer waits until the first is done.

    What is rewritten must be read inside of the ``with``: a writer that waited would put back what it read before.

    The lock is on the file itself (on its folder where there is none yet), so that no lock file is left behind.  A writer
    that waited may find another file under the name, since files are replaced by renaming: it starts over with that one.
    Standard output needs no lock.  With ``seconds``, raises MdtoolError where it takes longer to get the right.
    """
    named = {os.path.realpath(path): path for path in paths if not is_standard(path)}
    held: set[tuple[int, int]] = set()  # two names may be one file, or two new files of one folder
    with ExitStack() as stack:
        for target in sorted(named):  # all writers in one order, so that no two wait for each other
            while True:
                descriptor = _opened(target, named[target])
                stack.callback(os.close, descriptor)
                key = os.fstat(descriptor).st_dev, os.fstat(descriptor).st_ino
                if key in held:
                    break
                _wait_for(descriptor, named[target], seconds)
                if _still_there(descriptor, target):
                    held.add(key)
                    break
        yield


def _wait_for(descriptor: int, named: str | Path, seconds: float | None) -> None:
    if seconds is None:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return
    deadline = time.monotonic() + seconds
    while True:
        with suppress(BlockingIOError):
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        if time.monotonic() > deadline:
            remedy = "look with lslocks which one, and end it"
            raise MdtoolError(f"{named} has been locked by another process for {seconds:g} s", remedy=remedy, rule="locked")
        time.sleep(0.01)


def _opened(target: str, named: str | Path) -> int:
    check_writable(named, replaced=False)
    try:
        return os.open(target if os.path.exists(target) else os.path.dirname(target), os.O_RDONLY)
    except OSError as error:
        raise MdtoolError(f"cannot write {named}: {error.strerror}") from None


def _still_there(descriptor: int, target: str) -> bool:
    held = os.fstat(descriptor)
    now = os.stat(target if os.path.exists(target) else os.path.dirname(target))
    return (held.st_dev, held.st_ino) == (now.st_dev, now.st_ino)
