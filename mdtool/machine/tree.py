"""The machine as the guest sees it: one tree in the middle of everything.

A reader makes a tree (``document``, ``qemu.dump``), ``reconcile`` makes a new one out of it, and ``launch`` and
``proof`` read it.  Values are frozen; there is no I/O and there are no parent links: ``Tree.places`` hands out each
node together with the bus it sits on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cached_property
from typing import Any

from mdtool.errors import Position
from mdtool.records import NamedTuple, dataclass, field

#: A property value: str, int, float, bool, None (QEMU's ``<null>``), or a list or a dict of them.
Value = Any
Properties = Mapping[str, Value]

BUILTIN = "builtin"  # origin of a node that the machine type itself creates
MANUAL = "hand"  # origin of a manual node: a person added it to the description, and no XML element stands for it

MONITOR = "monitor"  # source of a description: a running QEMU was asked
ARGUMENTS = "arguments"  # source: the arguments of its process were read too
SOURCES = (MONITOR, ARGUMENTS)


@dataclass(frozen=True, slots=True)
class Node:
    """One device.

    ``driver``      QEMU's type name, ``virtio-net-pci``
    ``id``          QEMU's id, ``net0``; None for an anonymous device
    ``address``     in the notation of the bus (see ``address``); None where the bus has none or where it is not chosen yet
    ``origin``      the XML element that the node stands for, ``interface/52:54:00:11:22:33``; ``builtin``, ``hand``, or
                    None if unknown (a dump without ``--xml``)
    ``properties``  guest-visible and chosen, by the XML or by hand: the tree document
    ``pins``        guest-visible and filled in by QEMU: the pins document
    ``applied``     what the XML last set (a subset of ``properties`` unless they were edited): kept with the pins, so
                    that "no longer in the XML" and "never was in the XML" differ
    ``effective``   what the host made of an ``auto``: recorded, compared apart
    ``pci``         what a PCI device is (class, ids, sizes of BARs and ROM), see ``pci.pci_facts``
    ``buses``       the buses that the device provides, in order of name
    ``position``    where it stands in its file; no part of equality
    ``empty``       of a machine that was just asked: its properties that are empty strings, which no file keeps
    """

    driver: str
    id: str | None = None
    address: str | None = None
    origin: str | None = None
    properties: Properties = field(default_factory=dict)
    pins: Properties = field(default_factory=dict)
    applied: Properties = field(default_factory=dict)
    effective: Properties = field(default_factory=dict)
    pci: Properties = field(default_factory=dict)
    buses: tuple[Bus, ...] = ()
    position: Position | None = field(default=None, compare=False, repr=False)
    empty: frozenset[str] = field(default=frozenset(), compare=False, repr=False)

    def value(self, name: str, absent: Any = None) -> Any:
        """A property as the guest will have it: chosen, or pinned.

        >>> Node("e1000", "n", properties={"mac": "x"}, pins={"mac": "y", "rombar": 1}).value("mac")
        'x'
        """
        return self.properties.get(name, self.pins.get(name, absent))

    def __str__(self) -> str:
        where = f" at {self.address}" if self.address is not None else ""
        return f"{self.id} ({self.driver}){where}" if self.id else f"{self.driver}{where}"


@dataclass(frozen=True, slots=True)
class Bus:
    """A bus and what sits on it, ordered by address.

    ``type`` is QEMU's own word (``PCIE``, ``usb-bus``, ``SCSI``, ``IDE``, ``System``); ``host`` names, for a bus at the
    top of the description, the system-bus device it hangs off (``q35-pcihost``) and is None everywhere else.
    """

    name: str
    type: str
    devices: tuple[Node, ...] = ()
    host: str | None = None
    position: Position | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Retired:
    """An address kept for a device that was removed: no other device gets it while there is another one."""

    origin: str
    bus: str
    address: str
    id: str | None = None


class Place(NamedTuple):
    """A node with where it is.  ``bus`` and ``parent`` are None for a device on no bus; ``parent`` is None on a top bus."""

    node: Node
    name: str
    bus: Bus | None = None
    parent: Node | None = None

    @property
    def address(self) -> tuple[str, str] | None:
        """(bus name, address), or None where there is no bus or no address."""
        if self.bus is None or self.node.address is None:
            return None
        return self.bus.name, self.node.address

    def __str__(self) -> str:
        return f"{self.name} at {self.bus.name} {self.node.address}" if self.bus and self.node.address else self.name


#: The sections of a description that are plain data; their keys are in schemas/machine.schema.json.
SECTIONS = ("guest", "machine", "cpu", "memory", "numa", "firmware", "boot", "smbios", "features", "clock", "objects")


@dataclass(frozen=True)
class Tree:
    """A whole machine.

    The sections (``guest``, ``machine``, ``cpu``, ...) are plain JSON-like data whose keys the schema defines; an absent
    section is an empty dict.  ``buses`` are the buses that hang off system-bus devices, and ``main-system-bus`` itself;
    all other buses are inside the node that provides them.  ``devices`` sit on no bus (CPUs, DIMMs).

    ``source`` says who was asked when the description was made (``MONITOR``, ``ARGUMENTS``); empty where guest XML or a
    person made it.  With it, an absent key means "not set" where the source could have known it, and "not known" where it
    could not.  ``machine_pins`` are the machine properties that QEMU has by default, ``{"nvdimm": False}``.
    """

    guest: Properties = field(default_factory=dict)
    machine: Properties = field(default_factory=dict)
    cpu: Properties = field(default_factory=dict)
    memory: Properties = field(default_factory=dict)
    numa: Properties = field(default_factory=dict)
    firmware: Properties = field(default_factory=dict)
    boot: Properties = field(default_factory=dict)
    smbios: Properties = field(default_factory=dict)
    features: Properties = field(default_factory=dict)
    clock: Properties = field(default_factory=dict)
    objects: Properties = field(default_factory=dict)  # {id: {type: memory-backend-ram, size: ...}}
    buses: tuple[Bus, ...] = ()
    devices: tuple[Node, ...] = ()
    retired: tuple[Retired, ...] = ()
    applied: Properties = field(default_factory=dict)  # what the XML last set of the sections: {"@cpu": {...}}
    source: tuple[str, ...] = ()
    machine_pins: Properties = field(default_factory=dict)

    @cached_property
    def places(self) -> tuple[Place, ...]:
        """Every node with its bus, in document order; names are unique (see ``node_name``)."""
        seen: dict[str, int] = {}
        found: list[Place] = []

        def add(nodes: Iterable[Node], bus: Bus | None, parent: Node | None) -> None:
            for node in nodes:
                name = node_name(node, bus)
                seen[name] = number = seen.get(name, 0) + 1
                found.append(Place(node, name if number == 1 else f"{name}#{number}", bus, parent))
                for inner in node.buses:
                    add(inner.devices, inner, node)

        for bus in self.buses:
            add(bus.devices, bus, None)
        add(self.devices, None, None)
        return tuple(found)

    @cached_property
    def by_name(self) -> Mapping[str, Place]:
        return {place.name: place for place in self.places}

    @cached_property
    def by_node(self) -> Mapping[int, Place]:
        """Every place by the identity (``id``) of its node."""
        return {id(place.node): place for place in self.places}

    @cached_property
    def all_buses(self) -> Mapping[str, Bus]:
        """Every bus by its name, wherever it hangs."""
        found = {bus.name: bus for bus in self.buses}
        for place in self.places:
            for bus in place.node.buses:
                found[bus.name] = bus
        return found


def node_name(node: Node, bus: Bus | None) -> str:
    """What a node is called: its id, or what stays of it.

    >>> node_name(Node("virtio-net-pci", id="net0"), None)
    'net0'
    >>> node_name(Node("mch", address="00.0"), Bus("pcie.0", "PCIE"))
    'mch@pcie.0/00.0'
    """
    if node.id is not None:
        return node.id
    if bus is None:
        return f"{node.driver}@{node.address}" if node.address is not None else node.driver
    return f"{node.driver}@{bus.name}" + (f"/{node.address}" if node.address is not None else "")
