"""What may be forgotten at any time, in ``$XDG_CACHE_HOME/mdtool``: answers of QEMU binaries, tables of grammars.

A cache that cannot be read or written costs time and nothing else.
"""

from __future__ import annotations

import marshal
import os
import sys
from contextlib import suppress
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from zlib import crc32

from mdtool.errors import MdtoolError
from mdtool.files import locked
from mdtool.resources import path_of_resource

if TYPE_CHECKING:
    from lark import Lark


def cached(*names: str) -> str:
    """A path in ``$XDG_CACHE_HOME/mdtool``, ``~/.cache/mdtool`` where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join("/", base, "mdtool", *names)  # a user without a home, as in a container, gets no folder "~" here


def keep(path: str, data: str | bytes) -> None:
    """Write a file of the cache, whole or not at all."""
    folder, name = os.path.split(path)
    with suppress(OSError):
        os.makedirs(folder, mode=0o700, exist_ok=True)
        scratch = os.path.join(folder, f".{name}.{os.getpid()}")
        with open(scratch, "wb") as stream:
            stream.write(data if isinstance(data, bytes) else data.encode(errors="surrogateescape"))
        os.replace(scratch, path)


def parser_from_grammar(name: str, **options: Any) -> Lark:
    """The LALR parser of ``grammar/NAME``; its tables, 25 ms to make and 2 to load, are kept.

    They are a pickle, which could run anything when it is read: so only in a folder that no other user can write to.
    """
    from lark import Lark, __version__

    with open(path_of_resource("grammar", name), encoding="utf-8") as file:
        text = file.read()
    folder, kept = cached(), cached(f"{name}-{__version__}")
    with suppress(OSError, MdtoolError):
        os.makedirs(folder, exist_ok=True)
        if _is_ours(folder) and (not os.path.exists(kept) or _is_ours(kept)):
            with locked(kept):  # lark writes it in place
                return Lark(text, parser="lalr", cache=kept, **options)
    return Lark(text, parser="lalr", **options)


def _is_ours(path: str) -> bool:
    """Whether no other user but root can have written what is there."""
    stat = os.stat(path)
    return stat.st_uid == os.geteuid() and not stat.st_mode & 0o022


def _ours(path: str) -> bytes | None:
    """What is in a file that no other user can have written; None for any other.  Raises OSError."""
    if not (_is_ours(os.path.dirname(path)) and _is_ours(path)):
        return None
    with open(path, "rb") as stream:
        return stream.read()


# --- texts that were found valid -------------------------------------------------------------------------------------

_HASHES = "valid"
_MOST = 4096  # hashes that are kept; the oldest go


def known_hash(mark: str) -> bool:
    """Whether ``remember_hash`` was called with ``mark`` before, and no other user can have recorded it."""
    with suppress(OSError):
        return mark in (_ours(cached(_HASHES)) or b"").decode().split("\n")
    return False


def remember_hash(mark: str) -> None:
    path = cached(_HASHES)
    kept: list[str] = []
    with suppress(OSError), open(path, encoding="utf-8") as stream:
        kept = stream.read().split()
    keep(path, "\n".join([*kept[1 - _MOST :], mark]) + "\n")


# --- what was made of a text ------------------------------------------------------------------------------------------

_MOST_TEXTS = 2048  # of a kind; then the older half goes


def known(kind: str, text: str, *code: str) -> Any:
    """What ``remember`` was given for exactly this text; None where that is not known.

    ``code`` are the folders of what made it: whatever an older state of them made is forgotten.
    """
    with suppress(OSError, ValueError, EOFError, TypeError):
        if (kept := _ours(_path_of(kind, text))) is not None:
            stamp, known_text, data = marshal.loads(kept)
            if known_text == text and stamp == _stamp(*code):
                return data
    return None


def remember(kind: str, text: str, data: Any, *code: str) -> None:
    """Keep what was made of a text: None, numbers, strings, and lists, tuples, sets and dicts of these."""
    with suppress(OSError, ValueError):
        path = _path_of(kind, text)
        keep(path, marshal.dumps((_stamp(*code), text, data)))
        kept = [entry for entry in os.scandir(os.path.dirname(path)) if entry.is_file()]
        if len(kept) > _MOST_TEXTS:
            for entry in sorted(kept, key=lambda entry: entry.stat().st_mtime_ns)[: _MOST_TEXTS // 2]:
                os.unlink(entry)


def _path_of(kind: str, text: str) -> str:
    """Two texts may meet in one file: the text inside says whose it is."""
    return cached(kind, f"{crc32(text.encode(errors='surrogatepass')):08x}{len(text):x}")


@lru_cache
def _stamp(*code: str) -> tuple[Any, ...]:
    files = (entry for folder in code for entry in os.scandir(folder) if entry.name.endswith((".py", ".lark")))
    found = [(entry.name, entry.stat()) for entry in files]
    return sys.version, sorted((name, stat.st_mtime_ns, stat.st_size) for name, stat in found)
