"""Long output through a pager, as git does it: on a terminal only, and of one screen as it is."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO, cast

from mdtool.cli.output import Guarded
from mdtool.files import on_path

#: the options of less if LESS is not set: end at once where all is on one screen, show colours, leave the text there
_LESS = "FRX"


def pager() -> str | None:
    """The shell command of $MDTOOL_PAGER, $PAGER or less; None where it is empty or cat, or where less is missing."""
    for name in ("MDTOOL_PAGER", "PAGER"):
        if (command := os.environ.get(name)) is not None:
            return None if command.strip() in ("", "cat") else command
    return "less" if on_path("less") is not None else None


class _Piped(io.TextIOWrapper):
    """What is written to a pager, which shows it on a terminal."""

    def isatty(self) -> bool:
        return True


@contextmanager
def paged() -> Iterator[None]:
    """stdout, and stderr where it is the terminal too, through the pager inside of the ``with``."""
    command = pager()
    if command is None or not sys.stdout.isatty() or os.environ.get("TERM") == "dumb":
        yield
        return
    environment = {"LESS": _LESS, **os.environ}
    process = subprocess.Popen(["/bin/sh", "-c", f"exec {command}"], stdin=subprocess.PIPE, env=environment)
    assert process.stdin is not None
    stream = _Piped(cast(io.BufferedWriter, process.stdin), encoding=sys.stdout.encoding, write_through=True)
    before = sys.stdout, sys.stderr
    sys.stdout.flush()
    sys.stdout = cast(TextIO, Guarded(stream))
    if sys.stderr.isatty():
        sys.stderr = sys.stdout
    try:
        yield
    finally:
        sys.stdout, sys.stderr = before
        with suppress(BrokenPipeError):  # it was left before all was shown
            stream.close()
        _wait(process)


def _wait(process: subprocess.Popen[bytes]) -> None:
    """Until the pager is left, whatever keys are pressed in it."""
    while True:
        with suppress(KeyboardInterrupt):  # the pager's to obey
            process.wait()
            return
