"""What commands print: results to stdout, progress and messages to stderr, colour on a terminal only."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable
from typing import TextIO

from mdtool.errors import Warn

_CODES = {"red": "31", "green": "32", "yellow": "33", "blue": "34", "dim": "2", "bold": "1"}


def coloured(text: str, colour: str, stream: TextIO | None = None) -> str:
    """``text`` in colour where ``stream`` (stdout) is a terminal and NO_COLOR is not set."""
    stream = stream or sys.stdout
    if not stream.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return f"\x1b[{_CODES[colour]}m{text}\x1b[0m"


def say(text: str) -> None:
    """A message for a person, to stderr.

    Past Python's buffer where there is a descriptor: a signal handler may say something in the midst of a message, and
    the buffer answers that with an error.
    """
    try:
        os.write(sys.stderr.fileno(), f"{text}\n".encode(errors="backslashreplace"))
    except (OSError, ValueError):  # no descriptor behind it, or nobody reads
        print(text, file=sys.stderr)


def warn_all(warnings: Iterable[Warn]) -> None:
    for warning in warnings:
        say(str(warning))
