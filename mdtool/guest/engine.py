"""Reads device elements by the table: the devices that each asks for, and a word for what no row names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from mdtool.errors import InputError, Report, choices
from mdtool.guest.allocation.controllers import is_placed
from mdtool.guest.choices import has_loadparm
from mdtool.guest.convert import number, text, up_to
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.guest.table import TRANSITIONAL, Choose, ElementContext, ElementRow, Prop
from mdtool.guest.xml import Element
from mdtool.machine.buses.addresses import ADDRESSES
from mdtool.machine.buses.kinds import kind_of_driver
from mdtool.machine.buses.providers import ENDINGS, provider_of
from mdtool.machine.roles import is_hosts
from mdtool.machine.tree import Value
from mdtool.records import replace


def _unknown(named: str, choice: str, known: Iterable[str]) -> tuple[str, list[str]]:
    """What is wrong with a choice, and what is expected: of ``usb/disk/model``, the first part that is unknown.

    >>> _unknown("bus", "sat/disk", ["sata/disk", "ide/cdrom"])
    ("unknown bus 'sat'", ['ide', 'sata'])
    >>> _unknown("bus", "ide/lun", ["sata/disk", "ide/cdrom"])
    ("bus ide: unknown 'lun'", ['cdrom'])
    """
    if not choice:
        return f"no {named}", [*known]
    parts, fits = choice.split("/"), [name.split("/") for name in known]
    for at, part in enumerate(parts):
        there = sorted({name[at] for name in fits if len(name) > at})
        if part not in there:
            before = "/".join(parts[:at])
            return (f"{named} {before}: unknown '{part}'" if at else f"unknown {named} '{part}'"), there
        fits = [name for name in fits if name[at : at + 1] == [part]]
    return f"{named} {choice} is not complete", ["/".join(name) for name in fits]


def wanted_from_element(row: ElementRow, context: ElementContext) -> Iterator[Wanted]:
    """The devices that an element asks for, by its row; faults go to ``context.report``."""
    choice = _choice(row.choose, context) or _choice(row.absent, context)
    drivers = row.drivers(context) if callable(row.drivers) else row.drivers
    if choice not in drivers:
        where = row.choose if isinstance(row.choose, str) else row.reads[0]
        what, expected = _unknown(where.rpartition("@")[2] or "kind", choice, drivers)
        context.error(where, what, expected=choices(expected) if expected else "nothing there", rule="driver-known")
        return
    address = address_from_element(context)
    transport = virtio_transport(context.guest, address)
    driver = driver_name(drivers[choice], choice, transport)
    facts: dict[str, Any] = {"choice": choice}
    if drivers[choice].endswith("-*"):
        facts["transport"] = transport
    facts |= {**_values(row.facts, context, None), **_values(_ZPCI, context, None), **context.numbered}
    properties = {**row.always, **_values(_COMMON, context, None), **_values(row.props, context, driver)}
    if driver and "bootindex" in row.props and "boot" in context.numbered:
        properties["bootindex"] = context.numbered["boot"]
    wanted = Wanted(
        kind=row.element,
        driver=driver,
        origin="/".join([row.element, *_named(row.origin, context, choice, facts)]),
        identities=tuple(_identities(row, context)),
        id=_user_alias(context),
        alias=row.alias if isinstance(row.alias, str) else row.alias.get(choice, ""),
        address=address,
        properties=properties,
        facts=facts,
        identifying=frozenset(name for name in row.match if name in properties),
        element=context.element,
    )
    shaped = row.shape(context, wanted) if row.shape else wanted
    if shaped is None:
        return
    _check_address(context, shaped)
    if _COMMON.keys() & shaped.properties.keys():
        shaped = _without_foreign(context.guest, shaped)
    yield with_host_side(shaped)
    for part in row.parts if provider_of(shaped.driver).whole else ():
        inner = list(context.element.all(part.element))
        for count, element in enumerate(inner):
            for found in wanted_from_element(part, replace(context, element=element)):
                yield part_of(shaped, found, part.element, count)
    if row.also:
        yield from row.also(context, shaped)


_BOOTED = ("disk", "interface", "hostdev")


def _without_foreign(guest: Guest, wanted: Wanted) -> Wanted:
    """``wanted`` without what libvirt gives to other devices alone: an index of ACPI's, what s390x boots."""
    fits = {"acpi-index": "pci" in address_types(guest, wanted), "loadparm": wanted.kind in _BOOTED and has_loadparm(guest)}
    return replace(wanted, properties={key: value for key, value in wanted.properties.items() if fits.get(key, True)})


def with_host_side(wanted: Wanted) -> Wanted:
    """``wanted`` with the properties that no guest sees, those of the host, in its facts under ``host``.

    QEMU gets them, and the description does not: ``max-bytes`` of an entropy source, ``ioeventfd`` of a disk.
    """
    own = {name: value for name, value in wanted.properties.items() if is_hosts(wanted.driver, name, value)}
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


def _choice(choose: Choose, context: ElementContext) -> str:
    if callable(choose):
        return choose(context)
    return context.get(choose) if "@" in choose else choose


def _values(table: Mapping[str, str | Prop], context: ElementContext, driver: str | None) -> dict[str, Value]:
    """What the XML gives for a table of properties (``driver`` set) or of facts (None)."""
    found: dict[str, Value] = {}
    texts = context.element.texts
    for name, row in table.items():
        given = texts.get(row if isinstance(row, str) else row.path)
        if given is None:
            continue
        prop = Prop(row) if isinstance(row, str) else row
        if driver == "" or (driver and not prop.fits(driver)):
            if driver and not any(_fits(other, prop.path, driver) for other in table.values()):
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


def _fits(row: str | Prop, path: str, driver: str) -> bool:
    """Whether another row takes what is at ``path`` for this driver."""
    return row == path if isinstance(row, str) else row.path == path and row.fits(driver)


#: properties and facts of every element
_COMMON = {"acpi-index": Prop("acpi/@index", number), "loadparm": Prop("boot/@loadparm")}
_ZPCI = {name: Prop(f"address/zpci/@{name}", number) for name in ("uid", "fid")}


def _user_alias(context: ElementContext) -> str | None:
    """The alias where a user chose it: libvirt takes none that does not begin with ``ua-``, and gives those itself."""
    alias = context.get("alias/@name")
    return alias if alias.startswith("ua-") else None


def _named(paths: Iterable[str], context: ElementContext, choice: str, facts: Mapping[str, Any]) -> Iterator[str]:
    for path in paths:
        value = choice if path == "choice" else str(facts[path]) if path in facts else context.get(path)
        if value:
            yield value


def _identities(row: ElementRow, context: ElementContext) -> Iterator[str]:
    for name, path in row.known_by.items():
        value = context.get(path)
        if value:
            yield f"{name}/{value}"
    if alias := context.get("alias/@name"):
        yield f"alias/{alias}"


# Places


def address_from_element(context: ElementContext) -> Address | None:
    """The ``<address>`` as an Address; None if there is none.

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
    if "multifunction" in address.attributes and is_placed(Address(kind, found)):  # libvirt drops it with no place
        found["multifunction"] = address.attributes["multifunction"] == "on"
    return Address(kind, found)


def _check_address(context: ElementContext, wanted: Wanted) -> None:
    if wanted.address is not None and wanted.address.type not in (takes := address_types(context.guest, wanted)):
        what = f"an address of type '{wanted.address.type}' is none for {wanted.driver or wanted.facts['choice']}"
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
    elif wanted.driver in _NOWHERE:
        takes = set()
    if wanted.kind == "controller" and guest.is_arm:
        takes |= {"virtio-mmio"}  # libvirt gives it to any controller of a board without PCI
    return takes if guest.is_s390 else takes - {"ccw"}


#: an ISA device whose port is where it always was, and what s390x has on no bus that libvirt counts
_NOWHERE = frozenset({"ib700", "diag288", "sclpconsole", "sclplmconsole", "vfio-ap"})
_NO_MMIO = ("vhost-scsi", "virtio-mem", "virtio-pmem")


def virtio_transport(guest: Guest, address: Address | None) -> str:
    """How a virtio device reaches its guest: ``pci``, ``ccw`` or ``mmio``.

    The address says it; without one, the machine.
    """
    return _TRANSPORTS[address.type] if address is not None and address.type in _TRANSPORTS else guest.transport


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


def check_known(row: ElementRow, element: Element, report: Report) -> None:
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
