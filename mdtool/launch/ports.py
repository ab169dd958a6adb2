"""TCP ports of this host that a launch needs: those that QEMU is to listen on, and those of servers that it connects to.

The kernel's list of listeners tells, so that nobody is connected to: a server may take its first client for its only one.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from mdtool.commandline.option import Option
from mdtool.commandline.sections import value_of

_LISTENS = "0A"
_ANYWHERE = frozenset({"0.0.0.0", "::"})
#: host names whose address is known without asking anybody
_HERE = {"": "0.0.0.0", "localhost": "127.0.0.1", "127.0.0.1": "127.0.0.1", "::1": "::1", "0.0.0.0": "0.0.0.0", "::": "::"}

Listener = tuple[str, int, str]


def listeners() -> list[Listener]:
    """(address, port, inode of the socket) of all that listens in this network namespace."""
    found = []
    for name, family, words in (("tcp", socket.AF_INET, 1), ("tcp6", socket.AF_INET6, 4)):
        with suppress(OSError):
            for row in Path(f"/proc/net/{name}").read_text().splitlines()[1:]:
                _, local, _, state, *_, inode = row.split()[:10]
                address, _, port = local.partition(":")
                numbers = struct.unpack(f">{words}I", bytes.fromhex(address))
                text = socket.inet_ntop(family, struct.pack(f"={words}I", *numbers))
                if state == _LISTENS:
                    found.append((text, int(port, 16), inode))
    return found


def sockets_of(pid: int | None) -> frozenset[str]:
    """The inodes of a process's sockets; none where they cannot be read."""
    found = set()
    with suppress(OSError):
        for entry in os.scandir(f"/proc/{pid}/fd"):
            with suppress(OSError):
                if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path)):
                    found.add(match[1])
    return frozenset(found)


def faults(option: Option, there: list[Listener]) -> Iterator[tuple[str, str]]:
    """(port as the option says it, what is wrong with it), where ``there`` listen others than the guest itself."""
    for host, port, serves in _named(option):
        own = _HERE.get(host.strip("[]"))
        if own is None or not 0 < port < 1 << 16:
            continue
        heard = any(
            number == port and (address == own or address in _ANYWHERE or own in _ANYWHERE) for address, number, _ in there
        )
        if heard and serves:
            yield str(port), f"port {port} is in use on this host"
        elif not heard and not serves:
            yield str(port), f"nothing listens on port {port} of this host"


def _named(option: Option) -> Iterator[tuple[str, int, bool]]:
    """(host, port, whether QEMU serves there) of what an option names."""
    bag = option.bag if option.name in ("vnc", "spice", "chardev", "netdev", "blockdev") else {}
    if option.name == "vnc" and "to" not in bag:
        host, _, display = str(bag.get("vnc", "")).rpartition(":")
        yield host, _number(display) + 5900, True
    elif option.name == "spice":
        for key in ("port", "tls-port"):
            yield str(bag.get("addr", "")), _number(bag.get(key)), True
    elif option.name == "chardev" and bag.get("backend") == "socket" and "to" not in bag:
        serves = value_of(bag.get("server", False)) is True
        if serves or not any(key.startswith("reconnect") for key in bag):
            yield str(bag.get("host", "")), _number(bag.get("port")), serves
    elif option.name == "netdev":
        forwards = bag.get("hostfwd", [])
        for text in forwards if isinstance(forwards, list) else [forwards]:
            if found := re.fullmatch(r"tcp:([^:]*):(\d+)-.*", str(text)):
                yield found[1], int(found[2]), True
    elif isinstance(server := bag.get("server"), dict) and server.get("type") == "inet":
        yield str(server.get("host")), _number(server.get("port")), False


def _number(text: Any) -> int:
    return int(text) if re.fullmatch(r"\d{1,5}", str(text)) else -65536
