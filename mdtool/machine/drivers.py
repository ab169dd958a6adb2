"""Names of drivers: QEMU takes several for some, and shows one (the alias table of its qdev monitor)."""

from __future__ import annotations

#: names that QEMU takes for a driver, and the driver
ALIASES = {
    "lsi": "lsi53c895a",
    "ahci": "ich9-ahci",
    "hda": "intel-hda",
    "e1000-82540em": "e1000",
    "ac97": "AC97",
    "es1370": "ES1370",
    "kvm-pci-assign": "pci-assign",
    "virtio-gpu": "virtio-gpu-pci",
    "virtio-input-host": "virtio-input-host-pci",
    **{
        f"virtio-{kind}": f"virtio-{kind}-pci"
        for kind in (
            "9p",
            "balloon",
            "blk",
            "crypto",
            "iommu",
            "keyboard",
            "mouse",
            "net",
            "rng",
            "scsi",
            "serial",
            "tablet",
        )
    },
}


def canonical_driver(name: str) -> str:
    """The name that QEMU shows.

    >>> canonical_driver("lsi")
    'lsi53c895a'
    """
    return ALIASES.get(name, name)


def same_driver(one: str, other: str) -> bool:
    return canonical_driver(one) == canonical_driver(other)
