"""Edits of a description, good and bad, and what a real QEMU says to each.

A machine is rows; the same rows become a description for mdtool, and a command line for QEMU that owes nothing to mdtool.
"""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from mdtool.machine.buses.providers import buses_of
from mdtool.machine.document import Document, document_from_text
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.machine.writer import yaml_from_tree
from tests.support_waiting import PATIENCE

QUIT = '{"execute": "qmp_capabilities"}{"execute": "quit"}'


@dataclass(frozen=True)
class Row:
    driver: str
    bus: str | None
    address: str | None
    id: str | None = None
    properties: Mapping[str, Any] = field(default_factory=dict)


def row(driver: str, bus: str | None, address: str | None, id: str | None = None, **properties: Any) -> Row:
    return Row(driver, bus, address, id, {name.replace("_", "-"): value for name, value in properties.items()})


@dataclass(frozen=True)
class Machine:
    name: str
    root: str
    rows: tuple[Row, ...]
    #: bus -> type, of what the machine has by itself
    buses: Mapping[str, str]


def port(number: int) -> Row:
    return Row("pcie-root-port", "pcie.0", f"{number + 1:02x}.0", f"rp{number}", {"chassis": number})


Q35 = Machine(
    "pc-q35-7.2",
    "pcie.0",
    (
        port(1), port(2), port(3), port(4),
        row("pcie-pci-bridge", "rp1", "00.0", "br1"),
        row("virtio-scsi-pci", "rp2", "00.0", "scsi0"),
        row("virtio-serial-pci", "rp3", "00.0", "vs"),
        row("qemu-xhci", "pcie.0", "0a.0", "xhci"),
        row("intel-hda", "pcie.0", "0b.0", "hda"),
        row("virtio-net-pci", "pcie.0", "0c.0", "net0", mac="52:54:00:00:00:01", bootindex=1),
    ),
    {"pcie.0": "PCIE", "isa.0": "ISA", **{f"ide.{n}": "IDE" for n in range(6)}},
)  # fmt: skip
PC = Machine(
    "pc-i440fx-7.2",
    "pci.0",
    (
        row("piix3-usb-uhci", "pci.0", "01.2", "usb"),
        Row("pci-bridge", "pci.0", "04.0", "br1", {"chassis_nr": 1}),
        row("lsi53c895a", "pci.0", "05.0", "scsi0"),
        row("e1000", "pci.0", "06.0", "net0", mac="52:54:00:00:00:01"),
    ),
    {"pci.0": "PCI", "isa.0": "ISA", "ide.0": "IDE", "ide.1": "IDE", "floppy-bus.0": "floppy-bus"},
)


@dataclass(frozen=True)
class Edit:
    """A machine with something added, or put in the place of the row with the same id."""

    says: str
    machine: Machine
    added: tuple[Row, ...]

    @property
    def rows(self) -> list[Row]:
        ids = {one.id for one in self.added if one.id is not None}
        return [*(one for one in self.machine.rows if one.id not in ids or "again" in self.says), *self.added]

    def document(self) -> Document:
        return document_from_text(yaml_from_tree(self.tree()), "guest.yaml")

    def tree(self) -> Tree:
        rows = self.rows
        provided = {bus.name: one for one in rows for bus in buses_of(one.driver, one.id)}

        def node(one: Row) -> Node:
            buses = tuple(
                Bus(
                    bus.name,
                    bus.type,
                    tuple(node(inner) for inner in rows if inner.bus == bus.name and provided[bus.name] is one),
                )
                for bus in buses_of(one.driver, one.id)
            )
            return Node(one.driver, one.id, one.address, properties=one.properties, buses=buses)

        tops: dict[str, list[Node]] = {name: [] for name in self.machine.buses}
        for one in rows:
            if one.bus is not None and one.bus not in provided:
                tops.setdefault(one.bus, []).append(node(one))
        buses = tuple(Bus(name, self.machine.buses.get(name, "PCI"), tuple(nodes)) for name, nodes in tops.items())
        loose = tuple(node(one) for one in rows if one.bus is None)
        return Tree(machine={"type": self.machine.name, "arch": "x86_64"}, buses=buses, devices=loose)

    def words(self) -> list[str]:
        words = ["-machine", self.machine.name, "-m", "16", "-nodefaults", "-display", "none", "-accel", "tcg", "-S"]
        words += ["-qmp", "stdio", "-audiodev", "none,id=audio", "-object", "rng-builtin,id=objrng"]
        types = {bus.name: bus.type for one in self.rows for bus in buses_of(one.driver, one.id)} | dict(self.machine.buses)
        for count, one in enumerate(self.rows):
            bag: dict[str, Any] = {"driver": one.driver}
            bag |= {"id": one.id} if one.id is not None else {}
            bag |= {"bus": one.bus} if one.bus is not None else {}
            bag |= _address(types.get(one.bus or ""), one.address) if one.address is not None else {}
            bag |= dict(one.properties)
            if re.match(r"(scsi|ide)-(hd|cd)|virtio-blk|nvme", one.driver):
                words += ["-blockdev", f"null-co,node-name=d{count},read-zeroes=on"]
                bag["drive"] = f"d{count}"
            if re.match(r"virtconsole|isa-serial|usb-serial|isa-parallel|isa-debugcon", one.driver):
                words += ["-chardev", f"null,id=c{count}"]
                bag["chardev"] = f"c{count}"
            bag |= {"audiodev": "audio"} if one.driver.startswith(("hda-", "usb-audio", "ES1370", "AC97")) else {}
            bag |= {"rng": "objrng"} if one.driver.startswith("virtio-rng") else {}
            bag |= {"serial": "1"} if one.driver == "nvme" else {}
            words += ["-device", ",".join(f"{k}={_text(v)}" if k != "driver" else v for k, v in bag.items())]
        return words


def _address(kind: str | None, address: str) -> dict[str, Any]:
    if kind == "usb-bus":
        return {"port": address}
    if kind == "SCSI" and address.count(":") == 2:
        return dict(zip(("channel", "scsi-id", "lun"), address.split(":"), strict=True))
    name = {"IDE": "unit", "floppy-bus": "unit", "HDA": "cad", "virtio-serial-bus": "nr", "ISA": None}.get(
        kind or "", "addr"
    )
    return {name: address} if name else {"iobase": f"0x{address}"}


def _text(value: Any) -> str:
    return {True: "on", False: "off"}.get(value, str(value)) if isinstance(value, bool) else str(value).replace(",", ",,")


def refusal(binary: str, edit: Edit) -> str:
    """What QEMU says where it refuses; '' where it takes the machine."""
    done = subprocess.run([binary, *edit.words()], input=QUIT, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode == 0:
        return ""
    return next((line for line in reversed(done.stderr.splitlines()) if "warning" not in line), "refused")


# --- the edits -------------------------------------------------------------------------------------------------------


def pci() -> Iterator[Edit]:
    """Slots and functions, taken, free, reserved, malformed."""
    for address in ("00.0", "01.0", "02.0", "02.1", "09.0", "0a.0", "0c.0", "0c.1", "10.0", "10.1", "1e.0", "1f.0", "1f.1", "1f.2",
                    "1f.3", "1f.4", "1f.7", "20.0", "05.8", "5.0.0", "x.0", "1f"):  # fmt: skip
        yield Edit(f"e1000 at {address}", Q35, (row("e1000", "pcie.0", address),))
    for address in (
        "00.0",
        "01.0",
        "01.1",
        "01.2",
        "01.3",
        "01.4",
        "01.7",
        "02.0",
        "04.0",
        "04.1",
        "06.0",
        "07.0",
        "1f.0",
        "1f.7",
    ):
        yield Edit(f"rtl8139 at {address}", PC, (row("rtl8139", "pci.0", address),))
    for multi in (True, False):
        for others in (("10.1",), ("10.7",), ("10.1", "10.2"), ("10.1", "10.1"), ("10.0", "10.1")):
            zero = row("e1000", "pcie.0", "10.0", multifunction=multi)
            yield Edit(f"multifunction {multi}, {others}", Q35, (zero, *(row("e1000", "pcie.0", a) for a in others)))
    yield Edit("functions without function 0", Q35, (row("e1000", "pcie.0", "10.1"), row("e1000", "pcie.0", "10.2")))
    for address in ("00.0", "01.0", "1f.7"):
        for bus in ("rp4", "br1"):
            yield Edit(f"behind {bus} at {address}", Q35, (row("e1000", bus, address),))
    for address in ("00.0", "01.0", "1f.0"):
        yield Edit(f"behind a bridge at {address}", PC, (row("e1000", "br1", address),))
    for driver in ("e1000", "pcie-root-port", "pci-bridge"):
        for multiple in ("pxb-pcie",):
            expander = row(multiple, "pcie.0", "10.0", "px", bus_nr=40)
            expander = Row(expander.driver, expander.bus, expander.address, expander.id, {"bus_nr": 40})
            more = {"chassis": 50} if driver == "pcie-root-port" else {"chassis_nr": 50} if driver == "pci-bridge" else {}
            yield Edit(f"{driver} on {multiple}", Q35, (expander, Row(driver, "px", "00.0", None, more)))
    for address in ("00.0", "03.0"):
        yield Edit(
            f"e1000 on pxb at {address}",
            PC,
            (Row("pxb", "pci.0", "10.0", "px", {"bus_nr": 40}), row("e1000", "px", address)),
        )


_HERE: Mapping[str, tuple[str, str]] = {
    # bus -> a free address there
    "pcie.0": ("11.0", "PCIE"),
    "rp4": ("00.0", "PCIE"),
    "br1": ("05.0", "PCI"),
    "scsi0.0": ("0:3:0", "SCSI"),
    "vs.0": ("3", "virtio-serial-bus"),
    "xhci.0": ("3", "usb-bus"),
    "hda.0": ("3", "HDA"),
    "ide.3": ("0", "IDE"),
    "isa.0": ("2f8", "ISA"),
    "pci.0": ("05.0", "PCI"),
    "nowhere.0": ("05.0", "PCI"),
}


def buses() -> Iterator[Edit]:
    """Every kind of device on every kind of bus."""
    for driver in ("virtio-net-pci", "e1000e", "VGA", "nvme", "scsi-hd", "usb-tablet", "ide-cd", "hda-duplex", "virtserialport",
                   "isa-serial"):  # fmt: skip
        for bus, (address, _) in _HERE.items():
            yield Edit(f"{driver} on {bus}", Q35, (row(driver, bus, address),))


def scsi() -> Iterator[Edit]:
    for driver in ("virtio-scsi-pci", "lsi53c895a", "megasas", "pvscsi", "am53c974", "mptsas1068"):
        for address in ("0:0:0", "0:7:0", "0:8:0", "0:9:0", "0:0:1", "0:0:2", "0:0:8", "0:64:0", "0:65:0",
                        "0:256:0", "0:0:255", "0:0:256", "0:0:16384", "1:0:0"):  # fmt: skip
            yield Edit(f"{driver} {address}", Q35, (row(driver, "pcie.0", "12.0", "hba"), row("scsi-hd", "hba.0", address)))
    two = (row("scsi-hd", "scsi0.0", "0:1:1"), row("scsi-cd", "scsi0.0", "0:1:1"))
    yield Edit("two at one SCSI address", Q35, two)
    yield Edit("two beside each other", Q35, (two[0], row("scsi-cd", "scsi0.0", "0:1:2")))


def usb() -> Iterator[Edit]:
    for controller in ("piix3-usb-uhci", "pci-ohci", "usb-ehci", "qemu-xhci"):
        base = row(controller, "pcie.0", "12.0", "u")
        for driver in ("usb-tablet", "usb-kbd", "usb-hub", "usb-ccid", "usb-wacom-tablet", "usb-net", "usb-bot", "usb-uas"):
            yield Edit(f"{driver} on {controller}", Q35, (base, row(driver, "u.0", "1")))
        for number in ("0", "2", "3", "4", "5", "6", "7", "1.1", "x"):
            yield Edit(f"{controller} port {number}", Q35, (base, row("usb-tablet", "u.0", number)))
    for ports in ({"p2": 2, "p3": 6}, {"p2": 15, "p3": 15}, {"p2": 8, "p3": 1}):
        for number in ("2", "3", "8", "15", "16"):
            added = (Row("qemu-xhci", "pcie.0", "12.0", "u", ports), row("usb-bot", "u.0", number))
            yield Edit(f"xhci {ports} port {number}", Q35, added)
            yield Edit(f"xhci {ports} tablet {number}", Q35, (added[0], row("usb-tablet", "u.0", number)))
    hub = row("usb-hub", "xhci.0", "1")
    for number in ("1", "1.1", "1.8", "1.9", "2", "1.1.1"):
        yield Edit(f"a hub at 1, a tablet at {number}", Q35, (hub, row("usb-tablet", "xhci.0", number)))
    ehci = row("ich9-usb-ehci1", "pcie.0", "1d.7", "e", multifunction=True)
    uhci = row("ich9-usb-uhci1", "pcie.0", "1d.0", None, multifunction=True, masterbus="e.0", firstport=0)
    for driver in ("usb-hub", "usb-tablet", "usb-uas"):
        for number in ("1", "2", "3"):
            yield Edit(f"{driver} with companions at {number}", Q35, (ehci, uhci, row(driver, "e.0", number)))
    yield Edit("two at one port", Q35, (row("usb-tablet", "xhci.0", "1"), row("usb-kbd", "xhci.0", "1")))


def units() -> Iterator[Edit]:
    for address in ("0", "1"):
        yield Edit(f"ahci unit {address}", Q35, (row("ide-hd", "ide.2", address),))
    for address in ("0", "1", "2"):
        yield Edit(f"ide unit {address}", PC, (row("ide-hd", "ide.1", address),))
        yield Edit(f"floppy {address}", PC, (row("floppy", "floppy-bus.0", address),))
    yield Edit("two drives at one unit", PC, (row("ide-hd", "ide.0", "0"), row("ide-cd", "ide.0", "0")))
    yield Edit("two floppies at one unit", PC, (row("floppy", "floppy-bus.0", "0"), row("floppy", "floppy-bus.0", "0")))
    for bus in ("ide.5", "ide.6", "ide.9"):
        yield Edit(f"a disk on {bus}", Q35, (row("ide-hd", bus, "0"),))
    for address in ("0", "1", "30", "31", "100"):
        yield Edit(f"port {address}", Q35, (row("virtserialport", "vs.0", address, name="a"),))
        yield Edit(f"console {address}", Q35, (row("virtconsole", "vs.0", address),))
    for most in (2, 4):
        serial = Row("virtio-serial-pci", "pcie.0", "12.0", "few", {"max_ports": most})
        yield Edit(f"port 3 of {most}", Q35, (serial, row("virtserialport", "few.0", "3", name="a")))
    for address in ("0", "14", "15"):
        yield Edit(f"codec {address}", Q35, (row("hda-duplex", "hda.0", address),))
    yield Edit(
        "two ports at one nr",
        Q35,
        (row("virtserialport", "vs.0", "1", name="a"), row("virtserialport", "vs.0", "1", name="b")),
    )
    yield Edit(
        "two ports of a name",
        Q35,
        (row("virtserialport", "vs.0", "1", name="a"), row("virtserialport", "vs.0", "2", name="a")),
    )
    yield Edit("two codecs at one address", Q35, (row("hda-duplex", "hda.0", "1"), row("hda-duplex", "hda.0", "1")))
    yield Edit(
        "two serial ports at one iobase", Q35, (row("isa-serial", "isa.0", "3f8"), row("isa-serial", "isa.0", "3f8"))
    )


def unique() -> Iterator[Edit]:
    for chassis, slot in ((1, 0), (9, 0), (1, 1), (0, 0)):
        added = row("pcie-root-port", "pcie.0", "12.0", "new", chassis=chassis, slot=slot)
        yield Edit(f"chassis {chassis} slot {slot}", Q35, (added,))
    for number in (0, 1, 2):
        yield Edit(f"chassis_nr {number}", PC, (Row("pci-bridge", "pci.0", "12.0", "br2", {"chassis_nr": number}),))
    yield Edit("a bridge without a number", PC, (row("pci-bridge", "pci.0", "12.0", "br2"),))
    for name, value in (("bootindex", 1), ("bootindex", 2), ("acpi-index", 5), ("mac", "52:54:00:00:00:01"), ("mac", "52-54-00-00-00-01"),
                        ("mac", "52:54:00"), ("mac", "zz:54:00:00:00:01"), ("mac", "01:00:00:00:00:01")):  # fmt: skip
        yield Edit(f"{name} {value}", Q35, (Row("e1000", "pcie.0", "12.0", None, {name: value}),))
    index = {"acpi-index": 7}
    yield Edit(
        "acpi-index twice", Q35, (Row("e1000", "pcie.0", "12.0", None, index), Row("e1000", "pcie.0", "13.0", None, index))
    )
    yield Edit("net0 again", Q35, (row("e1000", "pcie.0", "12.0", "net0"),))
    yield Edit("another id", Q35, (row("e1000", "pcie.0", "12.0", "net1"),))
    for drivers in (("virtio-balloon-pci",) * 2, ("virtio-balloon-pci",), ("i6300esb", "ib700"), ("VGA", "virtio-vga"), ("vmcoreinfo",) * 2,
                    ("vmcoreinfo",), ("vmgenid", "vmgenid"), ("vmgenid",), ("intel-iommu",), ("intel-iommu",) * 2, ("pvpanic",), ("pvpanic",) * 2,
                    ("virtio-rng-pci",) * 2):  # fmt: skip
        yield Edit(" and ".join(drivers), Q35, tuple(_somewhere(driver, count) for count, driver in enumerate(drivers)))


def _somewhere(driver: str, count: int) -> Row:
    if driver in ("vmcoreinfo", "vmgenid", "intel-iommu"):
        return row(driver, None, None)
    return row(driver, "isa.0", None) if driver in ("ib700", "pvpanic") else row(driver, "pcie.0", f"{0x12 + count:02x}.0")


def values() -> Iterator[Edit]:
    """Properties and their values: these need the binary's own knowledge."""
    for driver, name, good, bad in (
        ("e1000", "autonegotiation", (True, "on", "no"), ("maybe", 2)),
        ("e1000", "rombar", (0, 1, 7), (-1, 2**32, "one")),
        ("e1000", "romsize", (2**20,), ("big",)),
        ("virtio-net-pci", "vectors", (0, 3, 9), ("x", -1)),
        ("virtio-net-pci", "rx_queue_size", (256, 512, 1024), (255, 300, 2048, 70000)),
        ("virtio-net-pci", "tx_queue_size", (256,), (257, 4096)),
        ("virtio-net-pci", "disable-legacy", ("on", "off", "auto"), ("perhaps",)),
        ("virtio-net-pci", "x-disable-pcie", (True,), ("3",)),
        ("virtio-net-pci", "nonsense", (), (1, "a")),
        ("virtio-net-pci", "mcq", (), (True,)),
        ("virtio-rng-pci", "max-bytes", (1024,), ("many",)),
        ("qemu-xhci", "p2", (1, 15), (0, 16, "x")),
        ("qemu-xhci", "msi", ("on", "auto"), ("sometimes",)),
        ("pcie-root-port", "port", (0, 255), (256, -1)),
        ("pcie-root-port", "x-speed", ("2_5", "16"), ("3", "fast")),
        ("pcie-root-port", "x-width", ("1", "32"), ("3",)),
        ("pcie-root-port", "hotplug", (False,), ("maybe",)),
        ("i6300esb", "romfile", ("",), ()),
        ("VGA", "vgamem_mb", (8, 16), ("lots", 2**33)),
        ("ich9-intel-hda", "msi", ("auto", True), ("maybe",)),
        ("virtio-blk-pci", "num-queues", (1, 4), (70000, "x")),
        ("virtio-blk-pci", "logical_block_size", (512,), (4096, "some")),
        ("virtio-blk-pci", "physical_block_size", (4096,), (5,)),
        ("virtio-scsi-pci", "max_sectors", (100,), (2**33,)),
    ):
        base = {"chassis": 77} if driver == "pcie-root-port" else {}
        for value in (*good, *bad):
            yield Edit(f"{driver} {name}={value}", Q35, (Row(driver, "pcie.0", "12.0", None, {**base, name: value}),))
    for driver in ("virtio-nic-pci", "e1000", "ICH9-LPC", "mch", "rtl8139", "isa-pit"):
        yield Edit(f"driver {driver}", Q35, (row(driver, "pcie.0", "12.0"),))


GROUPS = {group.__name__: group for group in (pci, buses, scsi, usb, units, unique, values)}
