"""The description as text: reading what was written, errors with positions, edits that keep what people wrote."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtool.errors import MdtoolError
from mdtool.guest.devices import guest_from_bytes
from mdtool.machine.document import document_from_known_text, document_from_text, tree_with
from mdtool.machine.edit import rewritten
from mdtool.machine.schema import machine_schema
from mdtool.machine.tree import Bus, Node, Retired, Tree
from mdtool.machine.writer import canonical, json_from_tree, machine_from_tree, scalar, yaml_from_tree

words = st.sampled_from(
    ["net0", "05.0", "off", "on", "52:54:00:11:22:33", "1e3", "0x10", "null", "~", "", "a: b", "#x", "'", "é"]
)
texts = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)  # no device can have NUL
values = st.one_of(words, st.integers(-(2**63), 2**64), st.booleans(), st.none(), texts)
bags = st.dictionaries(st.sampled_from(["mac", "rombar", "serial", "x-a", "chassis"]), values, max_size=4)
sizes = st.one_of(st.integers(0, 2**45), st.sampled_from([512 << 20, 16 << 30, 3 << 40, 1536 << 10, 1025]))
slots = st.integers(0, 31).map(lambda slot: f"{slot:02x}.0")


@st.composite
def nodes(draw: st.DrawFn, depth: int = 1) -> list[Node]:
    found = []
    for address in draw(st.lists(slots, unique=True, max_size=5)):
        name = draw(st.sampled_from(["a", "b"])) + f"{depth}-" + address
        buses = (Bus(name, "PCIE", tuple(draw(nodes(depth + 1)))),) if depth < 3 and draw(st.booleans()) else ()
        found.append(
            Node(
                draw(st.sampled_from(["e1000", "virtio-net-pci", "pcie-root-port"])),
                id=None if not buses and draw(st.booleans()) else name + draw(st.sampled_from(["", "x", "y"])),
                address=address,
                origin=draw(st.sampled_from([None, "builtin", "hand", "interface/52:54:00:11:22:33"])),
                properties=draw(bags),
                pins={name: value for name, value in draw(bags).items() if value is not None},
                buses=buses,
            )
        )
    return found


@st.composite
def trees(draw: st.DrawFn) -> Tree:
    others = {"ide.0": Bus("ide.0", "IDE"), "main-system-bus": Bus("main-system-bus", "System", (Node("fw_cfg_io"),))}
    tree = Tree(
        memory=draw(st.fixed_dictionaries({}, optional={"size": sizes, "slots": st.just(4), "max": sizes})),
        guest={"name": "g"},
        machine={"type": "pc-q35-7.2", "properties": draw(bags)},
        cpu={"model": draw(words), "features": draw(bags)},
        buses=(
            Bus("pcie.0", "PCIE", tuple(draw(nodes())), host="q35-pcihost"),
            *(others[name] for name in sorted(draw(st.sets(st.sampled_from(sorted(others)))))),
        ),
        retired=tuple(Retired("disk/vda", "pcie.0", slot) for slot in draw(st.lists(slots, unique=True, max_size=2))),
    )
    names = [place.node.id for place in tree.places if place.node.id]
    if len(names) != len(set(names)):
        return Tree(machine={"type": "pc"}, buses=(Bus("pcie.0", "PCIE"),))
    return canonical(tree)


@given(trees())
@settings(max_examples=150, deadline=None)
def test_reading_gives_what_was_written(tree: Tree) -> None:
    text = yaml_from_tree(tree)
    assert document_from_text(text, "x").tree == tree
    assert yaml_from_tree(document_from_text(text, "x").tree) == text


@given(trees())
@settings(max_examples=50, deadline=None)
def test_what_is_written_satisfies_the_schema(tree: Tree) -> None:
    jsonschema.validate(json_from_tree(tree)["machine"], machine_schema())


def decorated(text: str) -> str:
    """A description as people keep them: a comment before and behind every line of the tree, and blank lines."""
    lines = []
    machine, dash, pins = text.partition("\n---\n")
    for number, line in enumerate(machine.splitlines()):
        indent = " " * (len(line) - len(line.lstrip()))
        lines += [f"{indent}# before {number}", f"{line}   # behind {number}", ""]
    return "\n".join(lines) + (dash + pins if dash else "\n")


@given(trees(), trees())
@settings(max_examples=150, deadline=None)
def test_an_edit_says_the_new_tree(old: Tree, new: Tree) -> None:
    for text in (yaml_from_tree(old), decorated(yaml_from_tree(old))):
        document = document_from_text(text, "x")
        assert document.tree == old
        assert rewritten(document, document.tree) == text
        edited = rewritten(document, new)
        assert canonical(document_from_text(edited, "x").tree) == new, edited
        assert rewritten(document_from_text(edited, "x"), new) == edited


def test_what_two_edits_add_at_one_place_each_keeps_its_own() -> None:
    """A new bus of the machine, and a device on the last port: both come where the text ends."""

    def machine(*buses: Bus, on_the_port: tuple[Node, ...] = ()) -> Tree:
        port = Node("pcie-root-port", id="pci.1", address="01.0", buses=(Bus("pci.1", "PCIE", on_the_port),))
        return Tree(machine={"type": "q35", "arch": "x86_64"}, buses=(*buses, Bus("pcie.0", "PCIE", (port,))))

    text = yaml_from_tree(machine())
    isa = Bus("isa.0", "ISA", (Node("isa-parallel", id="parallel0"),))
    ide = Bus(
        "ide.0", "IDE", (Node("ide-hd", id="ide0-0-0", address="0", properties={"heads": 16, "bios-chs-trans": "lba"}),)
    )
    new = machine(ide, isa, on_the_port=(Node("virtio-rng-pci", id="rng0", address="00.0"),))
    edited = rewritten(document_from_text(text, "x"), new)
    assert canonical(document_from_text(edited, "x").tree) == canonical(new)


@given(trees(), st.data())
@settings(max_examples=100, deadline=None)
def test_an_edit_of_one_node_leaves_all_other_lines(old: Tree, data: st.DataObject) -> None:
    if not old.places:
        return
    text = decorated(yaml_from_tree(old))
    place = data.draw(st.sampled_from(old.places))
    new = canonical(tree_with(old, {place.name: {"properties": {**place.node.properties, "x-new": 7}}}))
    edited = rewritten(document_from_text(text, "x"), new)
    gone = [line for line in text.splitlines() if line not in edited.splitlines()]
    assert len(gone) <= 2, gone  # a one-line node or the properties line, and at most its own comment


EXAMPLE = """\
# ours
mdtool: machine/1
machine: {type: pc-q35-7.2, arch: x86_64, qemu: 7.2}
buses:
  pcie.0:
    type: PCIE
    devices:
    - {driver: mch, address: 00.0, origin: builtin}

    # the web
    - id: net0
      driver: virtio-net-pci
      address: 05.0
      properties: {mac: 52:54:00:11:22:33, bootindex: 1, "romfile": off}
"""


def test_spelling_does_not_decide_the_type() -> None:
    tree = document_from_text(EXAMPLE, "x").tree
    assert tree.machine["qemu"] == "7.2"
    net0 = tree.by_name["net0"].node
    assert net0.address == "05.0"
    assert net0.properties == {"mac": "52:54:00:11:22:33", "bootindex": 1, "romfile": "off"}
    assert (net0.position.line, net0.position.column) == (11, 7) if net0.position else False


@pytest.mark.parametrize(
    ("find", "put", "error"),
    [
        ("id: net0", "idd: net0", "x:11:7: error: unknown key 'idd'; valid keys are id, driver, address, "),
        ("driver: virtio-net-pci", "drivers: a", "x:11:7: error: missing key 'driver'"),
        ("machine/1", "machine/2", "x:2:9: error: 'machine/2' is not understood; expected 'machine/1'"),
        ("type: PCIE\n", "type: PCIE\n    type: PCI\n", "x:7:5: error: duplicate key 'type'"),
        ("type: pc-q35-7.2, ", "", "x:3:10: error: missing key 'type'"),
        ("id: net0", "id: 0net", "x:11:11: error: malformed value '0net'"),
        ("    devices:\n", "    devices: []\n", "x:8:5: error: not YAML"),
        ("05.0", "[1]", "x:13:16: error: a sequence is no string"),
    ],
)
def test_errors_name_the_place(find: str, put: str, error: str) -> None:
    with pytest.raises(MdtoolError) as raised:
        document_from_text(EXAMPLE.replace(find, put, 1), "x")
    assert str(raised.value).startswith(error), str(raised.value)


@pytest.mark.parametrize(
    ("pins", "error"),
    [
        ('---\n{"mdtool": "pins/1",\n "net0": }\n', "x:17:10: error: the pins document is not JSON"),
        ('---\n{"mdtool": "pins/9"}\n', "x:15:1: error: the second document is not a pins document"),
    ],
)
def test_errors_in_the_pins_name_the_place(pins: str, error: str) -> None:
    with pytest.raises(MdtoolError) as raised:
        document_from_text(EXAMPLE + pins, "x")
    assert str(raised.value).startswith(error), str(raised.value)


def plain_data(text: str) -> Any:
    tree = document_from_text(text, "x").tree
    return machine_from_tree(tree)


PINNED = (
    EXAMPLE
    + """---
{"mdtool": "pins/1",
 "net0": {"rombar": 1},
 "mdtool:pci": {
  "net0": {"class": "Ethernet controller", "id": "1af4:1000", "of": "0123abcd"}}}
"""
)


@pytest.mark.parametrize(
    ("find", "put", "error"),
    [
        (
            '"id": "1af4:1000"',
            '"id": "ethernet"',
            "x:19:1: error: pins: id of net0 of mdtool:pci: 'ethernet' does not match",
        ),
        ('{"rombar": 1}', "[1]", "x:17:1: error: pins: net0: [1] is not of type 'object'"),
    ],
)
def test_the_pins_are_held_against_their_schema(find: str, put: str, error: str) -> None:
    document_from_text(PINNED, "x")
    with pytest.raises(MdtoolError) as raised:
        document_from_text(PINNED.replace(find, put), "x")
    assert str(raised.value).startswith(error), str(raised.value)


def test_a_text_that_was_valid_is_not_validated_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    document_from_known_text(PINNED, "x")
    with monkeypatch.context() as patch:
        patch.setattr("mdtool.machine.schema._validator", lambda name: pytest.fail(f"{name} is asked again"))
        document_from_known_text(PINNED, "x")
        with pytest.raises(pytest.fail.Exception):
            document_from_known_text(PINNED.replace("bootindex: 1", "bootindex: 2"), "x")
    bad = EXAMPLE.replace("driver: virtio-net-pci", "drivers: a")
    for _ in range(2):  # what is not valid stays so
        with pytest.raises(MdtoolError):
            document_from_known_text(bad, "x")


def test_the_text_of_a_hand_survives() -> None:
    document = document_from_text(EXAMPLE, "x")
    bus = document.tree.buses[0]
    new = Node("e1000", id="net1", address="04.0", properties={"mac": "52:54:00:11:22:44"})
    tree = replace(document.tree, buses=(replace(bus, devices=(*bus.devices, new)),))
    text = rewritten(document, tree)
    added = "    - id: net1\n      driver: e1000\n      address: '04.0'\n      properties: {mac: '52:54:00:11:22:44'}\n"
    assert text == EXAMPLE.replace("    # the web\n", added + "    # the web\n")


@pytest.mark.parametrize("text", ["off", "Yes", "1e3", "05.0", "~", "52:54:00:11:22:33", "0x1", "a: b", "- a", "", "é"])
def test_strings_that_yaml_would_read_otherwise_are_quoted(text: str) -> None:
    from ruamel.yaml import YAML

    for version in ((1, 1), (1, 2)):
        yaml = YAML(typ="safe", pure=True)
        yaml.version = version
        assert yaml.load(f"a: {scalar(text)}")["a"] == text
        assert yaml.load(f"{{a: {scalar(text)}, b: 1}}")["a"] == text


def test_what_is_no_file_is_written_to_and_stays(tmp_path: Path) -> None:
    """A pipe, a device: root could replace /dev/null by a file."""
    from mdtool.files import write_file

    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    reader = os.open(pipe, os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_file(pipe, "text")
        assert os.read(reader, 100) == b"text"
    finally:
        os.close(reader)
    assert stat.S_ISFIFO(pipe.stat().st_mode)
    assert os.listdir(tmp_path) == ["pipe"]


def test_a_file_is_replaced_whole(tmp_path: Path) -> None:
    from mdtool.files import write_file

    target = tmp_path / "guest.yaml"
    target.write_text("old")
    target.chmod(0o640)
    write_file(target, "new")
    assert target.read_text() == "new"
    assert target.stat().st_mode & 0o777 == 0o640
    assert [path.name for path in tmp_path.iterdir()] == ["guest.yaml"]


@pytest.mark.parametrize("size", ["512M", "'512M'", "0.5G", "524288K", "512MiB", "536870912"])
def test_sizes_are_read_as_people_write_them(size: str, tmp_path: Path) -> None:
    """And stay so in the file, for as long as the memory stays."""
    text = f"mdtool: machine/1\nmachine: {{type: pc-q35-7.2, arch: x86_64}}\nmemory: {{size: {size}}}\nbuses: {{}}\n"
    tree = document_from_text(text, "g.yaml").tree
    assert tree.memory["size"] == 512 << 20
    assert rewritten(document_from_text(text, "g.yaml"), tree) == text


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("memory: {size: 512X}", "g.yaml:3:16: error: malformed value '512X'; expected bytes, or 512M, 16G"),
        ("devices:", "g.yaml:3:9: error: nothing stands behind 'devices'; expected array, or no such key"),
        ("devices: [{id: 5x, driver: edu}]", "malformed value '5x'; expected a letter, then letters"),
        ('buses: {}\n--- {"mdtool": "pins/1",\n"a": {},\n "b": {}, "a": {}}', "g.yaml:6:1: error: pins: duplicate key 'a'"),
    ],
)
def test_a_slip_of_the_hand_is_told_in_words(line: str, said: str) -> None:
    with pytest.raises(MdtoolError) as caught:
        document_from_text(f"mdtool: machine/1\nmachine: {{type: pc-q35-7.2, arch: x86_64}}\n{line}\n", "g.yaml")
    assert said in str(caught.value)


def test_comments_around_the_pins_stay() -> None:
    """Behind the separator, above the data, among it and at the end of the file: none is lost when the pins change."""
    text = EXAMPLE + '---  # not by hand\n# above\n{"mdtool": "pins/1",\n# among\n "net0": {"vectors": 3}}\n# at the end\n'
    document = document_from_text(text, "x")
    assert document.tree.by_name["net0"].node.pins == {"vectors": 3}
    edited = rewritten(document, tree_with(document.tree, {"net0": {"pins": {"vectors": 4}}}))
    assert edited.startswith(EXAMPLE + "---  # not by hand\n# above\n{") and edited.endswith("}\n# among\n# at the end\n")
    assert document_from_text(edited, "x").tree.by_name["net0"].node.pins == {"vectors": 4}
    without = rewritten(document_from_text(edited, "x"), tree_with(document.tree, {"net0": {"pins": {}}}))
    assert document_from_text(without, "x").tree.by_name["net0"].node.pins == {}


def test_an_unresolved_conflict_is_named() -> None:
    with pytest.raises(MdtoolError, match=r"x:1:1: error: a merge conflict is not resolved"):
        document_from_text(f"<<<<<<< ours\n{EXAMPLE}=======\n{EXAMPLE}>>>>>>> theirs\n", "x")
    with pytest.raises(MdtoolError, match=r"x:2:1: error: a merge conflict is not resolved"):
        guest_from_bytes(b"<domain>\n<<<<<<< ours\n<a/>\n=======\n<b/>\n>>>>>>> theirs\n</domain>", "x")
