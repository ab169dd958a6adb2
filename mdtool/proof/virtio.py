"""What a virtio device offers: feature bits, queues, its own configuration (a NIC's MAC).

Read through the capability that virtio 1.0 has for this (VIRTIO_PCI_CAP_PCI_CFG): configuration space alone, so that
no BAR has to be mapped.  A legacy-only device has no such capability and is left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from mdtool.proof.pci import Found, Way
from mdtool.proof.pcifields import VIRTIO, capabilities
from mdtool.proof.qtest import QTest

COMMON, DEVICE, ACCESS = 1, 4, 5
FEATURE_SELECT, FEATURES, QUEUES, QUEUE_SIZE = 0x00, 0x04, 0x12, 0x18
CONFIG_BYTES = 64

#: feature bits that every virtio device has, and those of some types (by PCI device id - 0x1040)
FEATURE_NAMES: Mapping[int, str] = {
    24: "notify-on-empty",
    27: "any-layout",
    28: "indirect-desc",
    29: "event-idx",
    32: "version-1",
    33: "access-platform",
    34: "ring-packed",
    35: "in-order",
    36: "order-platform",
    37: "sr-iov",
    38: "notification-data",
    40: "ring-reset",
}
FEATURE_NAMES_OF: Mapping[int, str] = {
    1: "csum guest-csum ctrl-guest-offloads mtu - mac gso guest-tso4 guest-tso6 guest-ecn guest-ufo host-tso4 "
    "host-tso6 host-ecn "
    "host-ufo mrg-rxbuf status ctrl-vq ctrl-rx ctrl-vlan ctrl-rx-extra guest-announce mq ctrl-mac-addr",
    2: "barrier size-max seg-max - geometry ro blk-size scsi - flush topology config-wce mq discard write-zeroes",
    3: "size multiport emerg-write",
    5: "must-tell-host stats-vq deflate-on-oom free-page-hint page-poison reporting",
    8: "inout hotplug change t10-pi",
    16: "virgl edid resource-uuid resource-blob context-init",
}
#: what the first bytes of a device's configuration are; how big a disk is, which is the host's, is no part of it
CONFIG_NAMES: Mapping[int, Sequence[tuple[int, int, str]]] = {
    1: ((0, 6, "mac"), (6, 2, "status"), (8, 2, "queue pairs"), (10, 2, "mtu")),
    2: ((8, 4, "size max"), (12, 4, "seg max"), (20, 4, "block size")),
}


def is_virtio(one: Found) -> bool:
    config = one.function.config
    return one.function.number(0, 2) == VIRTIO and {COMMON, DEVICE, ACCESS} <= set(_structures(config))


def _structures(config: bytes) -> dict[int, int]:
    """Where the capability of each kind of virtio structure is; the first of a kind counts."""
    found: dict[int, int] = {}
    for offset, number in capabilities(config):
        if number == 0x09:
            found.setdefault(config[offset + 3], offset)
    return found


def facts(qtest: QTest, way: Way, found: Iterable[Found]) -> dict[str, dict[str, str]]:
    """By PCI path: ``{"02.0/00.0": {"features": "0x130bf8024", "names": ..., "queues": "3", "mac": ...}}``."""
    return {one.function.path: _facts(qtest, way, one) for one in found if is_virtio(one)}


def _facts(qtest: QTest, way: Way, one: Found) -> dict[str, str]:
    at = _structures(one.function.config)
    commands: list[str] = []
    answers: list[int] = []

    def aim(kind: int, offset: int, size: int) -> None:
        capability = at[kind]
        commands.extend(way.write(one.bus, one.devfn, at[ACCESS] + 4, one.function.config[capability + 4]))
        base = one.function.number(capability + 8, 4)
        commands.extend(way.write(one.bus, one.devfn, at[ACCESS] + 8, base + offset))
        commands.extend(way.write(one.bus, one.devfn, at[ACCESS] + 12, size))

    def read(kind: int, offset: int, size: int) -> None:
        aim(kind, offset, size)
        commands.extend(way.read(one.bus, one.devfn, at[ACCESS] + 16))
        answers.append(len(commands) - 1)

    for half in (0, 1):
        aim(COMMON, FEATURE_SELECT, 4)
        commands.extend(way.write(one.bus, one.devfn, at[ACCESS] + 16, half))
        read(COMMON, FEATURES, 4)
    read(COMMON, QUEUES, 2)
    read(COMMON, QUEUE_SIZE, 2)
    for offset in range(0, CONFIG_BYTES, 4):
        read(DEVICE, offset, 4)
    lines = qtest.numbers(commands)
    low, high, queues, size, *config = (lines[answer] for answer in answers)
    kind = one.function.number(2, 2) - 0x1040
    if kind < 0:  # a transitional device has the old ids; its type is the subsystem's
        kind = one.function.number(0x2E, 2)
    features = high << 32 | low
    # QEMU answers all ones behind the end of a configuration.
    data = b"".join(word.to_bytes(4, "little") for word in config).rstrip(b"\xff")
    said = {"features": f"{features:#x}", "names": " ".join(feature_names(kind, features))}
    said.update({"queues": str(queues & 0xFFFF), "queue size": str(size & 0xFFFF)})
    for start, width, name in CONFIG_NAMES.get(kind, ()):
        part = data[start : start + width]
        if len(part) < width:
            break
        said[name] = part.hex(":") if name == "mac" else str(int.from_bytes(part, "little"))
    said["config"] = data.hex()
    return said


def feature_names(kind: int, features: int) -> list[str]:
    """
    >>> feature_names(1, 1 << 5 | 1 << 32)
    ['mac', 'version-1']
    """
    own = dict(enumerate(FEATURE_NAMES_OF.get(kind, "").split()))
    names = [FEATURE_NAMES.get(bit) or own.get(bit, f"bit-{bit}") for bit in range(64) if features >> bit & 1]
    return [name if name != "-" else "unnamed" for name in names]
