"""What differs between a description and a machine, by node and property.

``compare`` holds two trees against each other: the one that was described, and the one that a dump of a running QEMU
gave.  ``comparison`` says besides how much it looked at, view by view: the device tree, and what the host made of an
``auto``; the third view, PCI as the guest's firmware enumerated it, is ``mdtool.proof.enumerated``'s.

Nodes are matched by id, then by name, then (a built-in that moved) by driver.  What the description does not say is not
compared: a missing pin, a missing address, and every built-in where the description has none at all (one made from XML
alone).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mdtool.errors import Position
from mdtool.machine.drivers import same_driver
from mdtool.machine.pci import pci_facts
from mdtool.machine.tree import BUILTIN, SECTIONS, Bus, Node, Place, Properties, Tree, Value
from mdtool.machine.values import natural, plain, same
from mdtool.machine.writer import address_key
from mdtool.text import one_line

# Severities, the worst first.
IDENTITY = "identity"  # another device, or the same one somewhere else
ADDRESS = "address"
PCI = "pci"  # PCI ids and class, which drivers bind to
PROPERTY = "property"
FIRMWARE = "firmware"  # ACPI, SMBIOS, ROMs, fw_cfg
EFFECTIVE = "effective"  # what the host made of an ``auto``
HOST = "host"  # no guest can see it
SEVERITIES = (IDENTITY, ADDRESS, PCI, PROPERTY, FIRMWARE, EFFECTIVE, HOST)
#: what a guest sees of its hardware; a launch stops for these
GUEST_VISIBLE = frozenset({IDENTITY, ADDRESS, PCI, PROPERTY, FIRMWARE})

#: properties that are more than a property
SEVERITY_OF = {
    name: severity
    for severity, names in {
        IDENTITY: "mac serial wwn uuid port_wwn eui64 nguid nsid product vendor ver",
        ADDRESS: "addr bus chassis slot port multifunction bus_nr numa_node unit nr iobase irq",
        PCI: "x-pci-vendor-id x-pci-device-id x-pci-sub-vendor-id x-pci-sub-device-id x-pci-class-code class vendor_id "
        "device_id sub_vendor_id sub_device_id class_id revision disable-legacy disable-modern",
        EFFECTIVE: "write-cache",  # ``auto`` is what the drive's cache mode makes of it
        FIRMWARE: "romfile rombar romsize acpi-index bootindex acpi-pci-hotplug-with-bridge-support",
    }.items()
    for name in names.split()
}
#: (driver, property) that show what firmware did, not what the machine is
_SET_BY_FIRMWARE = frozenset({("q35-pcihost", "MCFG")})
#: pins that QEMU makes of other properties: with another of these in the tree they say what was
_MADE_OF = {"romsize": ("rombar", "romfile")}
SECTION_SEVERITY = {
    ("guest", "uuid"): IDENTITY,
    ("guest", "name"): HOST,
    ("machine", "type"): IDENTITY,
    ("machine", "arch"): IDENTITY,
    ("machine", "qemu"): HOST,
    ("firmware", ""): FIRMWARE,
    ("boot", ""): FIRMWARE,
    ("smbios", ""): FIRMWARE,
}


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs.

    ``node``      the node's name, or the section's (``machine``, ``cpu``)
    ``property``  the property; ``address`` where it moved, ``driver``; "" where the whole node is missing or too many
    ``want``      what the description says; None where it does not have the node
    ``have``      what the machine says; None where it does not have it
    ``position``  where the description says it
    """

    node: str
    property: str
    want: Any
    have: Any
    severity: str
    position: Position | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return one_line(self._sentence())

    def _sentence(self) -> str:
        if self.property == "":
            if self.have is None:
                return f"{self.node}: missing: described is {self.want}, and the machine has none"
            return f"{self.node}: not described: the machine has {self.have}"
        if self.property == "address":
            return f"{self.node}: moved: described at {self.want}, is at {self.have}"
        have = "nothing" if self.have is None else _text(self.have)
        return f"{self.node}: {self.property}: described {_text(self.want)}, is {have}"

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        place = {"at": str(self.position)} if self.position else {}
        return {
            "node": self.node,
            "property": self.property,
            "want": self.want,
            "have": self.have,
            "severity": self.severity,
            **place,
        }


def _text(value: Any) -> str:
    return str(plain(value)) if not isinstance(value, str) else repr(value)


#: the three views of a machine
TREE, ENUMERATED, FEATURES = "device tree", "PCI as enumerated", "effective features"


class Omitted(NamedTuple):
    """What a view did not compare, and why; ``what`` says how many or which."""

    what: str
    why: str

    def __str__(self) -> str:
        return f"{self.what}: {self.why}"


class View(NamedTuple):
    """One way of looking at a machine: what of it was compared, and what was not."""

    name: str
    compared: str
    omitted: tuple[Omitted, ...] = ()

    def __str__(self) -> str:
        return "\n".join([f"{self.name}: {self.compared} compared", *(f"  not compared: {one}" for one in self.omitted)])

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        return {"view": self.name, "compared": self.compared, "omitted": [one._asdict() for one in self.omitted]}


@dataclass(frozen=True, slots=True)
class Compared:
    """How much a comparison looked at: a green check says what it was a check of."""

    nodes: int
    properties: int
    skipped_nodes: int  # of the machine, built-ins that a partial description leaves out
    skipped_properties: tuple[tuple[str, str], ...]  # (node, property) that the machine does not show
    functions: int = 0  # PCI functions whose class, ids, BARs and ROM were compared
    unknown: tuple[str, ...] = ()  # PCI functions of which the description does not have these, for these properties
    features: int = 0  # what the host made of an ``auto``, recorded and shown
    skipped_features: tuple[tuple[str, str], ...] = ()  # recorded and not shown
    unrecorded: tuple[str, ...] = ()  # nodes that show such, of which the description records none
    enumerated: View | None = None

    @property
    def views(self) -> tuple[View, ...]:
        """The three of them; one that was not looked at says so."""
        omitted = []
        if self.skipped_nodes:
            omitted.append(Omitted(f"{self.skipped_nodes} built-ins", "the description has none; a dump has them"))
        if self.skipped_properties:
            omitted.append(Omitted(_counted(self.skipped_properties, "properties"), "QEMU does not show them"))
        missing = []
        if self.skipped_features:
            missing.append(Omitted(_counted(self.skipped_features, "features"), "this machine does not have them"))
        if self.unrecorded:
            why = "the description records none; a dump does"
            missing.append(Omitted(f"{len(self.unrecorded)} nodes ({_listed(self.unrecorded)})", why))
        return (
            View(TREE, f"{self.nodes} nodes and {self.properties} properties", tuple(omitted)),
            self._pci(),
            View(FEATURES, f"{self.features} features", tuple(missing)),
        )

    def _pci(self) -> View:
        """Places are query-pci's to say, and all the rest is in the dump too, behind bridges without a number as well."""
        places = self.enumerated
        said = [places.compared] if places else []
        omitted = list(places.omitted if places else [Omitted("places", "nobody asked for query-pci")])
        if self.functions:
            said.append(f"class, ids, BARs and ROM of {self.functions} functions")
        if self.unknown:
            what = f"class, ids, BARs and ROM of {len(self.unknown)} functions ({_listed(self.unknown)})"
            omitted.append(Omitted(what, "the description has none for these properties; a dump does"))
        return View(ENUMERATED, ", ".join(said) or "nothing", tuple(omitted))

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "nodes": self.nodes,
            "properties": self.properties,
            "skipped_nodes": self.skipped_nodes,
            "skipped_properties": [list(pair) for pair in self.skipped_properties],
            "views": [view.data() for view in self.views],
        }

    def __str__(self) -> str:
        tree = self.views[0]
        return ", ".join([f"{tree.compared} compared", *(f"{what} not ({why})" for what, why in tree.omitted)])


def _counted(pairs: Sequence[tuple[str, str]], noun: str) -> str:
    return f"{len(pairs)} {noun} ({_listed([f'{node}.{name}' for node, name in pairs])})"


def _listed(names: Sequence[str]) -> str:
    return ", ".join([*names[:6], *(["..."] if len(names) > 6 else [])])


def cpu_flags(differences: Iterable[Difference]) -> list[Difference]:
    """Those of what a CPU offers: a guest sees them; they are no fault of the machine where the hosts differ."""
    return [d for d in differences if d.severity == EFFECTIVE and d.property.startswith("feature-words")]


def guest_visible(differences: Iterable[Difference]) -> list[Difference]:
    """Those that the guest would notice, and for which a launch stops."""
    return [difference for difference in differences if difference.severity in GUEST_VISIBLE]


def compare(description: Tree, machine: Tree) -> list[Difference]:
    """Everything that the description says and the machine has otherwise; the worst first, then in the order of nodes.

    >>> from mdtool.machine.tree import Bus, Node
    >>> one = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="03.0"),)),))
    >>> two = Tree(buses=(Bus("pci.0", "PCI", (Node("e1000", id="net0", address="04.0"),)),))
    >>> print(compare(one, two)[0])
    net0: moved: described at pci.0 03.0, is at pci.0 04.0
    """
    return comparison(description, machine)[0]


def comparison(description: Tree, machine: Tree) -> tuple[list[Difference], Compared]:
    """``compare``, and how much it looked at."""
    pairs, missing, extra = _matched(description, machine)
    full = any(place.node.origin == BUILTIN for place in description.places)
    found: list[Difference] = []
    skipped: list[tuple[str, str]] = []
    unseen: list[tuple[str, str]] = []
    unrecorded: list[str] = []
    unknown: list[str] = []
    count = features = functions = 0
    other_names = {(want.name, have.name) for want, have in pairs}
    for want, have in pairs:
        found += _moved(want, have, other_names)
        described = {**want.node.pins, **want.node.properties}
        seen = {**have.node.pins, **have.node.properties}
        count += len(described)
        for name, value in described.items():
            if (want.node.driver, name) in _SET_BY_FIRMWARE or _stale(want.node, name):
                continue
            if name not in seen:
                skipped.append((want.name, name))
            elif not same(value, seen[name]):
                severity = SEVERITY_OF.get(name, PROPERTY)
                found.append(Difference(want.name, name, value, seen[name], severity, want.node.position))
        if have.node.pci and not pci_facts(want.node):
            unknown.append(want.name)
        elif have.node.pci:
            functions += 1
            found += pci_differences(want.name, want.node, pci_facts(have.node))
        made, recorded = _flat(have.node.effective), _flat(want.node.effective)
        if made and not recorded:
            unrecorded.append(want.name)
        for name, value in recorded.items():
            if name not in made:
                unseen.append((want.name, name))
                continue
            features += 1
            if not same(value, made[name]):
                found.append(Difference(want.name, name, value, made[name], EFFECTIVE, want.node.position))
    found += [Difference(place.name, "", _at(place), None, IDENTITY, place.node.position) for place in missing]
    # What a device brings with it (a usb-storage its disk) is known once it was dumped, and then it has pins.
    new = {id(have.node) for want, have in pairs if not want.node.pins and want.node.origin != BUILTIN}
    left_out = [place for place in extra if place.node.origin == BUILTIN and (not full or id(place.parent) in new)]
    found += [Difference(place.name, "", None, _at(place), IDENTITY) for place in extra if place not in left_out]
    for section in SECTIONS:
        found += _sections(section, "", getattr(description, section), getattr(machine, section))
    found += _buses(description, machine)
    looked_at = Compared(
        nodes=len(pairs),
        properties=count,
        skipped_nodes=len(left_out),
        skipped_properties=tuple(skipped),
        functions=functions,
        unknown=tuple(unknown),
        features=features,
        skipped_features=tuple(unseen),
        unrecorded=tuple(unrecorded),
    )
    return worst_first(found), looked_at


#: PCI facts (``pci_facts``) that are called otherwise in a report, where ``id`` is QEMU's
_PCI_NAMES = {"class": "PCI class", "id": "PCI id", "sub": "PCI subsystem id", "rom": "ROM size"}


def pci_differences(name: str, node: Node, seen: Mapping[str, Value]) -> Iterator[Difference]:
    """What is otherwise than the description's PCI facts of ``node``; nothing where it has none."""
    known = pci_facts(node)
    for fact in sorted({*known, *seen}) if known else ():
        want, have = known.get(fact), seen.get(fact)
        if want != have:
            severity = FIRMWARE if fact == "rom" else PCI
            yield Difference(name, _PCI_NAMES.get(fact, fact), want, have, severity, node.position)


def worst_first(found: Iterable[Difference]) -> list[Difference]:
    """By severity, then in the order of nodes."""
    return sorted(found, key=lambda d: (SEVERITIES.index(d.severity), natural(d.node), d.property))


def _stale(node: Node, pin: str) -> bool:
    """Whether a property in the tree overrides what a pin was made of; the size of a ROM is also among the PCI facts."""
    return pin not in node.properties and any(name in node.properties for name in _MADE_OF.get(pin, ()))


def _flat(bag: Properties, path: str = "") -> dict[str, Any]:
    """A mapping in a mapping by its path: ``feature-words.1.ecx``."""
    found: dict[str, Any] = {}
    for name, value in bag.items():
        found |= _flat(value, f"{path}{name}.") if isinstance(value, Mapping) else {f"{path}{name}": value}
    return found


def _at(place: Place) -> str:
    """``e1000 at pci.0 03.0``."""
    if place.bus is None:
        return place.node.driver
    return f"{place.node.driver} at " + " ".join(filter(None, (place.bus.name, place.node.address)))


def _matched(description: Tree, machine: Tree) -> tuple[list[tuple[Place, Place]], list[Place], list[Place]]:
    """(pairs, described and not there, there and not described).

    No guest sees an id: ``-net nic`` gives none, and libvirt gives them out anew, so that another NIC may have it.  So
    in this order: the same name and no contradiction; the same place and no contradiction; the same id; the same place;
    and at last an anonymous node (named by where it is) with another one of its driver, nearest first.  A place is the way
    to it, or, on a bus of the machine's own that a partial description has without what provides it, that bus's name.
    """
    left: dict[str, Place] = dict(machine.by_name)
    alone = dict(description.by_name)
    way_to, by_way = ways(description), {way: name for name, way in ways(machine).items()}
    at: dict[tuple[str | None, str | None], str] = {
        (_bus(place), place.node.address): name for name, place in left.items() if place.node.address is not None
    }
    pairs: dict[str, Place] = {}

    def named(place: Place) -> Place | None:
        return left.get(place.name)

    def placed(place: Place) -> Place | None:
        there = by_way.get(way_to.get(place.name, ()))
        if there is None and place.parent is None:
            there = at.get((_bus(place), place.node.address))
        return left.get(there or "")

    def like(place: Place) -> Place | None:
        others = [other for other in left.values() if other.node.id is None and _same_driver(place, other)]
        near = min(others, key=lambda other: _bus(other) != _bus(place), default=None)
        return near if place.node.id is None else None

    rules: tuple[tuple[Callable[[Place], Place | None], Callable[[Place, Place], bool]], ...] = (
        (named, _agree),
        (placed, _agree),
        (named, lambda one, _: one.node.id is not None),
        (placed, _same_driver),
        (like, _same_driver),
    )
    for candidate, fits in rules:
        for place in list(alone.values()):
            if (other := candidate(place)) is not None and fits(place, other):
                pairs[place.name] = left.pop(other.name)
                del alone[place.name]
    found = [(place, pairs[place.name]) for place in description.places if place.name in pairs]
    return found, list(alone.values()), list(left.values())


def _agree(one: Place, other: Place) -> bool:
    """The same driver, and nothing that makes them two devices."""
    mine, others = ({**place.node.pins, **place.node.properties} for place in (one, other))
    marks = [name for name in ("mac", "serial", "wwn") if mine.get(name) and others.get(name)]
    return _same_driver(one, other) and all(same(mine[name], others[name]) for name in marks)


def ways(tree: Tree) -> dict[str, tuple[str, ...]]:
    """Node name -> the way to it, in which ids have no part: the top bus, then a bus's number and an address in turn.

    Only where each of the addresses is known: ``("pcie.0", "0", "02.0", "0", "00.0")``.
    """
    found: dict[str, tuple[str, ...]] = {}
    names = {id(place.node): place.name for place in tree.places}
    for place in tree.places:
        if place.bus is None or place.node.address is None:
            continue
        number = [bus.name for bus in place.parent.buses].index(place.bus.name) if place.parent is not None else 0
        before = (place.bus.name,) if place.parent is None else found.get(names[id(place.parent)])
        if before is not None:
            found[place.name] = (*before, str(number), place.node.address)
    return found


def _bus(place: Place) -> str | None:
    return place.bus.name if place.bus is not None else None


def _same_bus(want: Place, have: Place, pairs: set[tuple[str, str]]) -> bool:
    """A bus is named after its device: with another id it has another name, and is the same one on the same device."""
    if _bus(want) == _bus(have) or want.parent is None or have.parent is None:
        return _bus(want) == _bus(have)
    return (want.parent.id or "", have.parent.id or "") in pairs


def _same_driver(one: Place, other: Place) -> bool:
    return same_driver(one.node.driver, other.node.driver)


def _moved(want: Place, have: Place, pairs: set[tuple[str, str]]) -> Iterator[Difference]:
    if want.node.id is not None and have.node.id != want.node.id:
        yield Difference(want.name, "id", want.node.id, have.node.id, HOST, want.node.position)
    if not _same_driver(want, have):
        yield Difference(want.name, "driver", want.node.driver, have.node.driver, IDENTITY, want.node.position)
    said = want.node.address
    seen = have.node.address
    if want.bus is None and said is None:
        return  # nobody said where, and QEMU chose (an s390x console on its event bus)
    if not _same_bus(want, have, pairs) or (said is not None and (seen is None or address_key(said) != address_key(seen))):
        here, there = (" ".join(filter(None, (_bus(p), p.node.address))) for p in (want, have))
        yield Difference(want.name, "address", here, there or None, ADDRESS, want.node.position)


def _sections(section: str, path: str, want: Properties, have: Properties) -> Iterator[Difference]:
    """What both sides say and say differently; a dump cannot see all that a description may hold."""
    for key, value in want.items():
        if key not in have:
            continue
        name = f"{path}.{key}" if path else key
        other = have[key]
        if isinstance(value, Mapping) and isinstance(other, Mapping):
            yield from _sections(section, name, value, other)
        elif _are_rows(value, other):
            for number, (one, two) in enumerate(zip(value, other, strict=True)):
                yield from _sections(section, f"{name}[{number}]", one, two)
        elif (section, key) == ("numa", "memory") and not other:
            continue  # -numa node,mem= of old machine types: QEMU tells nobody how much
        elif not same(value, other):
            severity = SECTION_SEVERITY.get((section, name)) or SECTION_SEVERITY.get((section, ""), PROPERTY)
            yield Difference(section, name, value, other, severity)


def is_pci(bus: Bus) -> bool:
    """Of any kind: conventional, Express, an expander's."""
    return bus.type.upper().startswith(("PCI", "PXB", "CXL"))


def _family(bus: Bus) -> str:
    """Buses that are alike: PCI of any kind, whose own devices say which it is."""
    return "PCI" if is_pci(bus) else bus.type


def _are_rows(one: Any, other: Any) -> bool:
    return (
        isinstance(one, list)
        and isinstance(other, list)
        and len(one) == len(other)
        and all(isinstance(item, Mapping) for item in (*one, *other))
    )


def _buses(description: Tree, machine: Tree) -> Iterator[Difference]:
    """A bus of another kind under the same name: its addresses would mean something else."""
    for name, bus in description.all_buses.items():
        other = machine.all_buses.get(name)
        if other is not None and _family(bus) != _family(other):
            yield Difference(name, "type", bus.type, other.type, ADDRESS, bus.position)
