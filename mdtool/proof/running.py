"""What a running guest sees, read from a second QEMU with the same command line and placeholder back ends.

A running QEMU has no qtest socket, and a fingerprint numbers bridges and sizes BARs, which would break a running guest.
The arguments of its process say how to start the same machine a second time.  What was plugged in since is not among
them: ``mdtool verify`` sees it.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mdtool.commandline.option import Option, words_from_options
from mdtool.commandline.placeholder.hostside import HostSide, file_here
from mdtool.commandline.placeholder.options import without_host
from mdtool.commandline.process import file_of, options_from_process, pid_of_libvirt, words_of
from mdtool.commandline.sections import flash_of
from mdtool.errors import InputError, MonitorError
from mdtool.guest.machines import version_of
from mdtool.proof.firmware import with_flash
from mdtool.qemu.commandline import arch_of
from mdtool.qemu.companions import running

SCHEMES = ("pid", "libvirt")
PROC = Path("/proc")


def is_running(source: str) -> bool:
    """
    >>> is_running("pid:1234"), is_running("web01.yaml")
    (True, False)
    """
    return source.partition(":")[0] in SCHEMES


@contextmanager
def argv_from_source(source: str) -> Iterator[list[str]]:
    """A command line with placeholder back ends that makes the machine of ``pid:N`` or of ``libvirt:NAME``.

    The files for -readconfig that it names are part of it.  What it needs beside QEMU runs for as long as the block
    does.  Raises MonitorError where no such process is there to be read, InputError where one of its files is not.
    """
    pid = _pid(source)
    try:
        binary = words_of(pid)[0] if pid is not None else ""
        options = options_from_process(pid, _refuse) if pid is not None else []
    except (OSError, LookupError):
        binary, options = "", []
    if not options:
        remedy = "name a guest that runs on this host, as a user who may read its process"
        raise MonitorError(f"{source}: no process of a QEMU can be read", remedy=remedy)
    with tempfile.TemporaryDirectory(prefix="mdtool-") as folder:
        host = HostSide(
            Path(folder), arch_of(binary), lambda path: file_here(file_of(pid, path)), lambda: version_of(binary)
        )
        made = without_host(options, host)
        with running(host.processes):
            yield [binary, *words_from_options(list(with_flash(made, _flash_files(pid, options))))]


def _flash_files(pid: int | None, options: list[Option]) -> dict[str, str | None]:
    """The firmware that the guest was started with and its variables, by bank and by block node, where they can be read."""
    found: dict[str, str | None] = {}
    for bank, flash in flash_of(options).items():
        path = file_of(pid, flash.file) if flash.file else None
        if path is not None and os.access(path, os.R_OK):
            found |= {f"pflash{bank}": path} | ({flash.node: path} if flash.node else {})
    return found


def _refuse(what: str) -> None:
    """Without one of its options it is another machine."""
    raise InputError(what, rule="readconfig")


def _pid(source: str) -> int | None:
    scheme, _, name = source.partition(":")
    if scheme == "pid":
        return int(name) if name.isascii() and name.isdigit() else None
    if (pid := pid_of_libvirt(name, None)) is not None:
        return pid
    # libvirt names the guest on the command line; of several connections' guests the first one found
    for folder in sorted(PROC.glob("[0-9]*"), key=lambda path: int(path.name)):
        try:
            if _guest_name(words_of(int(folder.name))) == name:
                return int(folder.name)
        except (OSError, LookupError):  # it ended, is another user's, or no QEMU
            continue
    return None


def _guest_name(words: list[str]) -> str | None:
    """
    >>> _guest_name(["/usr/bin/qemu-system-x86_64", "-name", "guest=web01,debug-threads=on", "-S"])
    'web01'
    """
    at = words.index("-name") + 1 if "-name" in words[:-1] else 0
    return words[at].partition(",debug-threads=")[0].removeprefix("guest=").replace(",,", ",") if at else None
