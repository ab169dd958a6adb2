"""What a comparison says: differences, what could not be compared and why, and how much was looked at."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from mdtool.errors import Position
from mdtool.machine.values import natural, plain
from mdtool.records import NamedTuple, dataclass, field
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
        IDENTITY: "mac serial wwn uuid port_wwn eui64 nguid nsid product vendor ver model name label mount_tag tag guid "
        "device_id",
        ADDRESS: "addr bus chassis slot port multifunction bus_nr numa_node unit nr iobase irq",
        PCI: "x-pci-vendor-id x-pci-device-id x-pci-sub-vendor-id x-pci-sub-device-id x-pci-class-code class vendor_id "
        "sub_vendor_id sub_device_id class_id revision disable-legacy disable-modern",
        EFFECTIVE: "write-cache",  # ``auto`` follows the drive's cache mode
        FIRMWARE: "romfile rombar romsize acpi-index bootindex acpi-pci-hotplug-with-bridge-support",
    }.items()
    for name in names.split()
}
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
        return f"{self.node}: {self.property}: described {_text(self.want)}, is {_text(self.have)}"

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
    return "nothing" if value is None else repr(value) if isinstance(value, str) else str(plain(value))


#: the views of a machine
TREE, SECTIONS_VIEW, ENUMERATED, FEATURES = "device tree", "machine", "PCI as enumerated", "effective features"


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
    unknown_facts: tuple[tuple[str, str], ...] = ()  # ("smbios.type1.serial", why) of sections and strings not compared
    facts: int = 0  # values of the sections that were compared
    enumerated: View | None = None

    @property
    def views(self) -> tuple[View, ...]:
        """All of them; one that was not looked at says so."""
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
        reasons: dict[str, list[str]] = {}
        for name, why in self.unknown_facts:
            reasons.setdefault(why, []).append(name)
        unknown = [Omitted(f"{len(names)} facts ({_listed(names)})", why) for why, names in reasons.items()]
        return (
            View(TREE, f"{self.nodes} nodes and {self.properties} properties", tuple(omitted)),
            View(SECTIONS_VIEW, f"{self.facts} facts", tuple(unknown)),
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

    @property
    def not_compared(self) -> tuple[Omitted, ...]:
        """What no view compared, with the reason."""
        return tuple(one for view in self.views for one in view.omitted)

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


_OF_THE_CPU = ("feature-words.", "features.", "identity.")
#: a disk's geometry, which QEMU derives from its size by default
_GEOMETRY = frozenset({"cyls", "heads", "secs", "bios-chs-trans", "max_io_size"})


def cpu_flags(differences: Iterable[Difference]) -> list[Difference]:
    """Those of what a CPU is and offers: a guest sees them; they are no fault of the machine where the hosts differ."""
    return [d for d in differences if d.severity == EFFECTIVE and d.property.startswith(_OF_THE_CPU)]


def guest_visible(differences: Iterable[Difference]) -> list[Difference]:
    """Those that the guest would notice, and for which a launch stops."""
    return [difference for difference in differences if difference.severity in GUEST_VISIBLE]


def noticed(differences: Iterable[Difference]) -> list[Difference]:
    """Those that the guest would notice, whatever caused them: also those of a CPU or a disk that the host caused."""
    found = list(differences)
    made = {id(one) for one in (*guest_visible(found), *cpu_flags(found))}
    return [one for one in found if id(one) in made or (one.severity == EFFECTIVE and one.property in _GEOMETRY)]


def worst_first(found: Iterable[Difference]) -> list[Difference]:
    """By severity, then in the order of nodes."""
    return sorted(found, key=lambda d: (SEVERITIES.index(d.severity), natural(d.node), d.property))
