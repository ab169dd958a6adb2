"""What a comparison reports, whole: each difference with its severity and line, and each fact that it leaves out, and why."""

from __future__ import annotations

from typing import Any

import pytest

from mdtool.compare import comparison
from mdtool.errors import Position
from mdtool.machine.pci import properties_digest
from mdtool.machine.tree import ARGUMENTS, BUILTIN, MONITOR, Bus, Node, Tree
from mdtool.records import replace

BOTH = (MONITOR, ARGUMENTS)


def at(line: int, driver: str, **more: Any) -> Node:
    """A node that stands in a line of a description."""
    return Node(driver, position=Position("g", line), **more)


def pci(*nodes: Node, type: str = "PCI", **more: Any) -> Tree:
    return Tree(buses=(Bus("pci.0", type, nodes, position=Position("g", 1)),), **more)


def card(line: int, name: str, **facts: Any) -> Node:
    """A NIC and what PCI shows of it."""
    node = at(line, "e1000", id=name, address=f"{line:02}.0")
    return replace(node, pci={"of": properties_digest(node), **facts}) if facts else node


def host(line: int, name: str, *disks: Node) -> Node:
    """A SCSI controller with two buses, and a disk on each."""
    buses = tuple(Bus(f"{name}.{number}", "SCSI", disks[number : number + 1]) for number in (0, 1))
    return at(line, "virtio-scsi-pci", id=name, address=f"{line:02}.0", buses=buses)


def disk(line: int) -> Node:
    return at(line + 10, "scsi-hd", address="0", pins={"x": line})


def dumped(node: Node, *, qemu: str) -> Tree:
    return Tree(devices=(node,), source=(MONITOR,), machine={"qemu": qemu})


def sections(source: tuple[str, ...] = BOTH, **more: Any) -> Tree:
    return Tree(source=source, **more)


def machine(type: str, *, qemu: str | None = None, pins: dict[str, Any] | None = None, **properties: Any) -> Tree:
    named = {name.replace("_", "-"): value for name, value in properties.items()}
    about = {"type": type, **({"qemu": qemu} if qemu else {}), "properties": named}
    return Tree(source=(MONITOR,), machine=about, machine_pins=pins or {})


def reported(described: Tree, running: Tree, *, alike: bool = False) -> list[str]:
    found, compared = comparison(described, running, alike=alike)
    lines = [f"{one.severity}: {one}" + (f" ({one.position.line})" if one.position else "") for one in found]
    lines += [f"{view.name}: {one}" for view in compared.views for one in view.omitted if "query-pci" not in one.why]
    return [*lines, "compared: " + "; ".join(view.compared for view in compared.views)]


CPU, NIC = "Nehalem-x86_64-cpu", {"class": "NIC"}
ON_AHCI = tuple(Node("ide-hd", id=f"d{n}", address=f"{n}", pins={"x": n}) for n in (1, 0))
MARKS = list(enumerate(("serial", "wwn") * 2))
SHOWN = Node(CPU, effective={"features": {"a": True}})
ROW = {"id": 0, "cpus": "0", "memory": 64}
GLOBALS = {"globals": {f"isa-debugcon.{name}": 0x402 for name in ("iobase", "readback", "other")} | {"e1000.mac": "m"}}
PLUGGED = {"devices": (Node("isa-debugcon", id="d", address="402", pins={"readback": 0x402, "other": 1}),), "source": BOTH}

CASES: dict[str, tuple[Tree, Tree, str]] = {
    "devices": (
        pci(
            at(2, "e1000", id="a", address="03.0"),
            at(3, "rtl8139", id="b", address="04.0"),
            at(4, "virtio-rng-pci", id="c", address="05.0"),
            at(5, "virtio-rng-pci", id="d", address="06.0"),
            at(6, "e1000", id="f", address="07.0"),
            at(7, "pvpanic", id="h", origin="x/h"),
        ),
        pci(
            Node("e1000", id="z", address="03.0"),
            Node("e1000e", id="b", address="04.0"),
            Node("virtio-rng-pci", id="c", address="15.0"),
            Node("virtio-vga", id="g", address="02.0"),
            Node("e1000", id="f"),
            Node("pvpanic", id="i", origin="x/h"),
        ),
        """
        identity: b: driver: described 'rtl8139', is 'e1000e' (3)
        identity: d: missing: described is virtio-rng-pci at pci.0 06.0, and the machine has none (5)
        identity: g: not described: the machine has virtio-vga at pci.0 02.0
        address: c: moved: described at pci.0 05.0, is at pci.0 15.0 (4)
        address: f: moved: described at pci.0 07.0, is at pci.0 (6)
        host: a: id: described 'a', is 'z' (2)
        host: h: id: described 'h', is 'i' (7)
        compared: 5 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "devices whose elements, and not whose places, are the same": (
        pci(
            at(2, "e1000", origin="x/1", address="03.0", pins={"x": 1}),
            at(3, "e1000", origin="x/2", address="04.0", pins={"x": 2}),
            at(4, "e1000", id="m", address="06.0", properties={"mac": "1", "serial": "1", "wwn": "1"}, pins={"x": 3}),
            at(5, "e1000", id="n", address="07.0", properties={"mac": "2"}, pins={"x": 4}),
        ),
        pci(
            Node("e1000", id="a", origin="x/2", address="03.0", pins={"x": 2}),
            Node("e1000", id="b", origin="x/1", address="04.0", pins={"x": 1}),
            Node("e1000", id="n", address="06.0", properties={"mac": "1", "serial": "1", "wwn": "1"}, pins={"x": 3}),
            Node("e1000", id="m", address="07.0", properties={"mac": "2"}, pins={"x": 4}),
        ),
        """
        address: e1000@pci.0/03.0: moved: described at pci.0 03.0, is at pci.0 04.0 (2)
        address: e1000@pci.0/04.0: moved: described at pci.0 04.0, is at pci.0 03.0 (3)
        host: m: id: described 'm', is 'n' (4)
        host: n: id: described 'n', is 'm' (5)
        compared: 4 nodes and 8 properties; 0 facts; nothing; 0 features
        """,
    ),
    "devices behind buses that are called otherwise": (
        pci(*(host(line, f"h{line}", disk(line), disk(line + 2)) for line in (2, 3))),
        pci(*(host(line, f"z{5 - line}", disk(line), disk(line + 2)) for line in (3, 2))),
        """
        host: h2: id: described 'h2', is 'z3' (2)
        host: h3: id: described 'h3', is 'z2' (3)
        compared: 6 nodes and 4 properties; 0 facts; nothing; 0 features
        """,
    ),
    "devices that a serial or a wwn tells apart": (
        pci(*(at(4, "scsi-hd", id=f"d{n}", address=str(n), properties={name: n + 1}) for n, name in MARKS)),
        pci(*(Node("scsi-hd", id=f"d{(n + 2) % 4}", address=str(n), properties={name: n + 1}) for n, name in MARKS)),
        """
        host: d0: id: described 'd0', is 'd2' (4)
        host: d1: id: described 'd1', is 'd3' (4)
        host: d2: id: described 'd2', is 'd0' (4)
        host: d3: id: described 'd3', is 'd1' (4)
        compared: 4 nodes and 4 properties; 0 facts; nothing; 0 features
        """,
    ),
    "a card on the bus of another": (
        Tree(buses=(Bus("isa.1", "ISA", (at(2, "sb16", id="s", pins={"x": 1}),)),)),
        Tree(buses=tuple(Bus(f"isa.{number}", "ISA", (Node("sb16", pins={"x": number}),)) for number in (0, 2, 1))),
        """
        identity: sb16@isa.0: not described: the machine has sb16 at isa.0
        identity: sb16@isa.2: not described: the machine has sb16 at isa.2
        host: s: id: described 's', is nothing (2)
        compared: 1 nodes and 1 properties; 0 facts; nothing; 0 features
        """,
    ),
    "disks on a bus of a built-in that is not described": (
        Tree(buses=(Bus("ide.0", "IDE", tuple(at(2, "ide-hd", address=f"{n}", pins={"x": n}) for n in (0, 1))),)),
        pci(Node("ahci", address="1f.2", origin=BUILTIN, buses=(Bus("ide.0", "IDE", ON_AHCI),))),
        """
        device tree: 1 built-ins: the description has none; a dump has them
        compared: 2 nodes and 2 properties; 0 facts; nothing; 0 features
        """,
    ),
    "properties that are the address, or say nothing": (
        pci(
            at(2, "virtserialport", id="a", address="10", properties={"nr": 10, "unit": 16, "slot": 11}),
            at(3, "spapr-vty", id="b", address="x", properties={"unit": "x", "port": "y"}),
            at(4, "e1000", id="c", properties={"p": None, "q": "", "attached": True}),
        ),
        pci(Node("virtserialport", id="a", address="10"), Node("spapr-vty", id="b", address="x"), Node("e1000", id="c")),
        """
        device tree: 2 properties (a.slot, b.port): QEMU does not show them
        compared: 3 nodes and 8 properties; 0 facts; nothing; 0 features
        """,
    ),
    "strings of another version": (
        dumped(at(2, "scsi-hd", id="d", pins={"ver": "1"}), qemu="7.2.22"),
        dumped(Node("scsi-hd", id="d", properties={"serial": "S"}, pins={"ver": "1", "t": "x", "n": 3}), qemu="8.0.0"),
        """
        identity: d: serial: described '', is 'S' (2)
        host: machine: qemu: described '7.2.22', is '8.0.0'
        machine: 1 facts (d.t): QEMU 7.2.22, which was dumped, does not show it
        compared: 1 nodes and 1 properties; 0 facts; nothing; 0 features
        """,
    ),
    "strings of the same version": (
        dumped(at(2, "scsi-hd", id="d", pins={"ver": "1"}), qemu="8.0.0"),
        dumped(Node("scsi-hd", id="d", properties={"serial": "S"}, pins={"ver": "1", "t": "x", "n": 3}), qemu="8.0.0"),
        """
        identity: d: serial: described '', is 'S' (2)
        property: d: t: described nothing, is 'x' (2)
        compared: 1 nodes and 1 properties; 1 facts; nothing; 0 features
        """,
    ),
    "what a file of a dump lacks": (
        dumped(at(2, "scsi-hd", id="d", properties={"serial": "S", "t": "x"}, pins={"ver": "1"}), qemu="8.0.0"),
        dumped(at(3, "scsi-hd", id="d", pins={"ver": "1"}), qemu="8.0.0"),
        """
        identity: d: serial: described 'S', is '' (2)
        device tree: 1 properties (d.t): QEMU does not show them
        compared: 1 nodes and 3 properties; 1 facts; nothing; 0 features
        """,
    ),
    "what a file without pins lacks": (
        dumped(at(2, "scsi-hd", id="d", properties={"serial": "S"}), qemu="8.0.0"),
        dumped(at(3, "scsi-hd", id="d"), qemu="8.0.0"),
        """
        device tree: 1 properties (d.serial): QEMU does not show them
        compared: 1 nodes and 1 properties; 1 facts; nothing; 0 features
        """,
    ),
    "features of a CPU whose flags are shown": (
        Tree(devices=(SHOWN,), source=BOTH, cpu={"features": {"x-a": True, "hv-b": True, "c": True}}),
        Tree(devices=(SHOWN,), source=BOTH),
        """
        property: cpu: features.hv-b: described on, is nothing
        property: cpu: features.x-a: described on, is nothing
        compared: 1 nodes and 0 properties; 1 facts; nothing; 1 features
        """,
    ),
    "a CPU that says how it is arranged": (
        Tree(cpu={"topology": {"sockets": 2, "dies": 1}}),
        sections((MONITOR,), cpu={"topology": {"sockets": 2}}),
        """
        compared: 0 nodes and 0 properties; 2 facts; nothing; 0 features
        """,
    ),
    "facts of a description from XML": (
        Tree(applied={"@boot": {}}),
        sections(features={"globals": {"a.b": 1}}),
        """
        machine: 1 facts (features.globals.a.b): the description does not say: it is from guest XML alone
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "disks that another controller has": (
        pci(host(2, "a", at(12, "scsi-hd", id="d", address="0")), host(3, "b")),
        pci(host(2, "a"), host(3, "b", Node("scsi-hd", id="d", address="0"))),
        """
        address: d: moved: described at a.0 0, is at b.0 0 (12)
        compared: 3 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "cards without a place": (
        pci(*(at(line, "sb16", pins={"x": line}) for line in (2, 3)), at(4, "e1000", id="a", pins={"x": 4}), type="ISA"),
        pci(*(Node("sb16", pins={"x": number}) for number in (2, 3, 4)), Node("e1000", pins={"x": 4}), type="ISA"),
        """
        identity: sb16@pci.0#3: not described: the machine has sb16 at pci.0
        host: a: id: described 'a', is nothing (4)
        compared: 3 nodes and 3 properties; 0 facts; nothing; 0 features
        """,
    ),
    "built-ins": (
        pci(at(2, "mch", address="00.0", origin=BUILTIN), at(3, "e1000", id="a", address="03.0")),
        pci(Node("e1000", id="a", address="03.0")),
        """
        device tree: 1 built-ins: the description has none; a dump has them
        compared: 1 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "a description without built-ins": (
        pci(at(2, "e1000", id="a", address="03.0", pins={"x": 1})),
        pci(Node("mch", address="00.0", origin=BUILTIN), Node("e1000", id="a", address="03.0", pins={"x": 1})),
        """
        device tree: 1 built-ins: the description has none; a dump has them
        compared: 1 nodes and 1 properties; 0 facts; nothing; 0 features
        """,
    ),
    "properties": (
        pci(
            at(2, "MCH", id="m", pins={"MCFG": 1, "x": 5, "short_root_bus": 2}),
            at(3, "q35-pcihost", id="q", pins={"MCFG": 1, "x": 5}),
            at(4, "usb-storage", id="u", properties={"serial": "A", "drive": "d"}, pins={"bootindex": 1}),
            at(5, "isa-serial", id="s", address="3f8", properties={"iobase": 0x3F8, "irq": 4, "chardev": "c"}),
            at(6, "scsi-hd", id="w", properties={"write-cache": "on", "vendor": "QEMU", "ver": "1"}),
        ),
        pci(
            Node("MCH", id="m", pins={"MCFG": 2, "x": 6, "short_root_bus": 2}),
            Node("q35-pcihost", id="q", pins={"MCFG": 2, "x": 6}),
            Node("usb-storage", id="u", properties={"serial": "B", "drive": "e"}, pins={"bootindex": 2, "msos": True}),
            Node("isa-serial", id="s", address="3f8", pins={"index": 0}),
            Node("scsi-hd", id="w", properties={"write-cache": "off", "ver": "1"}, empty=frozenset({"vendor"})),
        ),
        """
        identity: u: serial: described 'A', is 'B' (4)
        property: m: MCFG: described 1, is 2 (2)
        property: m: x: described 5, is 6 (2)
        property: q: x: described 5, is 6 (3)
        firmware: u: bootindex: described 1, is 2 (4)
        effective: w: write-cache: described 'on', is 'off' (6)
        host: u: drive: described 'd', is 'e' (4)
        device tree: 1 properties (s.irq): QEMU does not show them
        compared: 5 nodes and 14 properties; 0 facts; nothing; 0 features
        """,
    ),
    "what the host made": (
        pci(
            at(2, CPU, id="c", effective={"identity": {"stepping": 3, "vendor": "G"}, "feature-words": {"1": 2}}),
            at(3, "virtio-net-pci", id="n", effective={"features": {"csum": True, "gso": True, "mq": False}}),
            at(4, "virtio-rng-pci", id="r"),
            at(5, "virtio-blk-pci", id="b", effective={"features": {"a": 1}}),
            at(6, "virtio-net-pci", id="m", properties={"csum": True}, effective={"csum": True, "gso": True}),
        ),
        pci(
            Node(CPU, id="c", effective={"identity": {"stepping": 4, "vendor": "A"}, "feature-words": {"1": 3}}),
            Node("virtio-net-pci", id="n", effective={"features": {"gso": False, "mq": False}}),
            Node("virtio-rng-pci", id="r", effective={"features": {"csum": True}}),
            Node("virtio-blk-pci", id="b", effective={"features": {"a": 1}}),
            Node("virtio-net-pci", id="m", properties={"csum": True}, effective={"csum": False, "gso": False}),
        ),
        """
        property: c: identity.stepping: described 3, is 4 (2)
        effective: c: feature-words.1: described 2, is 3 (2)
        effective: c: identity.vendor: described 'G', is 'A' (2)
        effective: m: gso: described on, is off (6)
        effective: n: features.gso: described on, is off (3)
        effective features: 1 features (n.features.csum): this machine does not have them
        effective features: 1 nodes (r): the description records none; a dump does
        compared: 5 nodes and 1 properties; 0 facts; nothing; 7 features
        """,
    ),
    "PCI facts": (
        pci(
            card(2, "a", **{**NIC, "rom": 4}),
            card(3, "b", **{**NIC, "id": "1:1", "sub": "1:2"}),
            card(4, "c"),
            card(5, "d", **NIC),
        ),
        pci(
            card(2, "a", **{"class": "VGA", "rom": 8}),
            card(3, "b", **{**NIC, "id": "1:3", "bars": "4"}),
            card(4, "c", **NIC),
            card(5, "d"),
        ),
        """
        pci: a: PCI class: described 'NIC', is 'VGA' (2)
        pci: b: PCI id: described '1:1', is '1:3' (3)
        pci: b: PCI subsystem id: described '1:2', is nothing (3)
        pci: b: bars: described nothing, is '4' (3)
        firmware: a: ROM size: described 4, is 8 (2)
        PCI as enumerated: class, ids, BARs and ROM of 1 functions (c): the description has none for these properties; a dump does
        compared: 4 nodes and 0 properties; 0 facts; class, ids, BARs and ROM of 2 functions; 0 features
        """,
    ),
    "buses": (
        Tree(buses=(Bus("pci.0", "PCI", position=Position("g", 1)), Bus("b", "SCSI", position=Position("g", 2)))),
        Tree(buses=(Bus("pci.0", "PCIE"), Bus("b", "IDE"), Bus("c", "IDE"))),
        """
        address: b: type: described 'SCSI', is 'IDE' (2)
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "bridges and expanders": (
        Tree(buses=(*(Bus(name, "PCI") for name in "abc"), Bus("d", "pxb-bus"), Bus("e", "cxl-bus"))),
        Tree(buses=(Bus("a", "pci"), Bus("b", "pxb-pcie-bus"), Bus("c", "CXL"), Bus("d", "IDE"), Bus("e", "PCIE"))),
        """
        address: d: type: described 'pxb-bus', is 'IDE'
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "sections": (
        sections(
            boot={"order": "c"},
            cpu={"model": "EPYC", "vcpus": 1, "features": {"sse4.1": True, "pcid": False}},
            memory={"size": 64},
            objects={"m": {"size": 1}},
            firmware={"sha256": "1"},
        ),
        sections(
            boot={"menu": False, "order": "n"},
            cpu={"model": "EPYC-v1", "features": {"sse4_1": True, "pcid": True}},
            memory={"size": 65, "slots": 0, "max": 128},
            objects={"m": {"size": 1}, "n": {"size": 2}},
            guest={"name": "g"},
            firmware={"kind": "pflash"},
        ),
        """
        property: cpu: features.pcid: described off, is on
        property: memory: max: described nothing, is 128
        property: memory: size: described 64, is 65
        firmware: boot: order: described 'c', is 'n'
        firmware: firmware: kind: described nothing, is 'pflash'
        host: guest: name: described nothing, is 'g'
        machine: 1 facts (firmware.sha256): the machine does not show it
        machine: 1 facts (objects.n.size): the description does not say: nothing that was asked for it tells this
        compared: 0 nodes and 0 properties; 6 facts; nothing; 0 features
        """,
    ),
    "rows of lists": (
        sections(numa={"nodes": [{**ROW, "memory": ""}, {"id": 1, "cpus": "1", "memory": 64}]}),
        sections(numa={"nodes": [ROW, {"id": 1, "cpus": "2", "memory": 64}]}),
        """
        property: numa: nodes[1].cpus: described '1', is '2'
        machine: 1 facts (numa.nodes[0].memory): -numa node,mem= of old machine types: QEMU does not tell how much
        compared: 0 nodes and 0 properties; 4 facts; nothing; 0 features
        """,
    ),
    "more rows": (
        sections(numa={"nodes": [ROW, {"id": 1, "cpus": "1"}]}),
        sections(numa={"nodes": [ROW]}),
        """
        property: numa: nodes: described [{'id': '0', 'cpus': '0', 'memory': '64'}, {'id': '1', 'cpus': '1'}], is [{'id': '0', 'cpus': '0', 'memory': '64'}]
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "nodes that are not shown": (
        sections((), numa={"nodes": [ROW, {"id": 1, "memory": 64}, {"id": 2, "cpus": "1"}, {"id": 3, "memory": 0}]}),
        sections((MONITOR,), numa={"nodes": [ROW, {"id": 1, "memory": 65}, {"id": 2, "cpus": "1"}]}),
        """
        property: numa: nodes[1].memory: described 64, is 65
        machine: 1 facts (numa.nodes): QEMU tells nothing of nodes without CPUs and memory
        compared: 0 nodes and 0 properties; 6 facts; nothing; 0 features
        """,
    ),
    "global properties of the description": (
        Tree(**PLUGGED, features=GLOBALS),
        Tree(**PLUGGED),
        """
        property: features: globals.e1000.mac: described 'm', is nothing
        property: features: globals.isa-debugcon.other: described 1026, is nothing
        compared: 1 nodes and 2 properties; 2 facts; nothing; 0 features
        """,
    ),
    "global properties of the machine": (
        Tree(**PLUGGED),
        Tree(**PLUGGED, features=GLOBALS),
        """
        property: features: globals.e1000.mac: described nothing, is 'm'
        property: features: globals.isa-debugcon.other: described nothing, is 1026
        compared: 1 nodes and 2 properties; 2 facts; nothing; 0 features
        """,
    ),
    "firmware of a description from XML": (
        Tree(applied={"@firmware": {}}),
        sections(firmware={"kind": "pflash"}),
        """
        firmware: firmware: kind: described nothing, is 'pflash'
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "firmware that a monitor shows": (
        sections((MONITOR,), firmware={"kind": "pflash"}),
        sections((MONITOR,)),
        """
        firmware: firmware: kind: described 'pflash', is nothing
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "other firmware than a monitor shows": (
        sections((MONITOR,), firmware={"kind": "bios"}),
        sections((MONITOR,)),
        """
        machine: 1 facts (firmware.kind): no monitor tells it, and the arguments of the process were not read
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "machine properties": (
        machine("virt-7.2", qemu="7.2.22", pins={"acpi": "auto"}, gic_version="host", x_oem_id="A", ras=True, secure=True),
        machine("virt-7.2", qemu="8.0.0", pins={"acpi": "on"}, gic_version="3", x_oem_id="B", its=True, nvdimm=False),
        """
        property: machine: properties.x-oem-id: described 'A', is 'B'
        host: machine: qemu: described '7.2.22', is '8.0.0'
        machine: 2 facts (machine.properties.ras, machine.properties.secure): QEMU 8.0.0 does not show it
        machine: 1 facts (machine.properties.its): QEMU 7.2.22 does not show it
        compared: 0 nodes and 0 properties; 3 facts; nothing; 0 features
        """,
    ),
    "machine properties of a machine without any": (
        machine("pseries-7.2", secure=True, nvdimm=True, ras=True, usb=True),
        machine("pseries-7.2", its=True),
        """
        property: machine: properties.ras: described on, is nothing
        machine: 1 facts (machine.properties.secure): no monitor tells it, and the arguments of the process were not read
        machine: 1 facts (machine.properties.its): the description does not say: it is from a monitor alone, which does not tell this
        compared: 0 nodes and 0 properties; 1 facts; nothing; 0 features
        """,
    ),
    "a machine that does not say its version": (
        machine("q35", pins={"acpi": "on"}, secure=True),
        machine("q35", pins={"acpi": "on"}),
        """
        machine: 1 facts (machine.properties.secure): QEMU does not show it
        compared: 0 nodes and 0 properties; 2 facts; nothing; 0 features
        """,
    ),
    "names that are too many": (
        Tree(),
        sections(smbios={f"type{number}": {"serial": "1"} for number in range(7)}),
        """
        machine: 7 facts (smbios.type0.serial, smbios.type1.serial, smbios.type2.serial, smbios.type3.serial, smbios.type4.serial, smbios.type5.serial, ...): the description does not say: it does not record what its source knew
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
    "as many names as are shown": (
        sections((), smbios={f"type{number}": {"serial": "1"} for number in range(6)}),
        sections((MONITOR,)),
        """
        machine: 6 facts (smbios.type0.serial, smbios.type1.serial, smbios.type2.serial, smbios.type3.serial, smbios.type4.serial, smbios.type5.serial): no monitor tells it, and the arguments of the process were not read
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
}


#: of two descriptions whose sources knew the same, what one lacks was taken out or put in
ALIKE: dict[str, tuple[Tree, Tree, str]] = {
    "two dumps": (
        pci(
            at(2, "scsi-hd", id="d", properties={"a": 1, "drive": "d"}, pins={"b": 2, "x": 1}),
            at(3, "scsi-hd", id="e", properties={"a": 1}),
            at(4, "scsi-hd", id="f", pins={"b": 2}),
        ),
        pci(
            at(2, "scsi-hd", id="d", properties={"c": 3}, pins={"e": 4, "x": 1}),
            at(3, "scsi-hd", id="e", pins={"b": 2}),
            at(4, "scsi-hd", id="f", properties={"a": 1}),
        ),
        """
        property: d: a: described 1, is nothing (2)
        property: d: b: described 2, is nothing (2)
        property: d: c: described nothing, is 3 (2)
        property: d: e: described nothing, is 4 (2)
        property: e: a: described 1, is nothing (3)
        property: f: a: described nothing, is 1 (4)
        host: d: drive: described 'd', is nothing (2)
        device tree: 1 properties (f.b): QEMU does not show them
        compared: 3 nodes and 6 properties; 0 facts; nothing; 0 features
        """,
    ),
    "two sets of sections": (
        sections((), objects={"m": {"size": 1}}, machine={"properties": {"its": True}}, cpu={"features": {"c": True}}),
        sections((), smbios={"type1": {"serial": "S"}}, machine={"properties": {"secure": True}}),
        """
        property: cpu: features.c: described on, is nothing
        property: machine: properties.its: described on, is nothing
        property: machine: properties.secure: described nothing, is on
        firmware: smbios: type1.serial: described nothing, is 'S'
        host: objects: m.size: described 1, is nothing
        compared: 0 nodes and 0 properties; 0 facts; nothing; 0 features
        """,
    ),
}


@pytest.mark.parametrize("name", [*CASES, *ALIKE])
def test_all_that_is_reported(name: str) -> None:
    described, running, expected = {**CASES, **ALIKE}[name]
    lines = [line.strip() for line in expected.strip().splitlines()]
    assert reported(described, running, alike=name in ALIKE) == lines
