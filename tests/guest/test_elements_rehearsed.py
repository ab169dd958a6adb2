"""A real QEMU takes what the elements become, and shows each device with the properties that were asked for."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import require
from test_elements import CASES, wanted_of

from mdtool.cli import main
from mdtool.machine.document import tree_from_file

#: Cases that QEMU 7.2 starts without a host side, each for another kind of device.
NAMES = (
    "aarch64",
    "channel",
    "controller-pcie",
    "controller-scsi",
    "controller-usb-numbers",
    "disk-ide",
    "disk-nvme",
    "disk-sata",
    "disk-scsi",
    "disk-usb",
    "disk-usb-bot",
    "disk-vhostuser",
    "disk-virtio",
    "filesystem",
    "filesystem-mtp",
    "input",
    "interface-options",
    "iommu-amd",
    "iommu-amd-placed",
    "iommu-intel",
    "memballoon",
    "memory",
    "hostdev-s390x",
    "rng",
    "serial",
    "shmem",
    "sound",
    "usb",
    "vcpus",
    "virtio-mmio",
    "watchdog",
)

#: QEMU's own names of types that it also knows by others.
ALIASES = {"lsi": "lsi53c895a", "ahci": "ich9-ahci", "virtio-iommu": "virtio-iommu-pci"}


@pytest.mark.parametrize("name", NAMES)
def test_dumped_as_wanted(name: str, tmp_path: Path) -> None:
    guest, wanted, _ = wanted_of(name)
    require(f"qemu-system-{ {'armv7l': 'arm'}.get(guest.arch, guest.arch) }")
    dumped = tmp_path / "dumped.yaml"
    assert main(["dump", str(CASES / f"{name}.xml"), "-o", str(dumped)]) == 0
    nodes = {place.node.origin: place.node for place in tree_from_file(dumped).places}
    for one in wanted:
        # libvirt gives the floppy controller no id, and a dump knows it by nothing else
        if one.driver not in ("", "isa-fdc"):
            node = nodes[one.origin]
            assert node.driver == ALIASES.get(one.driver, one.driver)
            shown = {**node.pins, **node.properties}
            differing = {
                key: (value, shown[key]) for key, value in one.properties.items() if key in shown and shown[key] != value
            }
            assert not differing, one.origin
