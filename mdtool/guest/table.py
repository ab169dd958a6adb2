"""The table: what each device element of guest XML becomes.  ``mdtool.guest.engine`` reads elements by it.

A row (``ElementRow``) is data: which attribute chooses the driver, which paths become which properties, what stays of the
element (its identity), and, for every other attribute, that it is host side, that it says nothing to a guest, or that it
is refused.  What no row names is a warning with its position.

Paths are those of ``Element.get``: ``@model``, ``driver/@queues``, ``serial`` (an element's text); ``source/*`` stands
for ``source`` and everything inside it.

Facts (``Wanted.facts``), for allocation and placing, none of them a property:

    every element   choice (the value that chose the driver)
                    host (properties that QEMU gets and no guest sees)
                    transport (``pci``, ``ccw``, ``mmio``) of a virtio device
    controller      type, model, index (always an int); chassis, chassisNr, port, busNr, node, hotplug, ports, vectors
                    as the XML gives them (ints; node an int; hotplug ``on``/``off``); master (start port) of a
                    companion
    disk            bus, target, device (``disk``, ``cdrom``, ``lun``, ``floppy``), removable; device_id: True where
                    libvirt names a SCSI disk after its id (``drive-<id>``)
    interface       model; type
    serial, parallel, console, channel
                    type (``isa-serial``, ``virtio``, ``sclp``, ...), port, name
    video           model, primary (bool)
    input           type, bus
    hostdev         mode, type, source (a text that stays); nodes (NUMA nodes that ACPI shows for it)
    sound           model, codecs (how many devices sit on its own bus)
    smartcard       mode
    memory          model, size (bytes), node
    everything with <address><zpci/>   uid, fid
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any, TypeVar

from mdtool.errors import InputError, Report
from mdtool.guest.convert import Convert, number, switch, text
from mdtool.guest.host import HostRow
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.xml import Element
from mdtool.machine.roles import role
from mdtool.machine.tree import Value
from mdtool.records import dataclass, field


@dataclass(frozen=True, slots=True)
class Prop:
    """One property: the path that it comes from and how its text is read.

    ``drivers`` are patterns (``virtio-*``): on another driver the attribute means nothing, which is a warning.
    """

    path: str
    to: Convert = text
    drivers: tuple[str, ...] = ()

    def fits(self, driver: str) -> bool:
        return not self.drivers or any(is_like(driver, pattern) for pattern in self.drivers)


def is_like(driver: str, pattern: str) -> bool:
    """Whether a driver is what a table calls ``virtio-net-*``, or the very one.

    >>> is_like("virtio-net-pci", "virtio-net-*"), is_like("virtio-net-pci", "virtio-net")
    (True, False)
    """
    return driver.startswith(pattern[:-1]) if pattern.endswith("*") else driver == pattern


@dataclass(frozen=True)
class ElementContext:
    """One element on its way to a Wanted: the guest around it, and what numbering the whole XML made known.

    ``given`` holds what libvirt numbers across elements when the XML does not say: controller indices, character device
    ports, boot indices; keyed by the identity of the element.  ``by_tag`` has the elements under <devices> by tag.
    """

    guest: Guest
    element: Element
    report: Report = field(compare=False)
    given: Mapping[int, Mapping[str, Any]] = field(default_factory=dict, compare=False)
    by_tag: Mapping[str, Sequence[Element]] = field(default_factory=dict, compare=False)

    def get(self, path: str, absent: str = "") -> str:
        found = self.element.get(path)
        return absent if found is None else found

    def number(self, path: str, absent: int = 0) -> int:
        """The number at ``path``; a malformed one is reported by the property or fact that reads it."""
        try:
            return int(number(self.get(path, str(absent))))
        except ValueError:
            return absent

    @property
    def numbered(self) -> Mapping[str, Any]:
        return self.given.get(id(self.element), {})

    def error(self, path: str, what: str, *, expected: str | None = None, remedy: str | None = None, rule: str) -> None:
        tag = self.element.tag
        self.report.error(
            InputError(f"{tag}: {what}", at=self.element.at(path), expected=expected, remedy=remedy, rule=rule)
        )


Choose = str | Callable[[ElementContext], str]
Shape = Callable[[ElementContext, Wanted], Wanted | None]
Also = Callable[[ElementContext, Wanted], Iterable[Wanted]]
Drivers = Mapping[str, str] | Callable[[ElementContext], Mapping[str, str]]


@dataclass(frozen=True)
class ElementRow:
    """One row: an element under ``<devices>`` (or, as a part, an element inside one).

    ``element``     its tag; a part's is the path from its parent, ``codec``
    ``choose``      the path of the attribute that picks the driver, or a function where one attribute is not enough
    ``drivers``     choice -> QEMU type; ``""`` for what is a built-in of the machine; ``virtio-net-*`` for what takes its
                    ending from the transport (``-pci``, ``-ccw``, ``-device``); a function where the machine decides
    ``absent``      the choice where the XML makes none, or a function of the context
    ``props``       property -> path, or a Prop
    ``facts``       fact -> path, or a Prop
    ``always``      properties that libvirt sets whatever the XML says
    ``origin``      the paths whose values name the element; ``choice`` stands for the choice itself
    ``known_by``    weaker identities: name -> path
    ``match``       properties that are identity: another value is another device
    ``alias``       libvirt's prefix for the id, or one a choice
    ``host``        path -> what it becomes on the host, and who carries it out
    ``ignored``     path -> why it makes no difference to the guest
    ``refused``     path -> why mdtool cannot express it
    ``parts``       rows of the elements inside that are devices of their own, on a bus that the device has
    ``shape``       what data cannot say: gets the finished Wanted, gives a changed one, or None where there is no device
    ``also``        parts that libvirt adds where the XML has none of them
    ``reads``       paths that the functions of this row read
    """

    element: str
    choose: Choose = ""
    drivers: Drivers = field(default_factory=dict)
    absent: Choose = ""
    props: Mapping[str, str | Prop] = field(default_factory=dict)
    facts: Mapping[str, str | Prop] = field(default_factory=dict)
    always: Mapping[str, Value] = field(default_factory=dict)
    origin: tuple[str, ...] = ("choice",)
    known_by: Mapping[str, str] = field(default_factory=dict)
    match: tuple[str, ...] = ()
    alias: str | Mapping[str, str] = ""
    host: Mapping[str, HostRow] = field(default_factory=dict)
    ignored: Mapping[str, str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    parts: tuple[ElementRow, ...] = ()
    shape: Shape | None = None
    also: Also | None = None
    reads: tuple[str, ...] = ()

    @cached_property
    def uses(self) -> Mapping[str, str]:
        """Every path that this row knows -> what becomes of it, in words: the page and the check of completeness."""
        found = dict(COMMON)
        found |= {_path(prop): f"place and identity: `{name}`" for name, prop in self.facts.items()}
        for name, prop in self.props.items():
            what = "host side: property" if role("", name) == "host" else "property"
            found[_path(prop)] = f"{what} `{name}`" + (
                f" (`{'`, `'.join(prop.drivers)}`)" if isinstance(prop, Prop) and prop.drivers else ""
            )
        if isinstance(self.choose, str) and self.choose:
            found[self.choose] = "chooses the driver"
        for path in (*self.reads, *self.origin, *self.known_by.values()):
            if path != "choice" and path not in self.facts:
                found.setdefault(path, "chooses the driver or its properties")
        found |= {path: str(side) for path, side in self.host.items()}
        found |= {path: f"no difference to the guest: {why}" for path, why in self.ignored.items()}
        found |= {path: f"refused: {why}" for path, why in self.refused.items()}
        for part in self.parts:
            found |= {f"{part.element}/{path}": how for path, how in part.uses.items()}
        return found

    @cached_property
    def choices(self) -> Mapping[str, str]:
        """The table read backwards: driver -> the last choice that makes it (``virtio-rng-*``: without its transport).

        >>> ElementRow("hub", drivers={"usb": "usb-hub", "none": ""}).choices
        {'usb-hub': 'usb'}
        """
        given = self.drivers if isinstance(self.drivers, Mapping) else {}
        return {driver: choice for choice, driver in given.items() if driver}

    def use(self, path: str) -> str | None:
        """What becomes of a path: its own entry, or that of the nearest ``.../*`` around it."""
        return nearest(self.uses, path)

    def host_side(self, path: str) -> HostRow | None:
        """Who carries a path out on the host; None if it is not the host's."""
        found = nearest(self.uses, path)
        side = nearest(self.host, path)
        return side if side is not None and str(side) == found else None


Entry = TypeVar("Entry")


def nearest(table: Mapping[str, Entry], path: str) -> Entry | None:
    """The entry of a path in a table of paths: its own, or that of the nearest ``.../*`` around it.

    >>> nearest({"source/*": 1, "*": 2}, "source/host/@name")
    1
    """
    for known in (path, f"{path}/*"):
        if known in table:
            return table[known]
    holder = path
    while holder:
        holder = holder.rpartition("/")[0]
        star = f"{holder}/*" if holder else "*"
        if star in table:
            return table[star]
    return None


#: What every device element may carry.
COMMON: Mapping[str, str] = {
    "alias/@name": "the id, where it begins with `ua-`",
    "address/*": "the place: bus and address",
    "acpi/@index": "property `acpi-index`, of PCI devices",
    "boot/@loadparm": "property `loadparm` on s390x, or the machine's",
    "acpi/@nodeset": "no difference to the guest: libvirt takes it of PCI devices of the host alone",
}

#: <driver iommu= ats= packed= page_per_vq=/> of every virtio device.
VIRTIO: Mapping[str, str | Prop] = {
    "iommu_platform": Prop("driver/@iommu", switch, ("virtio-*", "vhost-*")),
    "ats": Prop("driver/@ats", switch, ("virtio-*", "vhost-*")),
    "packed": Prop("driver/@packed", switch, ("virtio-*", "vhost-*")),
    "page-per-vq": Prop("driver/@page_per_vq", switch, ("virtio-*", "vhost-*")),
}

TRANSITIONAL = ("virtio-transitional", "virtio-non-transitional")


def virtio(name: str) -> dict[str, str]:
    """The drivers of a virtio device: its model, transitional and not.

    >>> virtio("virtio-rng")["virtio-transitional"]
    'virtio-rng-*'
    """
    return dict.fromkeys(("virtio", *TRANSITIONAL), f"{name}-*")


def _path(prop: str | Prop) -> str:
    return prop if isinstance(prop, str) else prop.path
