"""What fits at a place, as plain values: no server and no editor."""

from __future__ import annotations

import pytest

from mdtool.guest.devices import guest_from_bytes
from mdtool.integrations.lsp.analysis import Source, SourcePair, paired
from mdtool.integrations.lsp.completion import completions, xml_completions
from mdtool.integrations.lsp.cursor import cursor_at
from mdtool.integrations.lsp.hover import hover
from mdtool.machine.writer import yaml_from_tree
from mdtool.reconcile import reconcile
from mdtool.review.free import free_addresses

XML = """<domain type='qemu'><name>g</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-i440fx-7.2'>hvm</type></os><devices>
<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
<watchdog model='i6300esb'/>
<controller type='scsi' index='0' model='virtio-scsi'/>
<disk type='file' device='disk'><source file='/a'/><target dev='sda' bus='scsi'/></disk>
</devices></domain>"""


@pytest.fixture(scope="module")
def pair() -> SourcePair:
    text = yaml_from_tree(reconcile(guest_from_bytes(XML.encode(), "g.xml")).tree)
    return paired(Source("/x/g.yaml", text), Source("/x/g.xml", XML))


def xml_words(pair: SourcePair, before: str) -> list[str]:
    return [item.label for item in xml_completions(pair, before, len(before))]


def test_models_and_slots_in_xml(pair: SourcePair) -> None:
    assert {"ib700", "diag288"} <= set(xml_words(pair, "<domain><devices><watchdog model='"))
    assert "i6300esb" in xml_words(pair, "<domain><devices><watchdog model='i63")
    assert xml_words(pair, "<domain><devices><disk><source file='") == []
    slots = xml_words(pair, "<domain><devices><interface type='user'><address type='pci' slot='")
    taken = (
        {f"0x{str(place.node.address)[:2]}" for place in pair.tree.places if place.bus and place.bus.name == "pci.0"}
        if pair.tree
        else set()
    )
    assert slots and not taken & set(slots)
    assert xml_words(pair, "no XML at all") == []


def test_values_that_libvirt_knows(pair: SourcePair) -> None:
    assert "pause" in xml_words(pair, "<domain><devices><watchdog action='")
    assert xml_words(pair, "<domain><devices><disk><mirror><source/><driver cache='write") == ["writeback", "writethrough"]
    assert xml_words(pair, "<domain><memoryBacking><source type='mem") == ["memfd"]


@pytest.mark.parametrize(
    ("bus", "driver", "first"),
    [("pci.0", "", "06.0"), ("scsi0.0", "scsi-hd", "0:1:0"), ("usb.0", "usb-tablet", "1"), ("nothing", "", None)],
)
def test_free_addresses(pair: SourcePair, bus: str, driver: str, first: str | None) -> None:
    assert pair.tree is not None
    found = free_addresses(pair.tree, bus, driver)
    assert (found[0] if found else None) == first
    here = pair.tree.all_buses.get(bus)
    assert here is None or not {node.address for node in here.devices} & set(found)


def test_a_retired_address_is_offered_last(pair: SourcePair) -> None:
    from dataclasses import replace

    from mdtool.machine.tree import Retired

    assert pair.tree is not None
    tree = replace(pair.tree, retired=(Retired("interface/1", "pci.0", "06.0"),))
    assert free_addresses(tree, "pci.0", "")[0] == "07.0" and free_addresses(tree, "pci.0", "")[-1] == "06.0"


TYPED = """\
mdtool: machine/1
machine: {type: pc-i440fx-7.2, ar
boot: {str
buses:
  pci.0:
    ty
"""


@pytest.mark.parametrize(
    ("line", "expected", "not_expected"),
    [(1, "arch", "type"), (2, "strict", "menu"), (5, "type", "driver")],
)
def test_keys_of_the_schema(pair: SourcePair, line: int, expected: str, not_expected: str) -> None:
    row = TYPED.split("\n")[line]
    labels = [item.label for item in completions(pair, pair.tree, cursor_at(TYPED, line, len(row)))]
    assert expected in labels and not_expected not in labels


def test_hover_says_what_changed_since_the_save(pair: SourcePair) -> None:
    assert pair.description is not None and pair.tree is not None
    edited = pair.description.text.replace("52:54:00:00:00:01'}", "52:54:00:00:00:02'}")
    now = paired(Source("/x/g.yaml", edited), None)
    line = next(n for n, row in enumerate(edited.split("\n")) if "id: net0" in row)
    shown = hover(now, pair.tree, cursor_at(edited, line, 16), line + 1)
    assert shown is not None and "52:54:00:00:00:01 -> 52:54:00:00:00:02" in shown
    assert "since" not in (hover(pair, pair.tree, cursor_at(edited, line, 16), line + 1) or "")
