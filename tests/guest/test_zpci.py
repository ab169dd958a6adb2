"""s390x: each PCI device has a zpci device beside it, whose numbers stay whatever comes and goes."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import require

from mdtool.cli import main
from mdtool.guest.xml import element_from_bytes
from mdtool.machine.document import tree_from_file
from mdtool.machine.tree import Tree
from mdtool.review.names import names

NIC = (
    "<interface type='user'><mac address='52:54:00:00:00:0{0}'/><model type='virtio'/><address type='pci'>{1}</address>"
    "</interface>"
)


def guest(path: Path, *nics: str) -> Path:
    kind = "<os><type arch='s390x' machine='s390-ccw-virtio'>hvm</type></os>"
    path.write_text(
        f"<domain type='qemu'><name>g</name><memory unit='MiB'>256</memory>{kind}"
        f"<devices>{''.join(nics)}<memballoon model='none'/></devices></domain>"
    )
    return path


def numbers(tree: Tree) -> dict[str, tuple[str | None, object]]:
    """Id of a PCI device -> uid and fid of the zpci device beside it."""
    found = (place.node for place in tree.places if place.node.driver == "zpci")
    return {str(node.properties["target"]): (node.address, {**node.pins, **node.properties}["fid"]) for node in found}


@pytest.mark.parametrize("adopted", [False, True])
def test_numbers_stay(tmp_path: Path, capsys: pytest.CaptureFixture[str], adopted: bool) -> None:
    require("qemu-system-s390x")
    one, two, three = (NIC.format(number, "") for number in (1, 2, 3))
    xml, described = guest(tmp_path / "g.xml", one, two), tmp_path / "g.yaml"
    made = ["dump", str(xml), "-o"] if adopted else ["reconcile", str(xml)]  # a dump of a machine that nobody reconciled
    assert main([*made, str(described)]) == 0
    assert numbers(tree_from_file(described)) == {"net0": ("0001", 0), "net1": ("0002", 1)}
    assert [named.name for named in names(tree_from_file(described)) if named.kind == "nic"] == ["eno1", "eno2"]

    guest(xml, two, three)
    assert main(["reconcile", str(xml), str(described), "--write-xml", str(tmp_path / "out.xml")]) == 0
    new = numbers(tree_from_file(described))
    assert "net0" not in new and new.pop("net1") == ("0002", 1)
    assert new == {"net2": ("0003", 0)}  # the uid of the one that went is retired
    written = element_from_bytes((tmp_path / "out.xml").read_bytes(), "out.xml").first("devices")
    assert written is not None
    assert [nic.get("address/zpci/@uid") for nic in written.all("interface")] == ["0x0002", "0x0003"]

    capsys.readouterr()
    assert main(["launch", str(xml), str(described), "--rehearse"]) == 0
    assert "0 differences that a guest sees" in capsys.readouterr().out
    described.write_text(described.read_text().replace("'0002'", "'0009'", 1))
    assert main(["reconcile", str(tmp_path / "out.xml"), str(described)]) == 0  # the XML is as it was written
    assert "'0009'" in described.read_text()
    other = (tmp_path / "out.xml").read_text().replace("0x0002", "0x0005")
    (tmp_path / "out.xml").write_text(other)
    assert main(["reconcile", str(tmp_path / "out.xml"), str(described)]) == 2  # both changed
    assert "zpci" in capsys.readouterr().err


def test_bridges_that_nobody_wrote_keep_theirs(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = "<source><address domain='{}' bus='0' slot='0' function='0'/></source>"
    there, more = (
        f"<hostdev mode='subsystem' type='pci'>{source.format(number)}{address}</hostdev>"
        for number, address in ((1, "<address type='pci' bus='1' slot='1'/>"), (2, ""))
    )
    xml, described = guest(tmp_path / "g.xml", there, more), tmp_path / "g.yaml"
    assert main(["reconcile", str(xml), str(described)]) == 0
    before = numbers(tree_from_file(described))
    assert before.keys() == {"hostdev0", "hostdev1", "pci.1"}
    assert main(["reconcile", str(xml), str(described), "--dry-run"]) == 0  # no changes
    guest(xml, there)
    assert main(["reconcile", str(xml), str(described)]) == 0
    assert numbers(tree_from_file(described)) == {name: before[name] for name in ("hostdev0", "pci.1")}
    capsys.readouterr()
