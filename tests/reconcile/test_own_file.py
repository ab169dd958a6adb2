"""A person's own file leaves open what libvirt worked out when it defined the guest: the description answers."""

from __future__ import annotations

import pytest
from support_sequences import parsed

from mdtool.errors import MdtoolError
from mdtool.guest.choices import made_up_mac
from mdtool.machine.tree import Tree
from mdtool.reconcile import reconcile

NIC = "<interface type='user'>{}<model type='{}'/></interface>"
#: what ``virsh dumpxml`` adds: a uuid, the addresses of interfaces, the ports and a spare one, the chosen firmware's state
DEFINED = "<uuid>4dea22b3-1d52-4d8f-a2a8-6f0b5d9f1c01</uuid>"
PORTS = "".join(f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in range(1, 5))


def guest(*nics: tuple[str, str], uuid: str = "", ports: str = "", os: str = "") -> str:
    """(the end of the MAC address, "" for none; the model) of each interface."""
    macs = [(f"<mac address='52:54:00:00:00:{end}'/>" if end else "", model) for end, model in nics]
    return f"""<domain type='qemu'><name>a</name>{uuid}<memory unit='MiB'>64</memory>
<os firmware='efi'><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>{os}</os><features><acpi/></features>
<devices>{ports}{"".join(NIC.format(*nic) for nic in macs)}</devices></domain>"""


def described(*nics: tuple[str, str]) -> Tree:
    secure = "<loader secure='yes'/>"
    return reconcile(parsed(guest(*nics, uuid=DEFINED, ports=PORTS, os=secure))).tree


@pytest.mark.parametrize(
    ("defined", "own"),
    [
        ([("01", "virtio")], [("", "virtio")]),
        ([("01", "virtio"), ("02", "virtio"), ("03", "e1000e")], [("", "e1000e"), ("", "virtio"), ("", "virtio")]),
        ([("01", "virtio"), ("02", "virtio")], [("02", "virtio"), ("", "virtio")]),
        ([("01", "virtio"), ("02", "virtio")], [("", "virtio-transitional"), ("02", "virtio")]),
    ],
)
def test_it_is_the_guest_that_libvirt_made_of_it(defined: list[tuple[str, str]], own: list[tuple[str, str]]) -> None:
    tree = described(*defined)
    result = reconcile(parsed(guest(*own)), tree)
    changed = [step.name for step in result.plan.changes if not step.name.startswith("pci.")]
    assert changed == (["net0"] if "virtio-transitional" in str(own) else [])
    assert result.tree.guest == tree.guest and result.tree.firmware == tree.firmware == {"kind": "pflash", "secure": True}
    assert {p.node.value("mac") for p in result.tree.places} == {p.node.value("mac") for p in tree.places}
    assert not reconcile(parsed(guest(*own)), result.tree).plan


def test_another_model_of_the_only_interface_keeps_its_address() -> None:
    step, *_ = reconcile(parsed(guest(("", "e1000e"))), described(("01", "virtio"))).plan.changes
    assert (step.name, step.action.name.lower(), step.driver) == ("net0", "replace", "e1000e")


def test_which_of_two_is_gone_has_to_be_said() -> None:
    tree = described(("01", "virtio"), ("02", "virtio"))
    with pytest.raises(MdtoolError, match=r"may be net0 \(52:54:00:00:00:01\), net1 \(52:54:00:00:00:02\)"):
        reconcile(parsed(guest(("", "virtio"))), tree)
    assert reconcile(parsed(guest()), tree).plan  # both: no question


def test_an_address_that_mdtool_made_up_stays_with_its_interface() -> None:
    """One comes and one goes, and nobody has to be asked: the first of the file is the one that it was."""
    alone, two = parsed(guest(("", "virtio"))), parsed(guest(("", "virtio"), ("", "virtio")))
    first = reconcile(alone).tree
    both = reconcile(two, first)
    assert [step.action.name.lower() for step in both.plan.changes if step.driver == "virtio-net-pci"] == ["add"]
    assert both.tree.by_name["net0"].node.value("mac") == made_up_mac(alone, 0)
    gone = [step.name for step in reconcile(alone, both.tree).plan.changes if step.driver == "virtio-net-pci"]
    assert gone == ["net1"]


def test_an_xml_that_lists_ports_decides_on_them() -> None:
    """One that lists none leaves them to libvirt, as it does for a guest that it defines."""
    tree = described()
    assert not reconcile(parsed(guest()), tree).plan
    fewer = PORTS.replace("<controller type='pci' index='4' model='pcie-root-port'/>", "")
    assert [step.name for step in reconcile(parsed(guest(ports=fewer)), tree).plan.changes] == ["pci.4"]
