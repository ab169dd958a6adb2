"""QEMU as a process of this host: the arguments it was started with, and its files as it sees them."""

from __future__ import annotations

import errno
import os
import socket
import stat
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from io import BufferedReader
from itertools import pairwise

from mdtool.commandline.option import Option, options_from_words
from mdtool.errors import MdtoolError, Warned
from mdtool.text import pattern

PROGRAM = pattern(r"(.*/)?\.?(qemu-system-[\w-]+|qemu-kvm|kvm|qemu)(-wrapped)?")
_LOADER = pattern(r"(.*/)?ld[\w.-]*\.so[\w.]*")
#: names of a process for its own files
_OWN = pattern(r"/(?:proc/self|dev)/(fd/\d+|stdin)")


def arguments_of(pid: int | str, errors: str = "replace") -> list[str]:
    """Every word that a process was started with, also of one that is no QEMU; ``errors`` is for bytes that are no UTF-8.

    >>> len(arguments_of(os.getpid())) > 0
    True

    Raises OSError where they cannot be read.
    """
    with open(f"/proc/{pid}/cmdline", "rb") as file:
        return file.read().decode(errors=errors).split("\0")[:-1]


def program_name(pid: int | str) -> str:
    """What a process runs, without its folder; the system cuts it to 15 characters."""
    with suppress(OSError), open(f"/proc/{pid}/comm", errors="replace") as file:
        return file.read().strip()
    return "a process that ended"


def words_of(pid: int) -> list[str]:
    """The arguments of a QEMU, the program first.

    Raises OSError where they cannot be read, and LookupError if there is no such process.
    """
    words = arguments_of(pid)
    start = program_in(words)
    if start is None:
        raise LookupError(f"process {pid} is not a QEMU")
    return words[start:]


def program_in(words: Sequence[str]) -> int | None:
    """Where the program stands, first or behind its loader; None where these are not the words of a QEMU.

    >>> program_in(["/lib/ld-linux.so.2", "--argv0", "qemu", "/usr/bin/qemu-kvm", "-S"]), program_in(["vi", "qemu"])
    (3, None)
    """
    if words and _LOADER.fullmatch(words[0]):
        pairs = enumerate(pairwise(words), 1)
        return next((n for n, (before, word) in pairs if PROGRAM.fullmatch(word) and before != "--argv0"), None)
    return 0 if words and PROGRAM.fullmatch(words[0]) else None


def peer_of(connection: socket.socket) -> int | None:
    """The QEMU at the other end of a unix socket; None where that is another process, or one that is not seen from here.

    The kernel notes who began to listen: a server that QEMU inherited is known by who made it.
    """
    try:
        pid = struct.unpack("3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]
        words_of(pid)
    except (OSError, LookupError):
        return None
    return int(pid) or None


def pid_of_libvirt(name: str, connect: str | None) -> int | None:
    """The process of a guest that this host's libvirt runs; None where it runs elsewhere or its process is not seen."""
    session, system = f"{os.environ.get('XDG_RUNTIME_DIR', '/nonexistent')}/libvirt/qemu/run", "/run/libvirt/qemu"
    folders = {None: (system, session), "qemu:///system": (system,), "qemu:///session": (session,)}
    if "/" in name or "\0" in name:  # libvirt has no such guest
        return None
    connect = connect or os.environ.get("VIRSH_DEFAULT_CONNECT_URI") or os.environ.get("LIBVIRT_DEFAULT_URI") or None
    for folder in folders.get(connect, ()):
        with suppress(OSError, ValueError, LookupError), open(f"{folder}/{name}.pid") as file:
            pid = int(file.read())
            words = words_of(pid)
            said = words[words.index("-name") + 1]
            if said.removeprefix("guest=").partition(",")[0] == name.replace(",", ",,").partition(",")[0]:
                return pid
    return None


def file_of(pid: int | None, path: str) -> str:
    """A file that QEMU knows as ``path``: in its own root and its own folder, where it is known which process it is."""
    if pid is None:
        return path
    if found := _OWN.fullmatch(path):
        return f"/proc/{pid}/{found[1].replace('stdin', 'fd/0')}"
    inside = f"/proc/{pid}/root{path}" if path.startswith("/") else f"/proc/{pid}/cwd/{path}"
    try:
        os.stat(inside)
    except PermissionError:  # another user's process; the name is all there is
        return path
    except OSError:
        pass
    return inside


@contextmanager
def opened(pid: int | None, path: str) -> Iterator[BufferedReader]:
    """A file of QEMU's, to read; raises OSError, also for what is no file: reading a pipe would take from QEMU."""
    found = file_of(pid, path)
    if not stat.S_ISREG(os.stat(found).st_mode):
        raise OSError(errno.EINVAL, "it is not a file")
    with open(found, "rb") as file:
        yield file


def sha256_of(pid: int | None, path: str) -> str | None:
    """The hash of what is in a file of QEMU's; None where that cannot be read."""
    import hashlib

    with suppress(OSError, ValueError), opened(pid, path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
    return None


def options_from_process(pid: int, warn: Warned) -> list[Option]:
    """The options of a running QEMU; raises OSError, LookupError or MdtoolError where they cannot be read."""
    return list(expanded(options_from_words(words_of(pid)[1:]), warn, pid))


def expanded(options: Iterable[Option], warn: Warned, pid: int | None = None, stdin: str | None = None) -> Iterator[Option]:
    """The options with those of the files that they name for -readconfig in place; a file out of reach is warned of.

    ``stdin`` is what QEMU reads there, where a script says it.
    """
    for option in options:
        if option.name != "readconfig" or option.value is None:
            yield option
            continue
        try:
            if option.value == "/dev/stdin" and stdin is not None:
                text = stdin
            else:
                with opened(pid, option.value) as file:
                    text = file.read().decode(errors="replace")
            from mdtool.commandline.config import options_from_config  # few processes have such a file

            yield from options_from_config(text, option.value)
        except (OSError, ValueError, MdtoolError) as error:
            why = (error.strerror if isinstance(error, OSError) else None) or error
            warn(f"-readconfig {option.value} cannot be read, and what it says is left out: {why}")
