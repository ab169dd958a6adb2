"""What takes the place of a back end: one row a property by which a device names it.

placeholder("netdev", "n0")  ->  -netdev '{"type": "hubport", "id": "n0", "hubid": ...}'
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mdtool.commandline.companion import Process
from mdtool.commandline.option import Option, is_flat, text_from_bag
from mdtool.commandline.table import IMPLIED
from mdtool.text import pattern

#: the program that answers in place of another process; never imported here: it brings sockets and threads
_SERVER = str(Path(__file__).with_name("server.py"))

Bag = dict[str, Any]
#: bytes; big enough that QEMU guesses the geometry of every disk of today (16383/16/63)
DISK_SIZE = 16 * 1024**3
#: bytes, by what is not a hard disk; a card's size is a power of two
SIZES = {"cdrom": 4 * 1024**2, "floppy": 1474560, "sd": 1024**3}


def hub_of(name: str) -> int:
    """The number of a hub of its own for each network: a NIC with none behind it offers other features."""
    return 1000 + zlib.crc32(name.encode()) % 10**9


def _disk(id: str, size: int = DISK_SIZE, read_only: bool = False) -> Bag:
    found = {"driver": "null-co", "node-name": id, "size": size, "read-zeroes": True}
    return {**found, "read-only": True} if read_only else found


def _memory(id: str, size: int | str = 64 << 20, share: bool = False) -> Bag:
    """Memory of any size, which the host does not need to have."""
    found = {"qom-type": "memory-backend-ram", "id": id, "size": size, "reserve": False}
    return {**found, "share": True} if share else found


#: property of a device -> (the option that creates what it names, its value by the id and what the guest sees of it)
ROWS: Mapping[str, tuple[str, Callable[..., Bag]]] = {
    "drive": ("blockdev", _disk),
    "netdev": ("netdev", lambda id: {"type": "hubport", "id": id, "hubid": hub_of(id)}),
    "chardev": ("chardev", lambda id: {"backend": "null", "id": id}),
    "rng": ("object", lambda id: {"qom-type": "rng-builtin", "id": id}),
    "memdev": ("object", _memory),
    "cryptodev": ("object", lambda id: {"qom-type": "cryptodev-backend-builtin", "id": id}),
    # The root folder is on every host, and nothing opens it before the guest runs
    "fsdev": ("fsdev", lambda id: {"fsdriver": "local", "id": id, "security_model": "none", "path": "/", "readonly": True}),
    "audiodev": ("audiodev", lambda id: {"driver": "none", "id": id}),
}
#: options whose value may be JSON
_TAKES_JSON = frozenset({"blockdev", "netdev", "object", "audiodev"})


def placeholder(kind: str, id: str, **facts: Any) -> Option:
    """The option behind a device's property ``kind``, under the id that the property says.

    >>> placeholder("rng", "rng0").words
    ('-object', '{"qom-type": "rng-builtin", "id": "rng0"}')
    """
    flag, make = ROWS[kind]
    return option_from_bag(flag, make(id, **facts))


def option_from_bag(flag: str, bag: Mapping[str, Any]) -> Option:
    """An option in JSON, where QEMU takes that."""
    json_ = Option(flag, "{}").with_bag(bag) if flag in _TAKES_JSON or not is_flat(bag) else None
    return json_ or Option(flag, text_from_bag(bag, IMPLIED.get(flag)))


def companion(kind: str, id: str, socket: Path) -> tuple[Option, Process]:
    """A chardev ``id`` to a process of mdtool's own, ``tpm2``, ``tpm1.2`` or ``vhost-user``, and that process."""
    process = Process((sys.executable, _SERVER, kind, str(socket)), socket)
    return Option("chardev", text_from_bag({"backend": "socket", "id": id, "path": str(socket)}, "backend")), process


def cpu_without_host(text: str) -> str:
    """The argument of ``-cpu`` without what only KVM has; TCG's nearest to the host's own CPU is ``max``.

    A PMU is kept: ARM's CPUs have one under TCG too.

    >>> cpu_without_host("host,kvm=off,hv_vendor_id=0123456789ab,-hypervisor,pmu=off")
    'max,hv_vendor_id=0123456789ab,-hypervisor,pmu=off'
    """
    model, *features = text.split(",")
    kept = [feature for feature in features if not _KVMS.match(feature)]
    return ",".join(["max" if model == "host" else model, *kept])


#: features of a CPU that KVM alone has: TCG ignores some and refuses others, by model and version; two are mere values
_KVMS = pattern(r"[+-]?(hv[-_](?!spinlocks=|vendor[-_]id=)|kvm|xen-|migratable|host-)")
