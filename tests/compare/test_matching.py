"""What is no difference: names, aliases, values that mean "choose one"; and what a source could not know."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from mdtool.compare import EFFECTIVE, IDENTITY, Difference, comparison, guest_visible, noticed
from mdtool.compare.matching import matched
from mdtool.errors import Position
from mdtool.machine.roles import UNCHOSEN
from mdtool.machine.tree import ARGUMENTS, BUILTIN, MONITOR, Bus, Node, Tree

HERE = Position("guest.yaml", 3)


def usb(name: str, bus: str, child: str | None, port: str = "1") -> Bus:
    """A controller with a keyboard, by their ids."""
    keyboard = Node("usb-kbd", id=child, address=port, origin=None, pins={"usb_version": 2})
    return Bus(
        "pci.0", "PCI", (Node("piix3-usb-uhci", id=name, address="04.0", buses=(Bus(bus, "usb-bus", (keyboard,)),)),)
    )


def found(one: Tree, two: Tree, **how: Any) -> list[Difference]:
    return guest_visible(comparison(one, two, **how)[0])


def test_a_bus_that_is_called_otherwise_is_the_same() -> None:
    one, two = Tree(buses=(usb("usb", "usb.0", "input0"),)), Tree(buses=(usb("hcd", "hcd.0", None),))
    assert found(one, two) == found(two, one) == []
    moved = Tree(buses=(usb("hcd", "hcd.0", None, "2"),))
    assert [(d.node, d.severity) for d in found(one, moved)] == [("input0", IDENTITY), ("usb-kbd@hcd.0/2", IDENTITY)]


@pytest.mark.parametrize("other", [False, True], ids=["the same", "another"])
def test_a_property_that_names_a_bus_names_its_device(other: bool) -> None:
    """The companion of a USB controller: by whatever id that controller goes."""

    def guest(*names: str, master: str) -> Tree:
        hosts = (
            Node("ich9-usb-ehci1", id=name, address=f"{4 + at:02x}.7", buses=(Bus(f"{name}.0", "usb-bus"),))
            for at, name in enumerate(names)
        )
        companion = Node("ich9-usb-uhci1", id="uhci", address="04.0", properties={"masterbus": f"{master}.0"})
        return Tree(buses=(Bus("pci.0", "PCI", (*hosts, companion)),))

    one, two = guest("usb", "more", master="usb"), guest("ehci", "rest", master="rest" if other else "ehci")
    assert [(d.node, d.property) for d in found(one, two)] == ([("uhci", "masterbus")] if other else [])


def test_a_device_without_address_and_id_is_known_by_its_driver() -> None:
    one = Tree(buses=(Bus("main-system-bus", "System", (Node("intel-iommu", id="iommu0", pins={"pt": True}),)),))
    two = Tree(buses=(Bus("main-system-bus", "System", (Node("intel-iommu", pins={"pt": True}),)),))
    assert found(one, two) == found(two, one) == []


def test_a_place_that_nobody_described_is_not_compared() -> None:
    one = Tree(devices=(Node("isa-debugcon", id="d", properties={"iobase": 0x402}),))
    two = Tree(buses=(Bus("isa.0", "ISA", (Node("isa-debugcon", id="d", address="402", pins={"readback": 233}),)),))
    assert found(one, two) == found(two, one) == []
    other = Tree(buses=(Bus("isa.0", "ISA", (Node("isa-debugcon", id="d", address="e9"),)),))
    assert [d.property for d in comparison(two, other)[0]] == ["address"]


@pytest.mark.parametrize(("one", "two"), [("ahci", "ich9-ahci"), ("EPYC-x86_64-cpu", "EPYC-v1-x86_64-cpu")])
def test_names_of_one_driver(one: str, two: str) -> None:
    assert found(Tree(devices=(Node(one, id="a"),)), Tree(devices=(Node(two, id="a"),))) == []


def test_auto_is_a_wish_and_not_a_value() -> None:
    one, two = (Tree(devices=(Node("vmgenid", id="g", properties={"guid": guid}),)) for guid in ("auto", "1-2"))
    assert found(one, two) == found(two, one) == []
    three = Tree(devices=(Node("vmgenid", id="g", properties={"guid": "1-3"}),))
    assert [d.property for d in found(two, three)] == ["guid"]
    named = [Tree(devices=(Node("scsi-hd", id="d", properties={"serial": serial}),)) for serial in ("auto", "1")]
    assert [d.property for d in found(*named)] == ["serial"]


def disk(serial: str | None, *, source: tuple[str, ...], written: bool) -> Tree:
    """A dumped disk, in a file or of a machine that was just asked."""
    node = Node(
        "scsi-hd",
        id="d",
        properties={"serial": serial} if serial else {},
        pins={"ver": "2.5+"},
        position=HERE if written else None,
        empty=frozenset() if serial or written else frozenset({"serial"}),
    )
    return Tree(devices=(node,), source=source, machine={"qemu": "7.2.22"})


#: properties of disks, NICs, screens, ports and what keeps old machine types alike, beside those that people choose
_SEEN = (
    "x-pcie-lnksta-dllla x-disable-legacy-check x-native-hotplug x-mtu-bypass-backend x-ats-page-aligned "
    "physical_block_size logical_block_size rotation_rate discard_granularity min_io_size opt_io_size "
    "num-queues queue-size rx_queue_size vectors event_idx iommu_platform packed speed power_controller_present "
    "vgamem_mb ram_size vram64_size_mb max_outputs edid rombar romfile max_ports p2 p3 firstport masterbus"
)


@pytest.mark.parametrize("name", sorted({*_SEEN.split(), *UNCHOSEN} - {"addr", "slot", "port"}))
def test_every_property_of_the_guests_counts(name: str) -> None:
    """Whether somebody chose it or QEMU filled it in, and whatever it is called."""
    for bag in ("properties", "pins"):
        one, two = (Tree(devices=(Node("some-device", id="d", **{bag: {name: value}}),)) for value in (11, 12))
        assert [(d.node, d.property, d.want, d.have) for d in found(one, two)] == [("d", name, 11, 12)]


def test_an_empty_string_is_a_value() -> None:
    described, bare = (disk(serial, source=(MONITOR,), written=True) for serial in ("AAA", None))
    lost, came = (disk(serial, source=(MONITOR,), written=False) for serial in (None, "QQQ"))
    assert [(d.property, d.want, d.have, d.severity) for d in found(described, lost)] == [("serial", "AAA", "", IDENTITY)]
    assert [(d.property, d.want, d.have) for d in found(bare, came)] == [("serial", "", "QQQ")]
    assert found(bare, lost) == []
    # one that QEMU does not have at all is not shown, and no difference
    absent = replace(lost, devices=(replace(lost.devices[0], empty=frozenset()),))
    differences, looked_at = comparison(described, absent)
    assert (differences, looked_at.skipped_properties) == ([], (("d", "serial"),))


@pytest.mark.parametrize(
    ("section", "value", "sources", "counts"),
    [
        ("boot", {"menu": True}, (MONITOR,), True),
        ("boot", {"strict": True}, (MONITOR, ARGUMENTS), False),
        ("numa", {"nodes": [{"id": 0, "cpus": "0"}]}, (MONITOR,), True),
        ("smbios", {"type1": {"serial": "S"}}, (MONITOR,), False),
        ("smbios", {"type1": {"serial": "S"}}, (MONITOR, ARGUMENTS), True),
        ("features", {"fw_cfg": {"opt/a": "x"}}, (MONITOR, ARGUMENTS), True),
        ("clock", {"base": "localtime"}, (MONITOR, ARGUMENTS), False),
    ],
)
def test_absent_is_not_unknown(section: str, value: dict[str, Any], sources: tuple[str, ...], counts: bool) -> None:
    """In both directions: the description has it and the machine not, the machine has it and the description not."""
    has, lacks = Tree(source=sources, **{section: value}), Tree(source=sources)
    for one, two in ((has, lacks), (lacks, has)):
        differences, looked_at = comparison(one, two)
        assert bool(guest_visible(differences)) is counts
        assert bool(looked_at.unknown_facts) is not counts
        assert all(reason.why for reason in looked_at.not_compared)


def test_a_description_that_does_not_say_who_knew_is_partial() -> None:
    assert found(Tree(), Tree(source=(MONITOR,), boot={"menu": True})) == []
    assert found(Tree(applied={"@boot": {"strict": True}}), Tree(source=(MONITOR,), numa={"nodes": [{"id": 0}]})) != []


def test_a_numa_node_that_no_monitor_tells_of_is_not_compared() -> None:
    full, bare = {"id": 0, "cpus": "0", "memory": 4096}, {"id": 1, "memory": 0}
    described, running = Tree(numa={"nodes": [full, bare]}), Tree(source=(MONITOR,), numa={"nodes": [full]})
    differences, looked_at = comparison(described, running)
    assert (differences, [name for name, _ in looked_at.unknown_facts]) == ([], ["numa.nodes"])
    other = Tree(source=(MONITOR,), numa={"nodes": [{**full, "cpus": "0-1"}]})
    assert [difference.property for difference in found(described, other)] == ["nodes[0].cpus"]


def reason(described: Tree, running: Tree) -> list[str]:
    return [why for _, why in comparison(described, running)[1].unknown_facts]


def test_what_is_not_compared_has_its_own_reason() -> None:
    """One for each that could lack a fact: what it was read from decides."""
    board = {"topology": {"sockets": 2}}
    assert reason(Tree(cpu=board), Tree(source=(MONITOR,))) == [
        "a board with CPUs of its own: QEMU does not say how they are arranged"
    ]
    all_on_one = Tree(numa={"nodes": [{"id": 0, "cpus": "0-3", "memdev": "pc.ram"}]})
    assert reason(all_on_one, Tree(source=(MONITOR,))) == ["all CPUs are on one node, and no monitor tells of the others"]
    assert reason(all_on_one, Tree(source=(MONITOR, ARGUMENTS))) == []
    of_two = Tree(numa={"nodes": [{"id": 0, "cpus": "0", "memdev": "pc.ram"}, {"id": 1, "cpus": "1", "memdev": "m1"}]})
    assert reason(of_two, Tree(source=(MONITOR,))) == []
    serial = Tree(source=(MONITOR, ARGUMENTS), smbios={"type1": {"serial": "x"}})
    for source, applied, why in (
        ((MONITOR,), {}, "it is from a monitor alone, which does not tell this"),
        ((), {}, "it does not record what its source knew"),
    ):
        assert reason(Tree(source=source, applied=applied), serial) == [f"the description does not say: {why}"]
    assert reason(serial, Tree(source=(MONITOR,))) == [
        "no monitor tells it, and the arguments of the process were not read"
    ]
    dated = Tree(source=(MONITOR, ARGUMENTS), clock={"base": "2020-01-01"})
    assert reason(dated, Tree(source=(MONITOR, ARGUMENTS))) == [
        "the clock started at a date, which is another one at each start"
    ]


def test_two_of_a_driver_are_told_apart_by_id_or_address_and_else_are_one() -> None:
    def pair(one: Node, two: Node) -> bool:
        pairs, *_ = matched(*(Tree(buses=(Bus("pci.0", "PCI", (node,)),)) for node in (one, two)))
        return bool(pairs)

    at = {"driver": "e1000", "address": "03.0"}
    assert pair(Node(**at), Node("e1000", address="04.0"))  # anonymous: one of the driver
    assert pair(Node("e1000", id="a"), Node("e1000", id="b", address="04.0"))  # one has no place yet
    assert not pair(Node(**at, id="a"), Node("e1000", id="b", address="04.0"))
    assert not pair(Node(**at), Node("rtl8139", address="04.0"))


def test_a_bus_of_a_built_in_is_known_by_what_provides_it() -> None:
    def machine(host: str, type: str = "i2c-bus") -> tuple[Tree, Tree]:
        sensor = Node("tmp105", id="t", address="48")
        described = Tree(buses=(Bus("i2c", type, (sensor,), host=host),))
        inner = Bus("i2c-bus.0", "i2c-bus", (sensor,))
        provider = Node("versatile_i2c", origin=BUILTIN, address="10002000", buses=(inner,))
        return described, Tree(buses=(Bus("main-system-bus", "System", (provider,)),))

    def moved(described: Tree, running: Tree) -> list[str | None]:
        return [one.property for one in comparison(described, running)[0] if one.node == "t"]

    assert moved(*machine("versatile_i2c")) == []
    assert moved(*machine("bcm2835-i2c")) != [] and moved(*machine("versatile_i2c", "spi")) != []


def test_a_number_that_qemu_gives_is_none_of_xml() -> None:
    """A usb-tablet's serial is 42; a disk's is somebody's choice."""
    for driver, named in (("usb-tablet", []), ("usb-storage", ["serial"]), ("scsi-hd", ["serial"])):
        described = Tree(devices=(Node(driver, id="d", origin="x/1"),), applied={"@boot": {}})
        seen = Tree(
            devices=(Node(driver, id="d", properties={"serial": "42"}, pins={"msos-desc": True}),), source=(MONITOR,)
        )
        assert [d.property for d in found(described, seen)] == named, driver
        by_hand = replace(described, devices=(replace(described.devices[0], origin=None),))  # no XML says what it has not
        assert found(by_hand, seen) == [], driver


def test_what_no_property_sets_is_reported_and_stops_nobody() -> None:
    one, two = (
        Tree(devices=(Node("scsi-hd", id="d", origin=BUILTIN, pins={"device_id": name, "ver": "1"}),), source=(MONITOR,))
        for name in ("stick", "disk")
    )
    (only,) = comparison(one, two)[0]
    assert (only.severity, guest_visible([only]), noticed([only])) == (EFFECTIVE, [], [])


def test_machine_properties() -> None:
    def machine(pins: dict[str, Any], chosen: dict[str, Any] | None = None, **more: Any) -> Tree:
        return Tree(machine={"properties": chosen or {}}, machine_pins=pins, **more)

    dumped = machine({"nvdimm": False, "acpi": "auto", "cap-htm": False}, source=(MONITOR,))
    assert found(dumped, machine({"nvdimm": False, "acpi": "on", "cap-htm": False}, source=(MONITOR,))) == []
    assert [d.property for d in found(dumped, machine({"nvdimm": True}, source=(MONITOR,)))] == ["properties.nvdimm"]
    chosen = machine({"nvdimm": False}, {"nvdimm": True}, source=(MONITOR,))
    assert found(chosen, machine({"nvdimm": True}, source=(MONITOR,))) == []
    from_xml = Tree(applied={"@machine": {}})
    assert [d.property for d in found(from_xml, machine({"nvdimm": True}, source=(MONITOR,)))] == ["properties.nvdimm"]
    assert found(from_xml, machine({"cap-htm": True, "nvdimm": False}, source=(MONITOR,))) == []


@pytest.mark.parametrize(
    ("sources", "pins", "chosen", "counts"),
    [
        ((MONITOR, ARGUMENTS), {"acpi": "on"}, {"cap-htm": True}, True),  # its arguments would have said so
        ((MONITOR,), {"acpi": "on"}, {"cap-htm": True}, False),  # this QEMU may have it, and not show it
        ((MONITOR, ARGUMENTS), {"acpi": "on"}, {}, False),  # nobody chose it: another QEMU fills in more
        ((MONITOR,), {}, {"cap-htm": True}, False),
    ],
)
def test_a_machine_property_that_one_side_has(
    sources: tuple[str, ...], pins: dict[str, Any], chosen: dict[str, Any], counts: bool
) -> None:
    lacks = Tree(machine={"properties": {}, "qemu": "7.2.22"}, machine_pins=pins, source=sources)
    shown = {} if chosen else {"cap-htm": True}
    has = Tree(machine={"properties": chosen}, machine_pins={**pins, **shown}, source=sources)
    for one, two in ((has, lacks), (lacks, has)):
        differences, looked_at = comparison(one, two)
        assert [d.property for d in guest_visible(differences)] == (["properties.cap-htm"] if counts else [])
        assert [fact for fact, why in looked_at.unknown_facts if why] == ([] if counts else ["machine.properties.cap-htm"])


def test_of_a_group_each_fact_is_known_or_not_by_itself() -> None:
    """Arguments tell a timer of the clock's and not what a source that nobody names might have beside it."""
    has = Tree(clock={"timers": {"rtc": {"tickpolicy": "catchup"}, "other": {"present": True}}})
    lacks = Tree(source=(ARGUMENTS,))
    for one, two in ((has, lacks), (lacks, has)):
        if one is has:
            differences, looked_at = comparison(one, two)
            assert [d.property for d in differences] == ["timers.rtc.tickpolicy"]
            assert [fact for fact, _ in looked_at.unknown_facts] == ["clock.timers.other.present"]
