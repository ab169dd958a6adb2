"""``mdtool diff``: by meaning, between files, git revisions and running machines."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

from mdtool.machine.document import document_from_text
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.dump import dump
from mdtool.review.diff import diff
from tests.support import run_mdtool, started

TEXT = """\
mdtool: machine/1
guest: {name: web01}
machine: {type: pc-q35-7.2, arch: x86_64}
cpu: {model: qemu64, vcpus: 2}
buses:
  pcie.0:
    type: PCIE
    devices:
    - id: rp1
      driver: pcie-root-port
      address: '02.0'
      origin: controller/pci/1
      properties: {chassis: 1}
      buses:
        rp1:
          type: PCIE
          devices:
          - {id: net0, driver: virtio-net-pci, address: '00.0', properties: {mac: '52:54:00:00:00:01', rombar: 0}}
    - {id: video0, driver: VGA, address: '01.0'}
---
{"mdtool": "pins/1", "net0": {"vectors": 3}, "video0": {"vgamem_mb": 16}}
"""


def tree(text: str = TEXT) -> Tree:
    return document_from_text(text, "guest.yaml").tree


def changes(*edits: tuple[str, str], everything: bool = False) -> list[tuple[str, str, str, str]]:
    text = TEXT
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    found = diff(tree(), tree(text), everything=everything).changes
    return [(c.kind, c.node, c.property or f"{c.old} -> {c.new}", c.severity) for c in found]


def test_nothing_differs() -> None:
    assert not diff(tree(), tree())
    assert str(diff(tree(), tree())) == "no differences"


def test_formatting_order_and_spelling_are_no_difference() -> None:
    assert changes(
        ("{chassis: 1}", "{chassis: 0x1}  # the first"),
        ("rombar: 0", "rombar: '0'"),
        ("    - {id: video0, driver: VGA, address: '01.0'}\n", ""),
        ("    devices:\n    - id: rp1", "    devices:\n    - {driver: VGA, id: video0, address: '1.0'}\n    - id: rp1"),
    ) == []  # fmt: skip


def test_the_host_side_is_no_difference() -> None:
    edits = (("rombar: 0", "rombar: 0, netdev: n1"), ("{name: web01}", "{name: web02}"))
    assert changes(*edits) == []
    assert {change[2] for change in changes(*edits, everything=True)} == {"netdev", "name"}


def test_moved() -> None:
    assert changes(("address: '01.0'", "address: '05.0'")) == [("moved", "video0", "pcie.0 01.0 -> pcie.0 05.0", "address")]


def test_added_and_removed() -> None:
    line = "    - {id: video0, driver: VGA, address: '01.0'}\n"
    pins = ', "video0": {"vgamem_mb": 16}'
    assert changes((line, ""), (pins, "")) == [("removed", "video0", "pcie.0 01.0 -> None", "identity")]
    assert changes((line, line + "    - {id: net1, driver: e1000, address: '05.0'}\n"))[0][:2] == ("added", "net1")


def test_replaced_and_changed() -> None:
    assert changes(("driver: VGA", "driver: bochs-display")) == [("replaced", "video0", "VGA -> bochs-display", "identity")]
    assert changes(("rombar: 0", "rombar: 1")) == [("changed", "net0", "rombar", "firmware")]
    assert changes(("52:54:00:00:00:01", "52:54:00:00:00:02")) == [("changed", "net0", "mac", "identity")]
    assert changes(('"vectors": 3', '"vectors": 4')) == [("changed", "net0", "vectors", "property")]
    assert changes(("vcpus: 2", "vcpus: 4")) == [("changed", "cpu", "vcpus", "property")]


def test_a_property_that_went_away() -> None:
    assert changes((", rombar: 0", "")) == [("changed", "net0", "rombar", "firmware")]


def test_a_renamed_port_does_not_move_what_is_behind_it() -> None:
    edits = (("id: rp1", "id: port1"), ("        rp1:", "        port1:"))
    assert changes(*edits) == [("renamed", "rp1", "rp1 -> port1", "host")]  # no guest sees an id


def test_the_command(tmp_path: Path) -> None:
    old, new = tmp_path / "old.yaml", tmp_path / "new.yaml"
    old.write_text(TEXT)
    new.write_text(TEXT.replace("rombar: 0", "rombar: 1"))
    assert run_mdtool("diff", old, old).returncode == 0
    done = run_mdtool("diff", old, new)
    assert done.returncode == 1
    assert done.stdout == "~ net0             rombar: 0 -> 1 [firmware]\n1 changed; a guest sees 1 of them\n"
    (change,) = json.loads(run_mdtool("diff", "--json", old, new).stdout)["changes"]
    assert (change["node"], change["old"], change["new"]) == ("net0", 0, 1)
    done = run_mdtool("diff", old, tmp_path / "absent.yaml")
    assert (done.returncode, "cannot read" in done.stderr) == (2, True)


def test_git_revisions(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=t", "-c", "user.email=t@example.org", *words], cwd=tmp_path, check=True)

    git("init", "-q")
    path = tmp_path / "sub" / "web01.yaml"
    path.parent.mkdir()
    path.write_text(TEXT)
    git("add", ".")
    git("commit", "-qm", "one")
    path.write_text(TEXT.replace("rombar: 0", "rombar: 1"))

    for revision, where in (
        ("HEAD:sub/web01.yaml", tmp_path),
        ("HEAD:web01.yaml", path.parent),
        ("HEAD:./web01.yaml", path.parent),
    ):
        done = run_mdtool("diff", revision, path, cwd=where)
        assert (done.returncode, done.stdout[:25]) == (1, "~ net0             rombar"), done
    done = run_mdtool("diff", "HEAD:absent.yaml", path, cwd=tmp_path)
    assert done.returncode == 2
    assert "absent.yaml" in done.stderr


def test_a_running_machine(tmp_path: Path, qemu: str) -> None:
    words = [qemu, "-nodefaults", "-display", "none", "-accel", "tcg", "-S", "-m", "16", "-machine", "pc-q35-7.2"]
    nic = "e1000,id=net0,addr=%s,mac=52:54:00:00:00:01"
    with started([*words, "-device", nic % "05.0"], tmp_path) as session:
        path = tmp_path / "guest.yaml"
        path.write_text(yaml_from_tree(dump(session)))
    with started([*words, "-device", nic % "06.0"], tmp_path) as session:
        found = diff(tree(path.read_text()), dump(session))
    assert [str(change) for change in found.changes] == ["> net0             moved: pcie.0 05.0 -> pcie.0 06.0 [address]"]


def test_what_one_side_does_not_say_is_no_difference() -> None:
    """A description made from XML has no pins and none of the machine's own devices; a dump of it has both."""
    full = TEXT.replace("    - {id: video0", "    - {driver: mch, address: '00.0', origin: builtin}\n    - {id: video0")
    partial = TEXT[: TEXT.index("---")]
    assert not diff(tree(full), tree(partial))
    assert not diff(tree(partial), tree(full))


def test_a_guest_xml_is_as_its_dump(tmp_path: Path, qemu: str) -> None:
    """A device of the host, which a rehearsal replaces by another one, is the described one all the same."""
    host = "<address domain='0' bus='5' slot='0' function='0'/>"
    xml, description = tmp_path / "guest.xml", tmp_path / "guest.yaml"
    xml.write_text(f"""<domain type='qemu'><name>web01</name><memory unit='MiB'>64</memory>
      <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices><emulator>{qemu}</emulator>
      <hostdev mode='subsystem' type='pci' managed='yes'><source>{host}</source></hostdev></devices></domain>""")
    dumped = run_mdtool("dump", xml, "-o", description)
    assert dumped.returncode == 0, dumped.stderr
    assert "driver: vfio-pci" in description.read_text()
    same = run_mdtool("diff", description, xml, "--exit-code")
    assert (same.returncode, same.stdout) == (0, ""), same.stdout + same.stderr
