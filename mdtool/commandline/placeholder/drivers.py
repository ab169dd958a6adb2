"""Devices that do not exist without their host: one row a driver."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from mdtool.commandline.option import Option
from mdtool.commandline.placeholder.backends import placeholder
from mdtool.machine.values import is_on
from mdtool.text import pattern

#: driver -> what keeps its place on its bus
SUBSTITUTES: Mapping[str, str] = {
    "vfio-pci": "pci-testdev",
    "vfio-pci-nohotplug": "pci-testdev",
    "vfio-ccw": "virtio-rng-ccw",
    "vfio-ap": "virtio-rng-ccw",
    "scsi-block": "scsi-hd",
    "scsi-generic": "scsi-hd",
    "vhost-user-gpu-pci": "virtio-gpu-pci",
    "vhost-user-vga": "virtio-vga",
    "virtio-gpu-gl-pci": "virtio-gpu-pci",
    "virtio-gpu-gl-device": "virtio-gpu-device",
    "virtio-vga-gl": "virtio-vga",
    "virtio-gpu-rutabaga-pci": "virtio-gpu-pci",
    "virtio-vga-rutabaga": "virtio-vga",
    "vhost-vsock-pci": "virtio-rng-pci",
    "vhost-vsock-pci-transitional": "virtio-rng-pci-transitional",
    "vhost-vsock-pci-non-transitional": "virtio-rng-pci-non-transitional",
    "vhost-vsock-device": "virtio-rng-device",
    "vhost-vsock-ccw": "virtio-rng-ccw",
    "vhost-scsi-pci": "virtio-scsi-pci",
    "vhost-scsi-pci-transitional": "virtio-scsi-pci-transitional",
    "vhost-scsi-pci-non-transitional": "virtio-scsi-pci-non-transitional",
    "virtio-input-host-pci": "virtio-keyboard-pci",
    "virtio-input-host-device": "virtio-keyboard-device",
    "ivshmem-doorbell": "ivshmem-plain",
    "ccid-card-emulated": "ccid-card-passthru",
    **{f"host-{arch}-cpu": f"max-{arch}-cpu" for arch in ("x86_64", "i386", "s390x")},
}
#: the property by which a device names its back end, of ``backends.ROWS`` -> the drivers that do not exist without one
_NAMES: Mapping[str, re.Pattern[str]] = {
    "drive": pattern(r"(scsi|ide)-(hd|cd|block|generic)$|floppy$|nvme$|usb-storage$|sd-card$|(virtio|vhost-user)-blk"),
    "netdev": pattern(r"virtio-net|e1000|igb$|rtl8139$|i8255|ne2k|pcnet$|vmxnet3$|usb-net$|tulip$|spapr-vlan$"),
    "chardev": pattern(
        r"(isa|pci|usb)-serial$|isa-parallel$|isa-debugcon$|virt(console|serialport)$|"
        r"usb-redir$|ccid-card-|spapr-vty$|sclp(lm)?console$"
    ),
    "memdev": pattern(r"pc-dimm$|nvdimm$|virtio-mem|ivshmem"),
    "fsdev": pattern(r"virtio-9p|vhost-user-fs"),
    "cryptodev": pattern(r"virtio-crypto"),
    "audiodev": pattern(r"hda-(duplex|micro|output)$|AC97$|ES1370$|sb16$|usb-audio$|virtio-sound|adlib$|gus$|cs4231a$"),
}
#: drivers whose chardev leads to a vhost-user process
VHOST_USER = frozenset(
    {f"vhost-user-{kind}{end}" for kind in ("fs", "blk", "scsi") for end in ("-pci", "-device", "")}
    | {"vhost-user-blk-pci-transitional", "vhost-user-blk-pci-non-transitional"}
)
#: what a substitute keeps of the properties: those of every device on its bus, and those that it shares
_COMMON = (
    "id bus addr multifunction rombar romfile acpi-index port channel scsi-id lun unit slot devno reg "
    "bootindex disable-legacy disable-modern iommu_platform ats packed page-per-vq drive chardev "
    "mount_tag fsdev memdev share-rw write-cache rerror werror num-queues queue-size max_outputs xres "
    "yres edid socket-id die-id core-id thread-id"
)
KEPT = frozenset(_COMMON.split())
#: what a substitute has not, though another one has
_LACKS = {"pci-testdev": frozenset({"bootindex"}), "virtio-9p-pci": frozenset({"bootindex", "queue-size"})}


def substitute_of(driver: str, properties: Mapping[str, Any], arch: str) -> str | None:
    """The driver that keeps a device's place in a machine of ``arch``; None for a device that is there by itself.

    >>> substitute_of("vfio-pci", {}, "x86_64"), substitute_of("vfio-pci", {}, "s390x")
    ('pci-testdev', 'virtio-rng-pci')

    An IOMMU whose ``eim`` KVM alone has is there without its properties.
    """
    other = driver if driver == "intel-iommu" and is_on(properties.get("eim")) else SUBSTITUTES.get(driver)
    return "virtio-rng-pci" if other == "pci-testdev" and arch == "s390x" else other


def substituted(driver: str, arguments: Mapping[str, Any], id: str) -> tuple[dict[str, Any], tuple[Option, ...]]:
    """The arguments of ``driver``, which keeps a device's place, and the back end ``id`` that it needs and they lack.

    >>> substituted("scsi-hd", {"driver": "scsi-block", "id": "d", "lun": 1, "drive": "s"}, "behind")
    ({'driver': 'scsi-hd', 'id': 'd', 'lun': 1, 'drive': 's'}, ())
    """
    behind = names_behind(driver)
    lacks = _LACKS.get(driver, frozenset()) | (_NAMES.keys() - {behind})
    named = {"driver": driver, **({"id": arguments["id"]} if "id" in arguments else {})}
    found = {**named, **{name: value for name, value in arguments.items() if name in KEPT and name not in lacks}}
    return (found, ()) if behind is None or behind in found else ({**found, behind: id}, (placeholder(behind, id),))


def names_behind(driver: str) -> str | None:
    """The property by which a device names its back end; None for one that has none.

    >>> names_behind("virtio-blk-pci"), names_behind("e1000e"), names_behind("qemu-xhci")
    ('drive', 'netdev', None)
    """
    return next((name for name, drivers in _NAMES.items() if drivers.match(driver)), None)
