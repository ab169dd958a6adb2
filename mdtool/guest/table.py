"""The table: what each device element of guest XML becomes, and the engine that reads elements by it.

A row (``Device``) is data: which attribute chooses the driver, which paths become which properties, what stays of the
element (its identity), and, for every other attribute, that it is host side, that it says nothing to a guest, or that it
is refused.  What no row names is a warning with its position.

Paths are those of ``Element.get``: ``@model``, ``driver/@queues``, ``serial`` (an element's text); ``source/*`` stands
for ``source`` and everything inside it.

Facts (``Wanted.facts``), for allocation and placing, none of them a property:

    every element   choice (the value that chose the driver)
                    host (properties that QEMU is told and no guest sees)
                    transport (``pci``, ``ccw``, ``mmio``) of a virtio device
    controller      type, model, index (always an int); chassis, chassisNr, port, busNr, node, hotplug, ports, vectors
                    as the XML gives them (ints; node an int; hotplug ``on``/``off``); master (start port) of a
                    companion; max (``maxGrantFrames`` and such are refused)
    disk            bus, target, device (``disk``, ``cdrom``, ``lun``, ``floppy``), removable; device_id: True where
                    libvirt names a SCSI disk after its id (``drive-<id>``)
    interface       model; type
    serial, parallel, console, channel
                    type (``isa-serial``, ``virtio``, ``sclp``, ...), port, name
    video           model, primary (bool)
    input           type, bus
    hostdev         mode, type, source (a text that stays)
    sound           model, codecs (how many devices sit on its own bus)
    smartcard       mode
    memory          model, size (bytes), node
    everything with <address><zpci/>   uid, fid
    everything with <acpi index=>      acpi_index (also a property)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any, TypeVar

from mdtool.errors import InputError, Report, choices
from mdtool.guest.host import HostRow
from mdtool.guest.model import Guest, Spot, Wanted
from mdtool.guest.xml import Element
from mdtool.machine.buses.addresses import ADDRESSES
from mdtool.machine.buses.kinds import kind_of_driver
from mdtool.machine.buses.providers import ENDINGS
from mdtool.machine.roles import role
from mdtool.machine.tree import Value

Convert = Callable[[str], Value]


# How the text of an attribute becomes a value.  Each raises ValueError with what it would have taken.


def text(value: str) -> Value:
    return value


def number(value: str) -> Value:
    """Decimal or ``0x`` hexadecimal."""
    if not re.fullmatch(r"-?[0-9]{1,20}|0[xX][0-9a-fA-F]{1,16}", value):
        raise ValueError("a number")
    return int(value, 16 if value[:2].lower() == "0x" else 10)


def positive(value: str) -> Value:
    """A number from 1 on."""
    found = number(value)
    return found if isinstance(found, int) and found > 0 else _refuse("a number from 1 on")


def kib(value: str) -> Value:
    """A number of KiB, in bytes."""
    found = positive(value)
    return found * 1024 if isinstance(found, int) else found


def up_to(highest: int) -> Convert:
    """A number from 0 to ``highest``."""

    def convert(value: str) -> Value:
        found = number(value)
        return found if isinstance(found, int) and 0 <= found <= highest else _refuse(f"a number from 0 to {highest}")

    return convert


def switch(value: str) -> Value:
    """``on``/``yes`` and ``off``/``no`` as a bool."""
    return word(on=True, yes=True, off=False, no=False)(value)


def auto(value: str) -> Value:
    """The same as QEMU's OnOffAuto: the words ``on`` and ``off``."""
    return word(on="on", yes="on", off="off", no="off", auto="auto")(value)


def word(**values: Value) -> Convert:
    """One of some words, each with its value; ``_`` in a name stands for ``-``.

    >>> word(ignore="ignore", unmap="unmap")("unmap")
    'unmap'
    """
    table = {name.strip("_").replace("_", "-"): value for name, value in values.items()}

    def convert(value: str) -> Value:
        if value not in table:
            raise ValueError(choices(table))
        return table[value]

    return convert


def one_of(*names: str) -> Convert:
    """One of some words, which QEMU spells the same."""
    return lambda value: value if value in names else _refuse(choices(names))


def _refuse(expected: str) -> Value:
    raise ValueError(expected)


def const(value: Value) -> Convert:
    return lambda _: value


@dataclass(frozen=True, slots=True)
class Prop:
    """One property: the path that it comes from and how its text is read.

    ``drivers`` are patterns (``virtio-*``): on another driver the attribute means nothing, which is a warning.
    """

    path: str
    to: Convert = text
    drivers: tuple[str, ...] = ()

    def fits(self, driver: str) -> bool:
        return not self.drivers or any(fnmatchcase(driver, pattern) for pattern in self.drivers)


@dataclass(frozen=True)
class Context:
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
        """The number at ``path``; where it is none, that is reported by the property or fact that reads it."""
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


Choose = str | Callable[[Context], str]
Shape = Callable[[Context, Wanted], Wanted | None]
Also = Callable[[Context, Wanted], Iterable[Wanted]]
Drivers = Mapping[str, str] | Callable[[Context], Mapping[str, str]]


@dataclass(frozen=True)
class Device:
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
    ``parts``       rows of the elements inside that are devices of their own
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
    parts: tuple[Device, ...] = ()
    shape: Shape | None = None
    also: Also | None = None
    reads: tuple[str, ...] = ()

    @cached_property
    def uses(self) -> Mapping[str, str]:
        """Every path that this row knows -> what becomes of it, in words: the page and the check of completeness."""
        found: dict[str, str] = dict(COMMON)
        for name, prop in self.props.items():
            what = "host side: property" if role("", name) == "host" else "property"
            found[_path(prop)] = f"{what} `{name}`" + (
                f" (`{'`, `'.join(prop.drivers)}`)" if isinstance(prop, Prop) and prop.drivers else ""
            )
        for name, prop in self.facts.items():
            found.setdefault(_path(prop), f"place and identity: `{name}`")
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

    def use(self, path: str) -> str | None:
        """What becomes of a path: its own entry, or that of the nearest ``.../*`` around it."""
        return nearest(self.uses, path)

    def host_side(self, path: str) -> HostRow | None:
        """Who carries a path out on the host; None where it is none of the host's."""
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
    "acpi/@index": "property `acpi-index`",
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


def wanted_from_element(row: Device, context: Context) -> Iterator[Wanted]:
    """The devices that an element asks for, by its row; faults go to ``context.report``."""
    choice = _choice(row.choose, context) or _choice(row.absent, context)
    drivers = row.drivers(context) if callable(row.drivers) else row.drivers
    if choice not in drivers:
        where = row.choose if isinstance(row.choose, str) else row.reads[0]
        named = where.rpartition("@")[2] or "kind"
        context.error(
            where,
            f"unknown {named} '{choice}'" if choice else f"no {named}",
            expected=choices(drivers),
            rule="driver-known",
        )
        return
    spot = spot_from_element(context)
    transport = virtio_transport(context.guest, spot)
    driver = driver_name(drivers[choice], choice, transport)
    facts: dict[str, Any] = {"choice": choice}
    if drivers[choice].endswith("-*"):
        facts["transport"] = transport
    wanted = Wanted(
        kind=row.element,
        driver=driver,
        origin="",
        id=_user_alias(context),
        alias=row.alias if isinstance(row.alias, str) else row.alias.get(choice, ""),
        spot=spot,
        properties={**row.always, **_common(context), **_values(row.props, context, driver)},
        facts={**facts, **_values(row.facts, context, None), **_zpci(context), **context.numbered},
        element=context.element,
    )
    if driver and "bootindex" in row.props and "boot" in context.numbered:
        wanted = replace(wanted, properties={**wanted.properties, "bootindex": context.numbered["boot"]})
    wanted = replace(
        wanted,
        origin="/".join([row.element, *_named(row.origin, context, choice, wanted.facts)]),
        identities=tuple(_identities(row, context)),
        identifying=frozenset(name for name in row.match if name in wanted.properties),
    )
    shaped = row.shape(context, wanted) if row.shape else wanted
    if shaped is None:
        return
    _check_spot(context, shaped)
    yield with_host_side(shaped)
    for part in row.parts:
        inner = list(context.element.all(part.element))
        for count, element in enumerate(inner):
            for found in wanted_from_element(part, replace(context, element=element)):
                yield part_of(shaped, found, part.element, count)
    if row.also:
        yield from row.also(context, shaped)


def with_host_side(wanted: Wanted) -> Wanted:
    """``wanted`` with the properties that no guest sees, those of role ``host``, in its facts under ``host``.

    QEMU is told them, and the description is not: ``max-bytes`` of an entropy source, ``ioeventfd`` of a disk.
    """
    own = {name: value for name, value in wanted.properties.items() if role(wanted.driver, name) == "host"}
    if not own:
        return wanted
    seen = {name: value for name, value in wanted.properties.items() if name not in own}
    return replace(wanted, properties=seen, facts={**wanted.facts, "host": {**wanted.facts.get("host", {}), **own}})


def part_of(whole: Wanted, part: Wanted, name: str, count: int) -> Wanted:
    """``part`` named after the device that it belongs to: ``sound/ich6/codec/0``."""
    return replace(
        part,
        kind=f"{whole.kind}/{name}",
        origin=f"{whole.origin}/{name}/{count}",
        facts={**part.facts, "of": whole.origin, "number": count},
    )


def _choice(choose: Choose, context: Context) -> str:
    if callable(choose):
        return choose(context)
    return context.get(choose) if "@" in choose else choose


def _path(prop: str | Prop) -> str:
    return prop if isinstance(prop, str) else prop.path


def _values(table: Mapping[str, str | Prop], context: Context, driver: str | None) -> dict[str, Value]:
    """What the XML gives for a table of properties (``driver`` set) or of facts (None)."""
    found: dict[str, Value] = {}
    props = {name: Prop(prop) if isinstance(prop, str) else prop for name, prop in table.items()}
    fitting = {prop.path for prop in props.values() if driver is None or prop.fits(driver)}
    for name, prop in props.items():
        given = context.element.get(prop.path)
        if given is None:
            continue
        if driver == "" or (driver and not prop.fits(driver)):
            if driver and prop.path not in fitting:
                context.report.warn(
                    f"{context.element.tag}: {prop.path} means nothing to {driver} and is left out",
                    at=context.element.at(prop.path),
                    rule="property-fits",
                )
            continue
        try:
            found[name] = prop.to(given)
        except ValueError as expected:
            context.error(prop.path, f"{prop.path} is '{given}'", expected=str(expected), rule="value-valid")
    return found


def _common(context: Context) -> dict[str, Value]:
    return _values({"acpi-index": Prop("acpi/@index", number)}, context, None)


def _zpci(context: Context) -> dict[str, Value]:
    return _values({name: Prop(f"address/zpci/@{name}", number) for name in ("uid", "fid")}, context, None)


def _user_alias(context: Context) -> str | None:
    """The alias where a user chose it: libvirt takes none that does not begin with ``ua-``, and gives those itself."""
    alias = context.get("alias/@name")
    return alias if alias.startswith("ua-") else None


def _named(paths: Iterable[str], context: Context, choice: str, facts: Mapping[str, Any]) -> Iterator[str]:
    for path in paths:
        value = choice if path == "choice" else str(facts[path]) if path in facts else context.get(path)
        if value:
            yield value


def _identities(row: Device, context: Context) -> Iterator[str]:
    for name, path in row.known_by.items():
        value = context.get(path)
        if value:
            yield f"{name}/{value}"
    if alias := context.get("alias/@name"):
        yield f"alias/{alias}"


# Places


def spot_from_element(context: Context) -> Spot | None:
    """The ``<address>`` as a Spot; None where there is none.

    A source's own address (``source/address`` of a hostdev) is the host's and is not looked at.
    """
    address = context.element.first("address")
    if address is None:
        return None
    kind = address.attributes.get("type", "")
    if kind not in ADDRESSES:
        context.error("address/@type", f"unknown address type '{kind}'", expected=choices(ADDRESSES), rule="address-type")
        return None
    found: dict[str, Any] = {}
    for name, row in ADDRESSES[kind].items():
        if name in address.attributes:
            convert = text if row.text else number if row.highest is None else up_to(row.highest)
            try:
                found[name] = convert(address.attributes[name])
            except ValueError as expected:
                what = f"address {name} is '{address.attributes[name]}'"
                context.error("address/@type", what, expected=str(expected), rule="value-valid")
    if "multifunction" in address.attributes:
        found["multifunction"] = address.attributes["multifunction"] == "on"
    return Spot(kind, found)


def _check_spot(context: Context, wanted: Wanted) -> None:
    if wanted.spot is not None and wanted.spot.type not in (takes := address_types(context.guest, wanted)):
        what = f"an address of type '{wanted.spot.type}' is none for {wanted.driver or wanted.facts['choice']}"
        expected = f"type {choices(takes)}" if takes else "no <address>"
        context.error(
            "address/@type", what, expected=expected, remedy="leave it out, and one is found", rule="address-type"
        )


def address_types(guest: Guest, wanted: Wanted) -> Set[str]:
    """The types of address that a device takes; those of what is the machine's own mean nothing, and libvirt takes any."""
    takes: Set[str] = {kind_of_driver(wanted.driver).address} - {""}
    if not wanted.driver:
        takes = ADDRESSES.keys() - (set() if wanted.kind == "hostdev" else {"unassigned"})
    elif wanted.facts.get("transport"):
        takes = _TRANSPORTS.keys() - ({"virtio-mmio"} if wanted.driver.startswith(_NO_MMIO) else set())
    elif wanted.driver == "ib700":
        takes = set()  # an ISA device whose port is where it always was
    if wanted.kind == "controller" and guest.arch.startswith(("arm", "aarch64")):
        takes |= {"virtio-mmio"}  # libvirt gives it to any controller of a board without PCI
    return takes if guest.arch in ("s390", "s390x") else takes - {"ccw"}


_NO_MMIO = ("vhost-scsi", "virtio-mem", "virtio-pmem")


def virtio_transport(guest: Guest, spot: Spot | None) -> str:
    """How a virtio device reaches its guest: ``pci``, ``ccw`` or ``mmio``.

    The address says it; without one, s390x has channels, the ARM and RISC-V boards without PCI have virtio-mmio slots,
    and everything else PCI.
    """
    if spot is not None and spot.type in _TRANSPORTS:
        return _TRANSPORTS[spot.type]
    if guest.arch in ("s390", "s390x"):
        return "ccw"
    return "mmio" if guest.arch.startswith("arm") and guest.machine.startswith("vexpress") else "pci"


_TRANSPORTS = {"pci": "pci", "ccw": "ccw", "virtio-mmio": "mmio"}


def driver_name(driver: str, choice: str, transport: str) -> str:
    """QEMU's type for a table entry.

    >>> driver_name("virtio-net-*", "virtio-transitional", "pci")
    'virtio-net-pci-transitional'
    >>> driver_name("virtio-net-*", "virtio", "mmio")
    'virtio-net-device'
    """
    if not driver.endswith("-*"):
        return driver
    model = choice.rpartition("/")[2]
    ending = f"-{model.removeprefix('virtio-')}" if model in TRANSITIONAL and transport == "pci" else ""
    return driver[:-1] + ENDINGS[transport] + ending


# Completeness


def check_known(row: Device, element: Element, report: Report) -> None:
    """Warn of every attribute and child that the row does not name; an error for what it refuses."""
    for path, place in paths_of(element):
        how = row.use(path)
        if how is None:
            report.warn(
                f"{element.tag}: mdtool does not know {path} and leaves it out",
                at=place.position,
                remedy="where a guest can see it, please report it",
                rule="unknown-element",
            )
        elif how.startswith("refused: "):
            report.error(
                InputError(
                    f"{element.tag}: {path} cannot be described: {how.removeprefix('refused: ')}",
                    at=place.position,
                    remedy="remove it, or run this guest without mdtool",
                    rule="refused",
                )
            )


def paths_of(element: Element, prefix: str = "") -> Iterator[tuple[str, Element]]:
    """Every attribute, and every element that holds text or nothing at all, as (path, the element it stands on)."""
    for name in element.attributes:
        yield f"{prefix}@{name}", element
    for child in element:
        inner = f"{prefix}{child.tag}"
        if child.text or not (child.attributes or child.children):
            yield inner, child
        yield from paths_of(child, f"{inner}/")
