"""What commands print: results to stdout, progress and messages to stderr, colour on a terminal only.

``guarded`` stands between every ``print`` and the terminal: text of a file, a guest or a monitor is never obeyed as an
escape sequence.  A result that another program reads (a description, a script) goes through ``result``.
"""

from __future__ import annotations

import codecs
import os
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from functools import cache
from typing import Any, TextIO, cast

from mdtool.errors import InputError, Warn
from mdtool.files import is_standard
from mdtool.records import dataclass
from mdtool.text import pattern, printable

#: ``--output-format``; the writers are in ``cli.findings``
FORMATS = ("text", "json", "jsonl", "github", "gitlab", "sarif", "junit")


@dataclass
class _Chosen:
    """``--color`` and ``--quiet`` of this command."""

    colour: str = "auto"
    quiet: bool = False


_chosen = _Chosen()


@contextmanager
def chosen_output(colour: str, *, quiet: bool) -> Iterator[None]:
    """``--color`` and ``--quiet``, inside of the ``with``."""
    before = _chosen.colour, _chosen.quiet
    _chosen.colour, _chosen.quiet = colour, quiet
    try:
        yield
    finally:
        _chosen.colour, _chosen.quiet = before


def _in_colour(stream: TextIO) -> bool:
    if _chosen.colour != "auto":
        return _chosen.colour == "always"
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


@cache
def width(absent: int) -> int:
    """The columns of the terminal, or what COLUMNS says; ``absent`` where there is no terminal."""
    try:
        return int(os.environ.get("COLUMNS", 0)) or os.get_terminal_size(1).columns or absent
    except (ValueError, OSError):
        return absent


_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}
#: around the codes of our own colours until they are written, so that nothing else can pass for one
_OWN = f"\0{os.urandom(8).hex()}:"
_COLOUR = pattern(f"{_OWN}([0-9]+)m")


#: characters that drawings and messages use, in ASCII; others are written as \\N escapes
_ASCII = {
    "─": "-",
    "│": "|",
    "└": "`",
    "├": "|",
    "±": "+-",
    "…": "...",
    "→": "->",
    "×": "x",
    "—": "-",
    "–": "-",
    "’": "'",
    "•": "*",
    "·": "-",
}


def _replaced(error: UnicodeError) -> tuple[str, int]:
    """Codec error handler ``mdtool``: the nearest characters that every encoding has."""
    if not isinstance(error, UnicodeEncodeError):
        raise error
    return "".join(map(in_ascii, error.object[error.start : error.end])), error.end


def in_ascii(char: str) -> str:
    """One character in ASCII: drawn alike, without its accent, or as an escape.

    >>> in_ascii("─"), in_ascii("é"), in_ascii("語"), in_ascii("\\udcff")
    ('-', 'e', '\\\\u8a9e', '\\\\udcff')
    """
    if char in _ASCII:
        return _ASCII[char]
    import unicodedata

    base = unicodedata.normalize("NFKD", char).encode("ascii", "ignore").decode()
    return base or char.encode("ascii", "backslashreplace").decode()


codecs.register_error("mdtool", _replaced)


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """``text`` in colour where ``stream`` (stdout) is a terminal and NO_COLOR is not set."""
    stream = stream or sys.stdout
    if not _in_colour(stream):
        return text
    if not isinstance(stream, Guarded):
        return f"\x1b[{_CODES[colour]}m{printable(text)}\x1b[0m"
    return f"{_OWN}{_CODES[colour]}m{text}{_OWN}0m"


class Guarded:
    """A stream that spells control characters in place of writing them."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        parts = _COLOUR.split(text)  # texts, and the number of a colour between each two
        shown = "".join(f"\x1b[{part}m" if number % 2 else printable(part) for number, part in enumerate(parts))
        charset = self.stream.encoding or "utf-8"
        self.stream.write(shown if shown.isascii() else shown.encode(charset, "mdtool").decode(charset))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def guarded() -> Iterator[None]:
    """stdout and stderr as ``Guarded``, inside of the ``with``."""
    before = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = (cast(TextIO, Guarded(stream)) if stream is not None else stream for stream in before)
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before


def result(text: str | bytes) -> None:
    """What another program reads, byte for byte; on a terminal, what a person can look at."""
    data = text.encode(errors="surrogateescape") if isinstance(text, str) else text
    stream: Any = sys.stdout
    if stream.isatty():
        stream.write(data.decode(errors="replace"))
        return
    stream.flush()
    binary = getattr(stream, "buffer", None)
    if binary is None:  # a stream of text alone
        getattr(stream, "stream", stream).write(data.decode(errors="replace"))
    else:
        binary.write(data)
        binary.flush()


#: what --quiet leaves
_URGENT = pattern(r"(^|: )(error|warning): ")


def say(text: str) -> None:
    """A message for a person, to stderr.

    Past Python's buffer where there is a descriptor: a signal handler may say something in the midst of a message, and
    the buffer answers that with an error.
    """
    if _chosen.quiet and not _URGENT.search(text):
        return
    text = printable(text)
    if sys.stderr is sys.stdout:  # both through a pager: what was printed comes first
        with suppress(OSError, RuntimeError):
            sys.stdout.flush()
    try:
        os.write(sys.stderr.fileno(), f"{text}\n".encode(sys.stderr.encoding or "utf-8", "mdtool"))
    except (OSError, ValueError):  # no descriptor behind it, or no reader
        print(text, file=sys.stderr)


def progress(done: int, total: int) -> None:
    """How far it is, on a line of a terminal that the next message replaces; of a ``total`` of 0 nothing is left.

    Nothing for a single one, and nothing through a pager.
    """
    if total != 1 and not _chosen.quiet and sys.stderr.isatty() and os.isatty(sys.stderr.fileno()):
        os.write(sys.stderr.fileno(), f"\r{done} of {total}\x1b[K\r".encode() if total else b"\r\x1b[K")


def wrote(*paths: str) -> None:
    """Say which files were written; standard output speaks for itself."""
    if files := [path for path in paths if not is_standard(path)]:
        say(f"wrote {' and '.join(files)}")


def asked(question: str, *, yes: bool = False) -> bool:
    """Whether a person agrees: ``yes`` beforehand, else the answer on a terminal.

    Raises InputError if standard input is no terminal.
    """
    if yes:
        return True
    if not sys.stdin.isatty():
        raise InputError("there is no terminal to ask for confirmation", remedy="agree with --yes", rule="not-agreed")
    print(f"{question} [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def said_kept(*kept: str | None) -> None:
    """Say which old files were kept beside the new ones (``files.write_over``)."""
    for path in kept:
        if path is not None:
            say(f"the old one is kept as {path}")


def warn_all(warnings: Iterable[Warn]) -> None:
    for warning in warnings:
        say(str(warning))
