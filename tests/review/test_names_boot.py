"""The names that ``mdtool names`` tells are those that a booted Linux gives."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdtool.qemu.dump import dump
from mdtool.review.names import DISK, NIC, names
from tests.review.linux import Linux, booted, linux_made
from tests.support import started


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> Linux:
    return linux_made(tmp_path_factory.mktemp("linux"))


def nic(number: int, bus: str, addr: str, more: str = "") -> list[str]:
    mac = f"52:54:00:00:00:{number:02x}"
    return ["-device", f"virtio-net-pci,id=net{number},bus={bus},addr={addr},mac={mac},romfile={more}"]


def disk(number: int, device: str) -> list[str]:
    return ["-blockdev", f"null-co,node-name=d{number},size=1048576,read-zeroes=on", "-device", f"{device},drive=d{number}"]


def port(number: int, addr: str, more: str = "") -> list[str]:
    return ["-device", f"pcie-root-port,id=rp{number},bus=pcie.0,addr={addr},chassis={number}{more}"]


#: machine type -> its devices: a topology a NIC
MACHINES = {
    "pc-i440fx-7.2": [
        *nic(1, "pci.0", "3"), *nic(2, "pci.0", "1e"),
        *nic(3, "pci.0", "5.0", ",multifunction=on"), *nic(4, "pci.0", "5.1"),
        "-device", "pci-bridge,id=br,bus=pci.0,addr=7,chassis_nr=1", *nic(5, "br", "2"),
        *nic(6, "pci.0", "8", ",acpi-index=9"),
        "-device", "pci-bridge,id=br2,bus=br,addr=4,chassis_nr=2", *nic(7, "br2", "1"),
        "-device", "pci-bridge,id=br3,bus=pci.0,addr=6,chassis_nr=3", *nic(8, "br3", "1"), *nic(9, "br3", "1f"),
        *disk(1, "virtio-blk-pci,bus=pci.0,addr=a"),
        "-device", "virtio-scsi-pci,id=scsi0,bus=pci.0,addr=b", *disk(2, "scsi-hd,id=s2,bus=scsi0.0,channel=0,scsi-id=3,lun=0"),
        *disk(3, "ide-hd,id=i3,bus=ide.1,unit=1"),
    ],
    "pc-q35-7.2": [
        *nic(1, "pcie.0", "3"), *port(1, "4.0", ",multifunction=on"), *port(2, "4.1"), *port(3, "2"),
        *nic(2, "rp1", "0"), *nic(3, "rp2", "0.0", ",multifunction=on"), *nic(4, "rp2", "0.3"),
        "-device", "pcie-pci-bridge,id=br,bus=rp3,addr=0", *nic(5, "br", "1"), *nic(6, "br", "9"),
        *port(4, "9", ",slot=6"), *nic(7, "rp4", "0", ",acpi-index=12"), *port(5, "a", ",slot=7"), *nic(8, "rp5", "0"),
        *nic(10, "pcie.0", "b", ",acpi-index=14"),
        "-device", "pxb-pcie,id=px,bus=pcie.0,addr=10,bus_nr=64",
        "-device", "pcie-root-port,id=rp9,bus=px,addr=0,chassis=9", *nic(9, "rp9", "0"),
        *port(6, "c"), *disk(2, "virtio-blk-pci,bus=rp6,addr=0"),
    ],
}  # fmt: skip


@pytest.mark.parametrize("machine", MACHINES)
def test_a_booted_linux_agrees(linux: Linux, qemu: str, tmp_path: Path, machine: str) -> None:
    words = [qemu, "-machine", machine, "-nodefaults", "-display", "none", "-accel", "tcg", "-m", "192", *MACHINES[machine]]
    with started([*words, "-S"], tmp_path) as session:
        tree = dump(session)
    told = names(tree)
    macs = {p.name: p.node.properties["mac"] for p in tree.places if "mac" in p.node.properties}
    nics = {str(macs[named.node]): named.name for named in told if named.kind == NIC}
    disks = {named.name for named in told if named.kind == DISK}
    seen, paths = {}, set()
    for kind, who, said in booted(linux, words):
        if kind == "NET":
            order = ("ID_NET_NAME_ONBOARD", "ID_NET_NAME_SLOT", "ID_NET_NAME_PATH")
            seen[who] = next(said[key] for key in order if key in said)
        elif "ID_PATH" in said:
            paths.add(f"/dev/disk/by-path/{said['ID_PATH']}")
    assert seen == nics
    assert paths == disks
