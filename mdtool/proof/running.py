"""What a running guest sees, read from another machine like it: QEMU's command line, started anew with nothing behind it.

A running QEMU has no qtest door, and a fingerprint numbers bridges and sizes BARs, which no running guest would forgive.
Its process says how it was started, so that the same machine stands still a second time.  What was plugged in since is
not on a command line: ``mdtool verify`` sees it.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mdtool.commandline.option import options_from_words, words_from_options
from mdtool.errors import MonitorError
from mdtool.qemu.commandline import null_options

SCHEMES = ("pid", "libvirt")
PROC = Path("/proc")


def is_running(source: str) -> bool:
    """
    >>> is_running("pid:1234"), is_running("web01.yaml")
    (True, False)
    """
    return source.partition(":")[0] in SCHEMES


def argv_from_source(source: str) -> list[str]:
    """A command line, null back ends and all, that makes the machine of ``pid:N`` or of ``libvirt:NAME``.

    Raises MonitorError where no such process is there to be read, InputError where a device is nothing without its host.
    """
    scheme, _, name = source.partition(":")
    if scheme == "pid":
        words = _words(PROC / name)
    else:  # libvirt names the guest on the command line; of several connections' guests the first one found
        words = next((words for words in _all_words() if _guest_name(words) == name), [])
    if not words:
        remedy = "name a guest that runs on this host, as a user who may read its process"
        raise MonitorError(f"{source}: no process of a QEMU can be read", remedy=remedy)
    binary, *rest = words
    return [binary, *words_from_options(null_options(options_from_words(rest))), "-display", "none"]


def _all_words() -> Iterator[list[str]]:
    for folder in sorted(PROC.glob("[0-9]*"), key=lambda path: int(path.name)):
        yield _words(folder)


def _words(process: Path) -> list[str]:
    try:
        return (process / "cmdline").read_bytes().decode(errors="replace").split("\0")[:-1]
    except OSError:  # it ended, or is another user's
        return []


def _guest_name(words: list[str]) -> str | None:
    """
    >>> _guest_name(["/usr/bin/qemu-system-x86_64", "-name", "guest=web01,debug-threads=on", "-S"])
    'web01'
    """
    at = words.index("-name") + 1 if "-name" in words[:-1] else 0
    return words[at].partition(",debug-threads=")[0].removeprefix("guest=").replace(",,", ",") if at else None
