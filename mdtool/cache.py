"""What may be forgotten at any time, in ``$XDG_CACHE_HOME/mdtool``: answers of QEMU binaries, tables of grammars.

A cache that cannot be read or written costs time and nothing else.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.errors import MdtoolError
from mdtool.files import locked
from mdtool.resources import resource

if TYPE_CHECKING:
    from lark import Lark


def cache_folder() -> Path:
    """``$XDG_CACHE_HOME/mdtool``, ``~/.cache/mdtool`` where that is not set."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "mdtool"


def keep(path: Path, text: str) -> None:
    """Write a file of the cache, whole or not at all."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        scratch = path.with_name(f".{path.name}.{os.getpid()}")
        scratch.write_text(text)
        scratch.replace(path)


def parser_from_grammar(name: str, **options: Any) -> Lark:
    """The LALR parser of ``grammar/NAME``; its tables, 25 ms to make and 2 to load, are kept.

    They are a pickle, which could run anything when it is read: so only in a folder that nobody else can write to.
    """
    from lark import Lark, __version__

    text = resource("grammar", name).read_text()
    kept = cache_folder() / f"{name}-{__version__}"
    with suppress(OSError, MdtoolError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        if _is_ours(kept.parent) and (not kept.exists() or _is_ours(kept)):
            with locked(kept):  # lark writes it in place
                return Lark(text, parser="lalr", cache=str(kept), **options)
    return Lark(text, parser="lalr", **options)


def _is_ours(path: Path) -> bool:
    """Whether nobody else, root aside, can have written what is there."""
    stat = path.stat()
    return stat.st_uid == os.geteuid() and not stat.st_mode & 0o022


# --- texts that were found valid -------------------------------------------------------------------------------------

_HASHES = "valid"
_MOST = 4096  # hashes that are kept; the oldest go


def known_hash(mark: str) -> bool:
    """Whether ``remember_hash`` was called with ``mark`` before, and nobody else can have written it down."""
    with suppress(OSError):
        path = cache_folder() / _HASHES
        return _is_ours(path.parent) and _is_ours(path) and mark in path.read_text().split("\n")
    return False


def remember_hash(mark: str) -> None:
    path = cache_folder() / _HASHES
    kept: list[str] = []
    with suppress(OSError):
        kept = path.read_text().split()
    keep(path, "\n".join([*kept[1 - _MOST :], mark]) + "\n")
