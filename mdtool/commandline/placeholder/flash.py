"""The firmware's flash: what a guest sees of it is how large it is."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from typing import Any, Literal

from mdtool.commandline.option import block_keys
from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.machine.sizes import bytes_of
from mdtool.machine.values import number

#: bytes; of flash files that are not there (Debian's OVMF 4M), and of ARM's virt, whose banks are of one size
_MISSING, _VIRT = (3653632, 540672), 64 << 20
_SECTOR = 512
_FAT = 1024 * 16 * 63 * _SECTOR  # of the disk that QEMU makes of a folder
#: of an image (qcow2, sparse VMDK, VDI, dynamic VHD): how it begins, and where; where its size is, and in which unit
_IMAGES: tuple[tuple[bytes, int, int, Literal["big", "little"], int], ...] = (
    (b"QFI\xfb", 0, 24, "big", 1),
    (b"KDMV", 0, 12, "little", _SECTOR),
    (b"\x7f\x10\xda\xbe", 64, 368, "little", 1),
    (b"conectix", 0, 48, "big", 1),
)


def may_be_empty(arch: str) -> bool:
    """Whether an empty file does for firmware that is not here: a board has other devices with firmware than without,
    whatever is in it.  PCs have the same, and an s390x's firmware is an ELF file.
    """
    return arch not in ("x86_64", "i386", "s390x")


def takes_kernel(arch: str) -> bool:
    """Whether a kernel is loaded where nothing runs: a PC's is a matter of its firmware's, and nothing shows it."""
    return arch not in ("x86_64", "i386")


def size_here(bag: Mapping[str, Any], host: HostSide) -> int | None:
    """Bytes of what is in a disk, where an option says them or its file is on this host: guests see the geometry that QEMU
    derives from them.
    """
    layers = list(_layers(bag, host))
    path = path_of(bag, host) or ""
    said = next((size for layer in layers if (size := bytes_of(layer.get("size"))) is not None), None)
    if said is not None or path.startswith("fat:") or layers[-1].get("driver") == "vvfat":
        return said if said is not None else _FAT
    offset = sum(bytes_of(layer.get("offset")) or 0 for layer in layers)
    here = host.file(path)
    try:
        return virtual_size(here) - offset if here is not None and os.path.getsize(here) >= _SECTOR else None
    except OSError:
        return None


def flash_unit(drive: Mapping[str, Any], host: HostSide) -> int:
    """The bank of a -drive: its ``unit`` or ``index``, else the first free one."""
    return number(drive.get("unit", drive.get("index")), len(host.flash))


def flash_size(bag: Mapping[str, Any], unit: int, host: HostSide) -> int:
    """Bytes: those of what is in it, else as such a bank has."""
    if (size := size_here(bag, host)) is not None:
        return size
    return _VIRT if host.arch in ("aarch64", "arm") else _MISSING[min(unit, 1)]


def virtual_size(path: str) -> int:
    """The size of what is in a file: the header of an image has it."""
    with open(path, "rb") as file:
        header = file.read(_SECTOR)
    for magic, at, size, order, unit in _IMAGES:
        if header.startswith(magic, at):
            return int.from_bytes(header[size : size + 8], order) * unit
    return os.path.getsize(path)


def path_of(bag: Mapping[str, Any], host: HostSide) -> str | None:
    """The file at the end of a chain of -blockdev, or of a -drive however it says it (``file.filename=``)."""
    *_, last = _layers(bag, host)
    below = last.get("file")
    return last.get("filename") or (below if isinstance(below, str) else None)


def _layers(bag: Mapping[str, Any], host: HostSide) -> Iterator[Mapping[str, Any]]:
    """The nodes of a chain, from the format down to what holds the bytes."""
    bag = block_keys(bag)
    yield bag
    below = bag.get("file")
    if isinstance(below, str) and below in host.drives:
        below = host.drives[below].bag
    if isinstance(below, Mapping):
        yield from _layers(below, host)
