"""``mdtool names``: NICs and disks as a Linux guest calls them, and what an edit changes."""

from __future__ import annotations

from pathlib import Path

from mdtool.machine.document import document_from_text
from mdtool.machine.tree import Tree
from mdtool.review.names import names, pci_addresses, renamed
from tests.support import run_mdtool

PC = """\
mdtool: machine/1
machine: {type: pc-i440fx-7.2, arch: x86_64}
buses:
  ide.1: {type: IDE, devices: [{id: cd, driver: ide-cd, address: '0'}]}
  pci.0:
    type: PCI
    devices:
    - {id: net0, driver: virtio-net-pci, address: '03.0', properties: {mac: '52:54:00:00:00:01'}}
    - {id: net1, driver: e1000, address: '04.0', properties: {mac: '52:54:00:00:00:02', acpi-index: 7}}
    - {id: net2, driver: e1000, address: '05.1'}
    - id: br
      driver: pci-bridge
      address: '06.0'
      properties: {chassis_nr: 1}
      buses:
        br:
          type: PCI
          devices:
          - {id: net3, driver: e1000, address: '02.0'}
          - {id: net4, driver: e1000, address: '06.0'}
    - {id: disk0, driver: virtio-blk-pci, address: '07.0'}
"""
Q35 = """\
mdtool: machine/1
machine: {type: pc-q35-7.2, arch: x86_64}
buses:
  ide.2: {type: IDE, devices: [{id: sata, driver: ide-hd, address: '0'}]}
  pcie.0:
    type: PCIE
    devices:
    - {driver: ich9-ahci, address: '1f.2', origin: builtin}
    - {id: net0, driver: virtio-net-pci, address: '05.0'}
    - id: rp1
      driver: pcie-root-port
      address: '02.0'
      buses: {rp1: {type: PCIE, devices: [{id: net1, driver: virtio-net-pci, address: '00.0'}]}}
    - id: rp2
      driver: pcie-root-port
      address: '02.1'
      buses: {rp2: {type: PCIE}}
    - id: usb
      driver: qemu-xhci
      address: '06.0'
      buses: {usb.0: {type: usb-bus, devices: [{id: un, driver: usb-net, address: '1', properties: {mac: '52:54:00:00:00:0A'}}]}}
"""


def tree(text: str) -> Tree:
    return document_from_text(text, "guest.yaml").tree


def told(text: str) -> dict[str, str]:
    return {named.node: named.name for named in names(tree(text))}


def test_i440fx() -> None:
    assert told(PC) == {
        "net0": "ens3",
        "net1": "eno7",
        "net2": "ens5f1",
        "net3": "enp1s2",  # the number 2 belongs to slot 2 of bus 0
        "net4": "ens6",  # the bridge in slot 6 of bus 0 cannot be unplugged: its number is free
        "disk0": "/dev/disk/by-path/pci-0000:00:07.0",
    }


def test_q35() -> None:
    assert told(Q35) == {
        "net0": "enp0s5",
        "net1": "enp1s0",
        "un": "enx52540000000a",
        "sata": "/dev/disk/by-path/pci-0000:00:1f.2-ata-3.0",
    }


def test_virt_takes_the_slot_number_of_the_port() -> None:
    virt = Q35.replace("pc-q35-7.2, arch: x86_64", "virt-7.2, arch: aarch64")
    assert told(virt)["net1"] == "enp1s0"
    assert told(virt.replace("'02.0'\n", "'02.0'\n      properties: {slot: 4}\n"))["net1"] == "ens4"


def test_buses_are_numbered_depth_first() -> None:
    addresses = pci_addresses(tree(Q35.replace("'02.0'", "'03.0'")))
    assert addresses["net1"] == (2, 0, 0)  # rp2, at 02.1, comes first now


def test_an_edit_that_renames_a_nic() -> None:
    new = Q35.replace("'02.0'", "'03.0'")
    (change,) = renamed(tree(Q35), tree(new))
    assert (change.node, change.old, change.new) == ("net1", "enp1s0", "enp2s0")
    assert change.remedy == "acpi-index: 1 on net1 makes it eno1, wherever it sits from then on"
    assert renamed(tree(Q35), tree(Q35)) == []
    kept = Q35.replace(
        "driver: virtio-net-pci, address: '00.0'", "driver: virtio-net-pci, address: '00.0', properties: {acpi-index: 1}"
    )
    assert renamed(tree(kept), tree(kept.replace("'02.0'", "'03.0'"))) == []


def test_no_index_is_offered_where_it_does_not_reach_the_guest() -> None:
    """QEMU 8.0 was the first to describe the root bus of a q35 to the guest slot by slot."""
    for qemu, remedy in (("7.2.22", ""), ("8.0.0", "eno1")):
        old = Q35.replace("arch: x86_64", f"arch: x86_64, qemu: {qemu}")
        (change,) = renamed(tree(old), tree(old.replace("'05.0'", "'07.0'")))
        assert (change.old, change.new) == ("enp0s5", "enp0s7")
        assert remedy in change.remedy and bool(change.remedy) == bool(remedy)


def test_the_command(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(Q35)
    new.write_text(Q35.replace("'02.0'", "'03.0'"))
    done = run_mdtool("names", old)
    assert (done.returncode, [line.split()[2] for line in done.stdout.splitlines()][:2]) == (0, ["enp0s5", "enp1s0"])
    done = run_mdtool("names", new, "--against", old)
    assert (done.returncode, done.stdout.splitlines()[0].split("  ")[-1].strip()) == (1, "enp1s0 -> enp2s0")
    assert run_mdtool("names", old, "--against", old).returncode == 0
