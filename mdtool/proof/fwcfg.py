"""fw_cfg: the files through which QEMU hands its firmware the ACPI tables, SMBIOS, the boot order and the memory map.

Read by DMA, the interface that every QEMU since 2.5 has: all files in one pipeline.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence

from mdtool.proof.qtest import QTest
from mdtool.records import dataclass, replace

SIGNATURE, UUID, RAM_SIZE, CPUS, MAX_CPUS, DIRECTORY = 0x00, 0x02, 0x03, 0x05, 0x0F, 0x19
SELECT, READ, ERROR = 0x08, 0x02, 0x01
LARGEST = 8 << 20  # a kernel or an initrd is larger; it is the host's file, and its size alone is recorded


@dataclass(frozen=True, slots=True)
class Door:
    """How a machine offers fw_cfg: ``high`` and ``low`` are the commands that write the halves of the DMA address."""

    high: str
    low: str
    scratch: int  # RAM that nothing else is in yet

    @classmethod
    def ports(cls) -> Door:
        """x86: ports 0x514 and 0x518; scratch RAM at 1 MiB, which every x86 machine has."""
        return cls("outl 0x514", "outl 0x518", 0x100000)

    @classmethod
    def memory(cls, base: int, scratch: int) -> Door:
        """arm's virt: 16 bytes behind the device's base."""
        return cls(f"writel {base + 16:#x}", f"writel {base + 20:#x}", scratch)


@dataclass(frozen=True, slots=True)
class File:
    """One fw_cfg file; ``data`` is None where it is larger than ``LARGEST``."""

    name: str
    size: int
    key: int
    data: bytes | None = None

    @property
    def sha256(self) -> str | None:
        return hashlib.sha256(self.data).hexdigest() if self.data is not None else None


def read_keys(qtest: QTest, door: Door, keys: Sequence[tuple[int, int]]) -> list[bytes]:
    """The content of each (key, size), read one after the other into the same scratch RAM."""
    commands: list[str] = []
    answers: list[int] = []
    buffer = door.scratch + 0x1000
    for key, size in keys:
        control = (key << 16 | SELECT | READ).to_bytes(4, "big") + size.to_bytes(4, "big") + buffer.to_bytes(8, "big")
        commands.append(f"write {door.scratch:#x} 0x10 0x{control.hex()}")
        commands.append(f"{door.high} {_swapped(door.scratch >> 32):#x}")
        commands.append(f"{door.low} {_swapped(door.scratch & 0xFFFFFFFF):#x}")
        answers.append(len(commands))
        commands.append(f"read {buffer:#x} {max(size, 1):#x}")
    lines = qtest.run(commands)
    return [bytes.fromhex(lines[at][2:])[:size] for at, (_, size) in zip(answers, keys, strict=True)]


def _swapped(word: int) -> int:
    """The DMA register is big-endian, and qtest writes in the machine's order, which is little."""
    return int.from_bytes(word.to_bytes(4, "little"), "big")


def directory(qtest: QTest, door: Door) -> Mapping[str, File]:
    """The files without their content, by name; {} where the machine has no fw_cfg.

    Listing is harmless; reading etc/acpi/tables makes QEMU build them, from the PCI devices as they are at that moment.
    """
    signature, count = read_keys(qtest, door, [(SIGNATURE, 4), (DIRECTORY, 4)])
    if signature != b"QEMU":
        return {}
    entries = read_keys(qtest, door, [(DIRECTORY, 4 + 64 * int.from_bytes(count, "big"))])[0][4:]
    return {file.name: file for file in (_entry(entries[at : at + 64]) for at in range(0, len(entries), 64))}


def with_data(qtest: QTest, door: Door, listed: Iterable[File]) -> Mapping[str, File]:
    """The same files with their content, but for those larger than ``LARGEST``."""
    files = list(listed)
    small = [file for file in files if file.size <= LARGEST]
    contents = read_keys(qtest, door, [(file.key, file.size) for file in small])
    read = {file.name: replace(file, data=data) for file, data in zip(small, contents, strict=True)}
    return {file.name: read.get(file.name, file) for file in files}


def _entry(data: bytes) -> File:
    size, key = int.from_bytes(data[0:4], "big"), int.from_bytes(data[4:6], "big")
    return File(data[8:64].split(b"\0")[0].decode("latin-1"), size, key)


def numbers(qtest: QTest, door: Door) -> dict[str, str]:
    """What fw_cfg has besides files: RAM below and above 4 GiB together, CPUs, UUID."""
    ram, cpus, most, uuid = read_keys(qtest, door, [(RAM_SIZE, 8), (CPUS, 2), (MAX_CPUS, 2), (UUID, 16)])
    said = {
        "ram": str(int.from_bytes(ram, "little")),
        "cpus": str(int.from_bytes(cpus, "little")),
        "maxcpus": str(int.from_bytes(most, "little")),
        "uuid": f"{uuid[:4].hex()}-{uuid[4:6].hex()}-{uuid[6:8].hex()}-{uuid[8:10].hex()}-{uuid[10:].hex()}",
    }
    return {name: value for name, value in said.items() if value.strip("0-")}  # arm has no RAM size there


def e820(data: bytes) -> dict[str, dict[str, str]]:
    """etc/e820, by start address: ``{"0x0": {"size": "0x8000000", "type": "RAM"}}``."""
    kinds = {1: "RAM", 2: "reserved", 3: "ACPI", 4: "NVS", 5: "unusable", 7: "persistent"}
    found = {}
    for at in range(0, len(data) - 19, 20):
        start, size, kind = (
            int.from_bytes(data[at + low : at + high], "little") for low, high in ((0, 8), (8, 16), (16, 20))
        )
        found[f"{start:#x}"] = {"size": f"{size:#x}", "type": kinds.get(kind, str(kind))}
    return found
