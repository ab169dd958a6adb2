"""grammar/qtree.lark: every line form, errors with line and column, nothing lost, linear."""

from __future__ import annotations

import re
import sys
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtool.errors import MdtoolError
from mdtool.qemu.qtree import buses_from_qtree
from mdtool.qemu.replies import RawBus, RawDevice, placed
from mdtool.resources import resource

SAMPLE = """\
bus: main-system-bus
  type System
  dev: hpet, id ""
    gpio-in "" 2
    gpio-out "sysbus-irq" 32
    clock-in "clk" freq_hz=0 Hz
    timers = 3 (0x3)
    msi = false
    mmio 00000000fed00000/0000000000000400
  dev: q35-pcihost, id ""
    MCFG = -1 (0xffffffffffffffff)
    pci-hole64-size = 34359738368 (32 GiB)
    bus: pcie.0
      type PCIE
      dev: virtio-net-pci, id "net0"
        addr = 0a.1
        romfile = ""
        mac = "52:54:00:11:22:33"
        odd "name" = 1 (0x1)
        note = "say \\"it\\" = 3 (0x3)"
        stats = <null>
        devno = "<unset>"
        slot = <unset>
        len-list = 2 (0x2)
        list[0] = 7 (0x7)
        list[1] = "x"
        nodes = 0-3,5
        redist-region-count = 2 (0x2)
        reserved-regions = "0x0:0x1:1", "0x2:0x3:0"
        layout = <omitted>
        iothread-vq-mapping = <omitted>, <omitted>
        class Ethernet controller, addr 00:0a.1, pci id 1af4:1041 (sub 1af4:1100)
        bar 0: i/o at 0xffffffffffffffff [0x3e]
        bar 1: mem at 0xfea00000 [0xfea00fff]
        bus: usb.0
          type usb-bus
          dev: usb-kbd, id ""
            port = ""
            addr 0.0, port 2.1, speed 12, name QEMU USB Keyboard, attached
        bus: vs0.0
          type virtio-serial-bus
          dev: virtserialport, id "p"
            port 1, guest off, host off, throttle off
      dev: vmmouse, id ""
  dev: dpcd, id ""
    memory 0000000000000000/0000000000080000
    isa irqs 4,7
    name = 'xen' frontend_id = 1 (no frontend)
""".replace('        odd "name" = 1 (0x1)\n', "")


def device(text: str, driver: str) -> RawDevice:
    return next(found for _, found in placed(buses_from_qtree(text)) if found.driver == driver)


def test_every_kind_of_value() -> None:
    nic = device(SAMPLE, "virtio-net-pci")
    assert nic.id == "net0"
    assert nic.properties == {
        "addr": "0a.1",
        "romfile": "",
        "mac": "52:54:00:11:22:33",
        "note": 'say \\"it\\" = 3 (0x3)',
        "stats": None,
        "devno": "<unset>",
        "slot": None,
        "len-list": 2,
        "list[0]": 7,
        "list[1]": "x",
        "nodes": [0, 1, 2, 3, 5],
        "redist-region-count": [2],
        "reserved-regions": ["0x0:0x1:1", "0x2:0x3:0"],
        "layout": None,
        "iothread-vq-mapping": None,
    }
    host = device(SAMPLE, "q35-pcihost")
    assert host.properties == {"MCFG": -1, "pci-hole64-size": 34359738368}
    assert device(SAMPLE, "hpet").properties == {"timers": 3, "msi": False}
    assert device(SAMPLE, "hpet").mmio == ["00000000fed00000"]
    assert device(SAMPLE, "usb-kbd").port == "2.1"


def test_the_nesting() -> None:
    (system,) = buses_from_qtree(SAMPLE)
    assert [found.driver for found in system.devices] == ["hpet", "q35-pcihost", "dpcd"]
    (pcie,) = system.devices[1].buses
    assert (pcie.name, pcie.type, [found.driver for found in pcie.devices]) == (
        "pcie.0",
        "PCIE",
        ["virtio-net-pci", "vmmouse"],
    )
    assert [bus.name for bus in pcie.devices[0].buses] == ["usb.0", "vs0.0"]


def test_the_sample_uses_every_line_form() -> None:
    """A terminal that no sample line has would be a terminal that no test looks at."""
    from mdtool.qemu.qtree import _parser

    grammar = resource("grammar", "qtree.lark").read_text()
    forms = set(re.findall(r"^([A-Z_]+):", grammar, re.MULTILINE)) - {"NAME"}
    assert {str(token.type) for token in _parser().lex(SAMPLE)} - {"_INDENT", "_DEDENT"} == forms


@pytest.mark.parametrize(
    ("old", "new", "line"),
    [
        ("  type System", "  typo System", 2),
        ("    timers = 3 (0x3)", "    timers = three", 7),
        ("    msi = false", "   msi = false", 8),
        ("    msi = false", "      msi = false", 8),
        ("    msi = false", "", 8),
        ("    msi = false", "    msi = maybe", 8),
        ('      dev: vmmouse, id ""', "      dev: vmmouse", 43),
        ('        mac = "52:54:00:11:22:33"', '        mac = "52:54:00\n11:22:33"', 18),
        ("bus: main-system-bus", "\tbus: main-system-bus", 1),
        ("      type PCIE\n", "", 14),
    ],
)
def test_what_the_grammar_does_not_have_is_an_error_at_its_line(old: str, new: str, line: int) -> None:
    assert old in SAMPLE
    with pytest.raises(MdtoolError) as caught:
        buses_from_qtree(SAMPLE.replace(old, new, 1), "info qtree")
    assert caught.value.at is not None
    assert (caught.value.at.file, caught.value.at.line) == ("info qtree", line)
    assert caught.value.rule == "qtree-syntax"


def test_cut_anywhere_it_is_an_error_or_a_shorter_tree() -> None:
    """A half answer is never taken for a whole one, unless it ends with a whole line."""
    for end in range(len(SAMPLE)):
        try:
            found = sum(1 for _ in placed(buses_from_qtree(SAMPLE[:end])))
        except MdtoolError:
            continue
        assert SAMPLE[:end].endswith("\n") or not end
        assert found == SAMPLE[:end].count("dev: ")


def test_nothing_at_all_is_no_bus() -> None:
    assert buses_from_qtree("") == []


# --- any tree, written and read again ------------------------------------------------------------------------------

names = st.from_regex(r"[a-z][a-z0-9_.-]{0,12}", fullmatch=True)
texts = st.text(st.characters(blacklist_categories=("Cc", "Cs", "Zl", "Zp")), max_size=20)
values = st.one_of(
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    texts,
    st.none(),
    st.from_regex(r"[01][0-9a-f]\.[0-7]", fullmatch=True).map(lambda address: ("address", address)),
)


def shown(value: object) -> str:
    match value:
        case bool():
            return "true" if value else "false"
        case int():
            return f"{value} ({value & (2**64 - 1):#x})"
        case None:
            return "<null>"
        case ("address", str(address)):
            return address
    return f'"{value}"'


def bus_lines(bus: RawBus, depth: int) -> list[str]:
    pad = "  " * depth
    lines = [f"{pad}bus: {bus.name}", f"{pad}  type {bus.type}"]
    for found in bus.devices:
        lines.append(f'{pad}  dev: {found.driver}, id "{found.id}"')
        lines += [f"{pad}    {name} = {shown(value)}" for name, value in found.properties.items()]
        for inner in found.buses:
            lines += bus_lines(inner, depth + 2)
    return lines


def read_back(value: object) -> object:
    return value[1] if isinstance(value, tuple) else value


devices = st.deferred(lambda: st.builds(RawDevice, names, names | st.just(""), properties, st.lists(buses, max_size=1)))
properties = st.dictionaries(names, values, max_size=3)
buses = st.builds(RawBus, names, names, st.lists(devices, max_size=2))


def plain(bus: RawBus) -> RawBus:
    for found in bus.devices:
        found.properties = {name: read_back(value) for name, value in found.properties.items()}
        found.buses = [plain(inner) for inner in found.buses]
    return bus


@settings(max_examples=60, deadline=None)
@given(st.lists(buses, min_size=1, max_size=2))
def test_any_tree_is_read_as_it_was_written(tree: list[RawBus]) -> None:
    text = "\n".join(line for bus in tree for line in bus_lines(bus, 0)) + "\n"
    assert buses_from_qtree(text) == [plain(bus) for bus in tree]


@settings(max_examples=300, deadline=None)
@given(st.integers(0, len(SAMPLE) - 1), st.integers(0, 30), st.text(max_size=12))
def test_any_damage_is_told_or_harmless(start: int, length: int, instead: str) -> None:
    """No traceback and no hang; and what is read has every device line that the text has."""
    text = SAMPLE[:start] + instead + SAMPLE[start + length :]
    try:
        found = [read for _, read in placed(buses_from_qtree(text))]
    except MdtoolError as error:
        assert error.at is not None
        return
    assert len(found) == len(re.findall(r"^ *dev: ", text, re.MULTILINE))


@settings(max_examples=200, deadline=None)
@given(st.text(max_size=200) | st.binary(max_size=200).map(lambda data: data.decode("latin-1")))
def test_any_text_at_all(text: str) -> None:
    try:
        buses_from_qtree(text)
    except MdtoolError as error:
        assert "\n" not in error.what


def test_twice_the_devices_are_twice_the_work() -> None:
    """Work is calls, of Python's functions and C's alike."""
    head, tail = SAMPLE.split('      dev: virtio-net-pci, id "net0"\n')
    body = tail.split("      dev: vmmouse")[0]
    one = '      dev: virtio-net-pci, id "net0"\n' + body

    def calls(count: int) -> int:
        text, made = head + one * count, Counter[str]()
        sys.setprofile(lambda _frame, event, _what: made.update([event]))
        try:
            buses_from_qtree(text)
        finally:
            sys.setprofile(None)
        return made["call"] + made["c_call"]

    calls(1)
    small, middle, large = calls(50), calls(100), calls(200)
    assert (large - middle) <= (middle - small) * 2.05, (small, middle, large)
