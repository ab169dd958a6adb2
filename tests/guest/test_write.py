"""--write-xml: places are filled in, and nothing else of a guest XML changes by a byte."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from support import SAMPLES, mdtool

from mdtool.errors import InputError, Report
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.write import unwritten, xml_with_places
from mdtool.guest.xml import element_from_bytes
from mdtool.guest.xmltext import Edits, New
from mdtool.machine.document import tree_from_file
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.reconcile import Options, reconcile

FRAME = """<domain type='qemu'><name>w</name><memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='%s'>hvm</type></os><features><acpi/></features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
%s
  </devices>
</domain>
"""


def written(xml: str, tree: Tree | None = None, *, aliases: str = "kept", **options: str) -> tuple[str, Tree]:
    """(the XML with its places, the description)"""
    source = xml.encode()
    guest = guest_from_bytes(source, "guest.xml")
    new = reconcile(guest, tree, Options(**options)).tree
    return xml_with_places(source, guest, new, wanted_from_guest(guest, Report()), aliases=aliases), new


def element(tag: str, xml: str) -> str:
    """The last element of a name."""
    found = re.findall(rf"<{tag}\b[^>]*/>|<{tag}\b.*?</{tag}>", xml, re.DOTALL)
    return str(found[-1])


NEWS = [New("a", {"n": "1"}), New("b", {}, [New("c", {"v": "<&'\""})])]
C = "<c v='&lt;&amp;&apos;\"'/>"
#: before, after with %s for what is added, what stands before each added child, one step of indentation
STYLES = {
    "empty": ("<domain>\n  <x/>\n</domain>", "<domain>\n  <x>%s\n  </x>\n</domain>", "\n    ", "  "),
    "tabs": ("<domain>\n\t<x k='>' />\n</domain>", "<domain>\n\t<x k='>'>%s\n\t</x>\n</domain>", "\n\t\t", "\t"),
    "children": (
        "<domain>\n <x>\n  <y/> <!-- y -->\n </x>\n</domain>",
        "<domain>\n <x>\n  <y/> <!-- y -->%s\n </x>\n</domain>",
        "\n  ",
        " ",
    ),
    "one line": ("<domain><x><y/></x></domain>", "<domain><x><y/>%s</x></domain>", "", ""),
    "text": ("<domain>\n  <x>word</x>\n</domain>", "<domain>\n  <x>word%s</x>\n</domain>", "", ""),
    "blanks": ("<domain>\n  <x>\n  </x>\n</domain>", "<domain>\n  <x>%s\n  </x>\n</domain>", "\n    ", "  "),
    "crlf": ("<domain>\r\n  <x/>\r\n</domain>", "<domain>\r\n  <x>%s\r\n  </x>\r\n</domain>", "\r\n    ", "  "),
    "end inline": (
        "<domain>\n  <x>\n    <y/></x>\n</domain>",
        "<domain>\n  <x>\n    <y/>%s</x>\n</domain>",
        "\n    ",
        "  ",
    ),
}


@pytest.mark.parametrize("style", STYLES)
def test_children_are_added_in_the_style_of_their_neighbours(style: str) -> None:
    before, after, line, step = STYLES[style]
    root = element_from_bytes(before.encode(), "x")
    edits = Edits(before.encode(), root)
    edits.append(root.children[0], NEWS)
    inner = line + step if line else ""
    assert edits.text() == after % f"{line}<a n='1'/>{line}<b>{inner}{C}{line}</b>"
    element_from_bytes(edits.text().encode(), "x")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("<domain><x/></domain>", "<domain><x slot='0x1' bus='2'/></domain>"),
        ("<domain><x  />", None),
        ('<domain><x k="v"\n slot = "0x9" /></domain>', '<domain><x k="v"\n slot = "0x1" bus="2" /></domain>'),
        ("<domain><x bus='2' slot='0x1'>t</x></domain>", "<domain><x bus='2' slot='0x1'>t</x></domain>"),
        ("<domain><x a='/>' slot='>'/></domain>", "<domain><x a='/>' slot='0x1' bus='2'/></domain>"),
    ],
)
def test_attributes_are_set_where_they_are(before: str, after: str | None) -> None:
    if after is None:
        with pytest.raises(InputError):
            element_from_bytes(before.encode(), "x")
        return
    root = element_from_bytes(before.encode(), "x")
    edits = Edits(before.encode(), root)
    edits.set(root.children[0], {"slot": "0x1", "bus": "2"})
    assert edits.text() == after


def test_behind_an_element_is_behind_its_comment() -> None:
    before = b"<domain>\n  <x/>  <!-- the x,\n really --> <!-- yes -->\n  <y/>\n</domain>"
    root = element_from_bytes(before, "x")
    edits = Edits(before, root)
    edits.insert_after(root.children[0], [New("z")])
    assert edits.text() == before.decode().replace("yes -->\n", "yes -->\n  <z/>\n")


def test_what_is_changed_is_utf8_and_says_so() -> None:
    text = "<?xml version='1.0' encoding='iso-8859-1'?><domain><!-- é --></domain>"
    source = text.encode("latin-1")
    assert Edits(source, element_from_bytes(source, "x")).text() == text.replace("iso-8859-1", "UTF-8")
    source = "\ufeff<?xml version='1.0' encoding='UTF-8'?><domain><!-- é --></domain>".encode()
    assert Edits(source, element_from_bytes(source, "x")).text().encode() == source


@pytest.mark.parametrize("sample", ["web01", "legacy"])
@pytest.mark.parametrize("aliases", ["kept", "own", "ua"])
def test_what_was_there_stays(sample: str, aliases: str) -> None:
    """Taking the added elements and attributes out again gives the old file; writing twice, the same bytes."""
    source = (SAMPLES / sample / "guest.xml").read_text()
    text, tree = written(source, aliases=aliases)
    again, same = written(text, tree, aliases=aliases)
    assert again == text
    assert [place.name for place in same.places] == [place.name for place in tree.places]
    without = re.sub(r"\n *<(address type|alias name)=[^>]*/>", "", text)
    added = (
        r"\n    <controller type='(pci|virtio-serial)' index='\d+'( model='[^']*')?>(\n *<target.*/>)?\n    </controller>"
    )
    without = re.sub(added, "", without)
    without = re.sub(r"(<[^/>]*)>\n    </(?!devices)\w+>", r"\1/>", without)
    without = re.sub(r" index='\d+'/>", "/>", without)
    assert without == source


def test_every_device_has_its_place() -> None:
    """Reconciled from the written XML alone, with the description thrown away, nothing moves."""
    first = (SAMPLES / "web01" / "guest.xml").read_text()
    _, old = written(first)
    text, tree = written((SAMPLES / "web01" / "edited.xml").read_text(), old)
    _, alone = written(text)

    def where(tree: Tree) -> dict[str | None, object]:
        return {place.node.origin: place.address for place in tree.places}

    assert where(alone) == where(tree)
    _, fresh = written((SAMPLES / "web01" / "edited.xml").read_text())
    assert where(fresh) != where(tree), "the control: without addresses the edited guest moves"


def test_a_hand_moved_device_moves_in_the_xml() -> None:
    nic = "<interface type='user'>\n      <mac address='52:54:00:00:00:01'/>\n      <model type='e1000'/>\n    </interface>"
    text, tree = written(FRAME % ("pc-i440fx-7.2", nic))
    assert "<address type='pci' domain='0x0000' bus='0x00' slot='0x02' function='0x0'/>" in text
    _, tree = written(text, tree)  # the address is the XML's now
    from mdtool.machine.document import tree_with

    moved = tree_with(tree, {"net0": {"address": "09.0"}})
    commented = text.replace("slot='0x02'", "slot = '0x2' ")
    after, _ = written(commented, moved)
    assert after == commented.replace("slot = '0x2' ", "slot = '0x09' ")


def test_what_is_half_said_is_completed() -> None:
    devices = """    <controller type='pci' index='1' model='pcie-root-port'><target port='0x20'/></controller>
    <interface type='user'><model type='virtio'/><address type='pci'/></interface>
    <disk type='file' device='disk'><target dev='sda' bus='scsi'/></disk>
    <controller type='scsi' model='virtio-scsi'/><!-- disks -->
    <memballoon model='none'/>"""
    text, tree = written(FRAME % ("pc-q35-7.2", devices))
    assert "<target port='0x20' chassis='1'/><address type='pci' domain='0x0000' bus='0x00' slot='0x01' " in text
    assert "<controller type='scsi' model='virtio-scsi' index='0'><address " in text.replace("\n      ", "")
    assert re.search(r"<interface type='user'><model type='virtio'/><address type='pci' domain='0x0000' bus='0x01' slot="
                     r"'0x00' function='0x0'/><mac address='52:54:00:..:..:..'/></interface>", text)  # fmt: skip
    assert "<target dev='sda' bus='scsi'/><address type='drive' controller='0' bus='0' target='0' unit='0'/></disk>" in text
    assert "</controller><!-- disks -->\n    <controller type='pci' index='2'" in text
    assert written(text, tree)[0] == text


def test_what_libvirt_implies_is_added() -> None:
    """A memballoon and a USB controller that the XML does not name have places, too."""
    bare = re.sub(r" *<devices>.*</devices>\n", "", FRAME % ("pc-q35-7.2", ""), flags=re.DOTALL)
    text = re.sub(r"\n *", "", written(bare)[0])
    assert "<memballoon model='virtio'><address type='pci'" in element("devices", text)
    assert "<controller type='usb' index='0' model='qemu-xhci'><address type='pci'" in text
    text, _ = written(FRAME % ("pc-i440fx-7.2", "    <graphics type='vnc'/>"))
    assert element("video", text).split() == [
        "<video>", "<model", "type='cirrus'/>", "<address", "type='pci'", "domain='0x0000'", "bus='0x00'", "slot='0x02'",
        "function='0x0'/>", "</video>",
    ]  # fmt: skip


def test_aliases() -> None:
    nics = "\n".join(
        f"    <interface type='user'>{alias}<mac address='52:54:00:00:00:0{n}'/></interface>"
        for n, alias in enumerate(["<alias name='ua-lan'/>", "<alias name='net7'/>", ""])
    )
    names = {
        kind: re.findall(r"<alias name='([^']*)'/>", written(FRAME % ("pc-i440fx-7.2", nics), aliases=kind)[0])
        for kind in ("kept", "own", "ua")
    }
    assert names["kept"] == ["ua-lan", "net7"]
    assert names["own"][:2] == ["ua-lan", "net0"] and "net1" in names["own"] and "balloon0" in names["own"]
    assert names["ua"][:2] == ["ua-lan", "ua-net0"] and all(name.startswith("ua-") for name in names["ua"])
    with pytest.raises(ValueError, match="all"):
        written(FRAME % ("pc", nics), aliases="all")


def test_in_place_and_twice(tmp_path: Path) -> None:
    """--write-xml over the guest XML itself; the second run changes neither file."""
    guest, description = tmp_path / "g.xml", tmp_path / "g.yaml"
    guest.write_bytes((SAMPLES / "legacy" / "guest.xml").read_bytes())
    assert mdtool("reconcile", guest, description, "--write-xml", guest) == 0
    before = guest.read_bytes(), description.read_bytes()
    assert before[0].count(b"<address") == 10
    assert mdtool("reconcile", guest, description, "--write-xml", guest) == 0
    assert (guest.read_bytes(), description.read_bytes()) == before
    assert mdtool("reconcile", guest, description, "--dry-run", "--write-xml", guest) == 0
    assert mdtool("reconcile", guest, description, "--dry-run", "--write-xml", tmp_path / "no.xml") == 1
    assert not (tmp_path / "no.xml").exists()
    assert tree_from_file(description).by_name["net0"]


def test_an_element_knows_where_it_ends() -> None:
    source = b"<domain><a k='>'><b x='1'/></a><c/>\n<d>t</d><e  /></domain>"
    root = element_from_bytes(source, "x")
    found = [source[slice(*element.span)] for element in (*root, *root.children[0])]
    assert found == [b"<a k='>'><b x='1'/></a>", b"<c/>", b"<d>t</d>", b"<e  />", b"<b x='1'/>"]


def test_an_alias_of_the_machine_becomes_the_versioned_type_and_nothing_else_changes() -> None:
    text = (
        "<domain type='qemu'><name>a</name><memory unit='MiB'>64</memory>\n"
        "  <os><!-- new --><type arch='x86_64' machine='q35' >hvm</type></os>\n  <devices/>\n</domain>\n"
    )
    guest = guest_from_bytes(text.encode(), "a.xml")
    tree = Tree(machine={"type": "pc-q35-7.2"})
    assert xml_with_places(text.encode(), guest, tree, []) == text.replace("'q35'", "'pc-q35-7.2'")


def test_what_a_hand_added_is_named() -> None:
    tree = Tree(buses=(Bus("pci.0", "PCI", (Node("edu", id="mine", origin="hand"), Node("e1000", id="n", origin="x"))),))
    assert unwritten(tree) == ["mine"]
