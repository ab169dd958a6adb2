"""The same backends with nothing behind them: null disks, unconnected NICs, null chardevs, no display.

A rehearsal needs nothing of the host and shows the guest the same devices.  A few drivers do not exist without their
host side (a passed-through device, a vhost-user process); another driver of the same bus keeps their place, and the
command line says which (``stand_in``), so that a comparison knows.
"""

from __future__ import annotations

import os
import sys
import zlib
from collections.abc import Callable, Mapping
from dataclasses import replace

from mdtool.commandline.option import Option
from mdtool.guest.platform.memory import RAM, memory_object
from mdtool.guest.platform.units import bytes_of, names
from mdtool.guest.xml import Element
from mdtool.launch.backends import BACKENDS, backend_of, null
from mdtool.launch.backends.base import NOTHING, Backend, Host, Make, Process, Properties, listed, option
from mdtool.launch.backends.block import is_empty, is_readonly, node_name, policies, sd_index
from mdtool.launch.backends.char import builtin_id
from mdtool.launch.backends.display import audio_ids, board_audio
from mdtool.machine.tree import Node

#: bytes; big enough that QEMU guesses the geometry of every disk of today (16383/16/63)
DISK_SIZE = 16 * 1024**3
_SIZES = {"cdrom": 4 * 1024**2, "floppy": 1474560}
_SD_SIZE = 1024**3  # a power of two, as cards have


def rehearsed(element: Element, node: Node | None, host: Host) -> Backend:
    """The host side of one element with nothing of the host in it."""
    make = REHEARSED.get(element.tag)
    made = make(element, node, host) if make is not None else backend_of(element, node, host)
    other = STAND_INS.get(node.driver) if node is not None else None
    return replace(made, stand_in=other) if other is not None and made.stand_in is None else made


#: drivers that need a host -> what keeps their place
STAND_INS: Mapping[str, str] = {
    "vfio-pci": "pci-testdev",
    "vfio-pci-nohotplug": "pci-testdev",
    "scsi-block": "scsi-hd",
    "scsi-generic": "scsi-hd",
    "vhost-user-gpu-pci": "virtio-gpu-pci",
    "vhost-user-vga": "virtio-vga",
    "virtio-gpu-gl-pci": "virtio-gpu-pci",
    "virtio-gpu-gl-device": "virtio-gpu-device",
    "virtio-vga-gl": "virtio-vga",
    "vhost-vsock-pci": "virtio-rng-pci",
    "vhost-vsock-pci-transitional": "virtio-rng-pci-transitional",
    "vhost-vsock-pci-non-transitional": "virtio-rng-pci-non-transitional",
    "vhost-vsock-device": "virtio-rng-device",
    "vhost-vsock-ccw": "virtio-rng-ccw",
    "vhost-scsi-pci": "virtio-scsi-pci",
    "vhost-scsi-pci-transitional": "virtio-scsi-pci-transitional",
    "vhost-scsi-pci-non-transitional": "virtio-scsi-pci-non-transitional",
    "virtio-input-host-pci": "virtio-keyboard-pci",
    "ivshmem-doorbell": "ivshmem-plain",
    "ccid-card-emulated": "ccid-card-passthru",
}
#: what a stand-in keeps of the properties: those of every device on its bus, and those that it shares
KEPT = names(
    "id bus addr multifunction rombar romfile acpi-index port channel scsi-id lun unit slot devno reg "
    "bootindex disable-legacy disable-modern iommu_platform ats packed page-per-vq drive chardev "
    "mount_tag fsdev memdev share-rw write-cache rerror werror num-queues queue-size max_outputs xres "
    "yres edid"
)
#: what a stand-in has not, though another one has
_LACKS = {"pci-testdev": frozenset({"bootindex"}), "virtio-9p-pci": frozenset({"bootindex", "queue-size"})}


def stand_in_properties(driver: str, properties: Mapping[str, object]) -> dict[str, object]:
    """The properties of a device that its stand-in ``driver`` takes."""
    lacks = _LACKS.get(driver, frozenset())
    return {name: value for name, value in properties.items() if name in KEPT and name not in lacks}


def _disk(element: Element, node: Node | None, host: Host) -> Backend:
    if element.get("target/@bus") == "sd":
        facts = {"driver": "null-co", "size": _SD_SIZE, "read-zeroes": True}
        return Backend(listed("-drive", **{"if": "sd"}, index=sd_index(element), **facts))
    if is_empty(element):
        return NOTHING
    size = _SIZES.get(element.get("@device") or "disk", DISK_SIZE)
    name, readonly = node_name(element), is_readonly(element)
    if element.get("@type") == "vhostuser":
        return served("vhost-user", f"chr-{name}", name, host) + Backend(properties={"chardev": f"chr-{name}"})
    words = option("-blockdev", driver="null-co", node_name=name, size=size, read_zeroes=True, read_only=readonly)
    # The drive's own properties stay; its I/O thread too, since that is of QEMU and not of the host
    return Backend(words, {**policies(element, node, host), "drive": name})


def served(kind: str, id: str, name: str, host: Host) -> Backend:
    """A chardev ``id`` to a process of our own that answers and does nothing."""
    path = host.runtime / f"mdtool-{os.getpid()}-{name}.null"
    words = listed("-chardev", "socket", id=id, path=str(path))
    return Backend(words, processes=(Process((sys.executable, null.__file__, kind, str(path)), path),))


def _interface(element: Element, node: Node | None, host: Host) -> Backend:
    if element.get("@type") == "hostdev":
        return NOTHING
    index = [device for device in host.guest.devices if device.tag == "interface"].index(element)
    id = f"host{node.id}" if node is not None and node.id is not None else f"hostnet{index}"
    words = option("-netdev", type="hubport", id=id, hubid=index)
    if node is None:
        nic = listed("-net", "nic", macaddr=element.get("mac/@address"), netdev=id, model=element.get("model/@type"))
        return Backend((*words, *nic))
    return Backend(words, {"netdev": id})


def _character(element: Element, node: Node | None, host: Host) -> Backend:
    if element.get("target/@type") == "guestfwd":
        return NOTHING
    id = f"char{node.id}" if node is not None and node.id is not None else f"char{builtin_id(element, host)}"
    words = listed("-chardev", "null", id=id)
    if node is not None:
        return Backend(words, {"chardev": id})
    return Backend((*words, "-serial", f"chardev:{id}")) if element.tag in ("serial", "console") else NOTHING


def _rng(_element: Element, node: Node | None, _host: Host) -> Backend:
    id = f"obj{node.id}" if node is not None else "objrng"
    return Backend(option("-object", qom_type="rng-builtin", id=id), {"rng": id})


def _smartcard(_element: Element, node: Node | None, _host: Host) -> Backend:
    id = f"char{node.id}" if node is not None else "charsmartcard"
    return Backend(listed("-chardev", "null", id=id), {"chardev": id})


def _filesystem(element: Element, node: Node | None, host: Host) -> Backend:
    if (element.get("driver/@type") or "path") == "virtiofs" and node is not None:
        chardev = f"chr-vu-{node.id}"
        return served("vhost-user", chardev, f"{node.id}", host) + Backend(properties={"chardev": chardev})
    # The root folder is on every host, and nothing opens it before the guest runs
    id = f"fsdev-{node.id}" if node is not None else "fsdev"
    words = listed("-fsdev", "local", security_model="none", id=id, path="/", readonly=True)
    return Backend(words, {"fsdev": id})


def _tpm(element: Element, node: Node | None, host: Host) -> Backend:
    if node is None:
        return NOTHING
    id = f"tpm-{node.id}"
    kind = "tpm1.2" if element.get("backend/@version") == "1.2" else "tpm2"
    words = listed("-tpmdev", "emulator", id=id, chardev=f"chr{id}")
    return served(kind, f"chr{id}", f"{node.id}", host) + Backend(words, {"tpmdev": id})


def _shmem(element: Element, node: Node | None, _host: Host) -> Backend:
    id = f"shmmem-{node.id}" if node is not None else "shmmem"
    holder = element.first("size")
    size = bytes_of(holder.text, holder.get("@unit") or "MiB", holder) if holder is not None else 4 * 1024**2
    return Backend(option("-object", qom_type="memory-backend-ram", id=id, size=size, share=True), {"memdev": id})


def _memory(element: Element, node: Node | None, host: Host) -> Backend:
    holder = element.first("target/size")
    id = f"mem{node.id}" if node is not None else "mem"
    size = bytes_of(holder.text, holder.get("@unit"), holder) if holder is not None else 0
    made = memory_object(host.guest, id, size, rehearse=True)
    return Backend(option("-object", **{key.replace("-", "_"): value for key, value in made.items()}), {"memdev": id})


def _hostdev(element: Element, node: Node | None, _host: Host) -> Backend:
    if element.get("@type") != "scsi" or node is None:
        return NOTHING
    id = f"{node.id}-drive"
    words = option("-blockdev", driver="null-co", node_name=id, size=DISK_SIZE, read_zeroes=True)
    return Backend(words, {"drive": id})


def _crypto(_element: Element, node: Node | None, _host: Host) -> Backend:
    id = f"obj{node.id}" if node is not None else "objcrypto"
    return Backend(option("-object", qom_type="cryptodev-backend-builtin", id=id), {"cryptodev": id})


def _pstore(element: Element, node: Node | None, _host: Host) -> Backend:
    holder = element.first("size")
    id = f"mem{node.id}" if node is not None else "mempstore"
    size = bytes_of(holder.text, holder.get("@unit"), holder) if holder is not None else 64 * 1024
    return Backend(option("-object", qom_type="memory-backend-ram", id=id, size=size, share=True), {"memdev": id})


def _audio(element: Element, _node: Node | None, _host: Host) -> Backend:
    return Backend(option("-audiodev", id=f"audio{element.get('@id')}", driver="none"))


def implied_silence(host: Host) -> Backend:
    """The audio backend that libvirt implies, silent."""
    if ids := audio_ids(host):
        return board_audio(host, ids[0])
    return Backend(option("-audiodev", id="audio1", driver="none")) + board_audio(host, "audio1")


def _nothing(_element: Element, _node: Node | None, _host: Host) -> Backend:
    return NOTHING


#: elements whose host side has a null version; the others have none, or none that needs the host
REHEARSED: dict[str, Make] = {
    "audio": _audio,
    "channel": _character,
    "console": _character,
    "crypto": _crypto,
    "disk": _disk,
    "filesystem": _filesystem,
    "graphics": _nothing,
    "hostdev": _hostdev,
    "input": _nothing,
    "interface": _interface,
    "memory": _memory,
    "parallel": _character,
    "pstore": _pstore,
    "redirdev": _character,
    "rng": _rng,
    "serial": _character,
    "shmem": _shmem,
    "smartcard": _smartcard,
    "tpm": _tpm,
    "video": _nothing,
    "vsock": _nothing,
}
assert REHEARSED.keys() <= BACKENDS.keys()

# --- <qemu:commandline> --------------------------------------------------------------------------------------------

#: options that speak of the guest alone; they are kept as they are
_KEPT_OPTIONS = frozenset(
    names("global cpu machine set rtc m smp numa boot smbios device no-acpi no-hpet no-reboot uuid name action")
)
#: objects that are QEMU's own, and what takes the place of one that is not
_OWN_OBJECTS = names("iothread throttle-group cryptodev-backend-builtin rng-builtin memory-backend-ram filter-")
_OBJECTS: Mapping[str, Callable[[Properties], Properties]] = {
    "rng-": lambda bag: {"qom-type": "rng-builtin", "id": bag.get("id")},
    "memory-backend-": lambda bag: {"qom-type": RAM, "id": bag.get("id"), "size": bag.get("size", "64M")},
    "cryptodev-": lambda bag: {"qom-type": "cryptodev-backend-builtin", "id": bag.get("id")},
}


def _null_object(bag: Properties) -> Properties | None:
    kind = str(bag.get("qom-type"))
    if kind.startswith(_OWN_OBJECTS):
        return bag
    return next((make(bag) for prefix, make in _OBJECTS.items() if kind.startswith(prefix)), None)


def _null_drive(bag: Properties) -> Properties:
    kept = {key: bag[key] for key in ("if", "id", "index", "bus", "unit", "media", "node-name", "read-only") if key in bag}
    return {**kept, "driver": "null-co", "size": DISK_SIZE, "read-zeroes": True}


#: option -> the same with nothing behind it; None where it goes
_NULL_OPTIONS: Mapping[str, Callable[[Properties], Properties | None]] = {
    "netdev": lambda bag: {"type": "hubport", "id": bag.get("id"), "hubid": _hub(str(bag.get("id")))},
    "chardev": lambda bag: {"backend": "null", "id": bag.get("id")},
    "audiodev": lambda bag: {"driver": "none", "id": bag.get("id")},
    "fsdev": lambda bag: {"fsdriver": "local", "id": bag.get("id"), "security_model": "none", "path": "/"},
    "drive": _null_drive,
    "blockdev": _null_drive,
    "object": _null_object,
    "fw_cfg": lambda bag: bag if "string" in bag else None,
}


def _hub(name: str) -> int:
    """A hub of its own for each name, away from those of <interface>."""
    return 1000 + zlib.crc32(name.encode()) % 10**9


def rehearsed_option(option: Option) -> Option | None:
    """An option of <qemu:commandline> as a rehearsal has it; None for one that speaks of the host.

    >>> rehearsed_option(Option("netdev", "tap,id=n,ifname=tap0"))
    Option(name='netdev', value='hubport,id=n,hubid=...')
    """
    if option.name in _KEPT_OPTIONS:
        return option
    make = _NULL_OPTIONS.get(option.name)
    made = make(option.bag) if make is not None else None
    return option.with_bag({key: value for key, value in made.items() if value is not None}) if made is not None else None


__all__ = ["REHEARSED", "STAND_INS", "implied_silence", "rehearsed", "rehearsed_option", "stand_in_properties"]
