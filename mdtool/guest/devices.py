"""Guest XML -> the devices that it asks for, in libvirt's order, before anything is placed.

    guest_from_file      a file -> Guest
    wanted_from_guest    Guest -> Wanted..., one for each QEMU device that an element stands for

What no element says, and libvirt adds all the same, is not here (see ``guest.defaults``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mdtool.errors import InputError, Report
from mdtool.files import bytes_from_file
from mdtool.guest.checks import check_together
from mdtool.guest.disk_buses import disk_number
from mdtool.guest.elements import ROWS
from mdtool.guest.elements.character import PORTS
from mdtool.guest.elements.controller import indices
from mdtool.guest.elements.disk import bus_of, floppy_boot
from mdtool.guest.elements.outside import wanted_outside
from mdtool.guest.engine import check_known, wanted_from_element
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.table import ElementContext
from mdtool.guest.xml import Element, element_from_bytes, utf8_from_xml
from mdtool.machine.machines import PREFERRED
from mdtool.machine.values import decimal, uuid_from_text
from mdtool.records import replace
from mdtool.text import quoted

if TYPE_CHECKING:
    from pathlib import Path

MAX_DEVICES = 10_000


def guest_from_file(path: str | Path) -> Guest:
    """The guest that a file describes; InputError where it is no guest XML."""
    return guest_from_bytes(bytes_from_file(path), str(path))


def guest_from_bytes(data: bytes, file: str) -> Guest:
    return replace(guest_from_element(element_from_bytes(data, file), file), source=utf8_from_xml(data, file))


def guest_from_element(domain: Element, file: str) -> Guest:
    kind = domain.first("os/type")
    if kind is None:
        raise InputError(
            "the guest has no <os><type>", at=domain.position, expected="<os><type>hvm</type></os>", rule="os-type"
        )
    if kind.text not in ("", "hvm"):
        raise InputError(f"a guest of type '{kind.text}' is not QEMU's", at=kind.position, expected="hvm", rule="os-type")
    holders = [child for child in domain if child.tag == "devices"]
    if len(holders) > 1:
        raise InputError("a second <devices>", at=holders[1].position, expected="one", rule="devices-once")
    if holders and len(holders[0].children) > MAX_DEVICES:
        raise InputError(
            f"more than {MAX_DEVICES} devices", at=holders[0].children[MAX_DEVICES].position, rule="devices-many"
        )
    arch = kind.attributes.get("arch", "x86_64")
    return Guest(
        file=file,
        domain=domain,
        name=_name(domain, file),
        uuid=_uuid(domain),
        arch=arch,
        machine=kind.attributes.get("machine") or default_machine(arch),
        emulator=domain.get("devices/emulator") or None,
    )


def _name(domain: Element, file: str) -> str:
    """What the guest is called, by libvirt's rules: no slash and no line break, for it becomes the name of files."""
    name = domain.get("name") or os.path.splitext(os.path.basename(file))[0]
    if "/" in name or "\n" in name or name in (".", ".."):
        what = f"{quoted(name)} is not a valid guest name"
        raise InputError(what, at=domain.at("name"), expected="a name without / and line breaks", rule="guest-name")
    return name


def _uuid(domain: Element) -> str | None:
    """The guest's uuid in its canonical form; None where the XML has none, or an empty one."""
    text = domain.get("uuid")
    try:
        return uuid_from_text(text) if text else None
    except ValueError as expected:
        what = f"{quoted(text or '')} is not a UUID"
        raise InputError(what, at=domain.at("uuid"), expected=str(expected), rule="uuid") from None


def default_machine(arch: str) -> str:
    """What libvirt takes where the XML names no machine: QEMU's own default of that time.

    >>> default_machine("x86_64")
    'pc'
    """
    return PREFERRED.get(arch, "pc")


def wanted_from_guest(guest: Guest, report: Report) -> list[Wanted]:
    """One Wanted a QEMU device, for the elements that are literally in the XML.

    Disks come in the order that libvirt gives them (by bus, then by target), everything else as it stands in the file.
    What cannot be expressed is an error in ``report``; what no row knows is a warning.  Origins are unique: the second
    ``sound/ich6`` is ``sound/ich6#2``.
    """
    by_tag = tagged(guest)
    disks = iter(disks_in_order(by_tag.get("disk", [])))
    ordered = [next(disks) if element.tag == "disk" else element for element in guest.devices]
    given = numbered(guest, by_tag)
    found: list[Wanted] = []
    for element in ordered:
        row = ROWS.get(element.tag)
        if row is not None:
            check_known(row, element, report)
            found += wanted_from_element(row, ElementContext(guest, element, report, given, by_tag))
        elif not element.tag.startswith("{"):  # another namespace's elements are another program's
            report.warn(
                f"mdtool does not know <{element.tag}> and leaves it out",
                at=element.position,
                remedy="where a guest can see it, please report it",
                rule="unknown-element",
            )
    found += wanted_outside(guest)
    boot = floppy_boot(found)
    found = [replace(one, properties=boot) if one.facts.get("type") == "fdc" else one for one in distinct(found)]
    check_together(guest, found, report)
    return found


def distinct(found: Iterable[Wanted]) -> Iterator[Wanted]:
    """The same with unique origins; a part follows the device that it belongs to."""
    seen: dict[str, int] = {}
    names: dict[str, str] = {}
    for wanted in found:
        if "of" in wanted.facts:
            old, new = wanted.facts["of"], names[wanted.facts["of"]]
            yield replace(wanted, origin=new + wanted.origin.removeprefix(old), facts={**wanted.facts, "of": new})
            continue
        seen[wanted.origin] = number = seen.get(wanted.origin, 0) + 1
        names[wanted.origin] = wanted.origin if number == 1 else f"{wanted.origin}#{number}"
        yield wanted if number == 1 else replace(wanted, origin=names[wanted.origin])


def tagged(guest: Guest) -> dict[str, list[Element]]:
    """The elements under <devices> by tag."""
    found: dict[str, list[Element]] = {}
    for element in guest.devices:
        found.setdefault(element.tag, []).append(element)
    return found


def _written_bus(disk: Element) -> str:
    return disk.get("target/@bus") or ""


def disks_in_order(disks: Iterable[Element], bus: Callable[[Element], str] = _written_bus) -> list[Element]:
    """Disks as libvirt sorts them: buses in the order of their first disks, and on each by target.

    For their places those that name no bus come together, as it finds theirs later; it boots from them with their bus.
    """
    buses: dict[str, list[Element]] = {}
    for element in disks:
        buses.setdefault(bus(element), []).append(element)
    return [
        element
        for on_bus in buses.values()
        for element in sorted(on_bus, key=lambda disk: disk_number(disk.get("target/@dev") or ""))
    ]


def numbered(guest: Guest, by_tag: Mapping[str, list[Element]]) -> Mapping[int, Mapping[str, Any]]:
    """What only the whole XML says of an element, keyed by the identity of the element.

    ``index`` of a controller, ``port`` of a character device, ``boot`` by <os>; ``floppies`` of a floppy controller (how
    many there are), ``nameless`` of an interface without a MAC (the how manyth), ``primary`` of the first screen.
    """
    found: dict[int, dict[str, Any]] = {}

    def note(name: str, numbers: Mapping[int, int]) -> None:
        for key, number in numbers.items():
            found.setdefault(key, {})[name] = number

    note("index", indices(by_tag.get("controller", []), reserved_scsi(by_tag.get("hostdev", []))))
    for tag, ports in PORTS.items():
        note("port", ports(by_tag.get(tag, [])))
    note("boot", boot_order(guest, by_tag))
    floppies = sum(disk.get("@device") == "floppy" for disk in by_tag.get("disk", []))
    note("floppies", {id(one): floppies for one in by_tag.get("controller", []) if one.get("@type") == "fdc"})
    nameless = (one for one in by_tag.get("interface", []) if not one.get("mac/@address"))
    note("nameless", {id(one): place for place, one in enumerate(nameless)})
    cards = by_tag.get("video", [])
    chosen = [card for card in cards if card.get("model/@primary") == "yes"]
    note("primary", {id(one): 1 for one in (chosen or cards)[:1]})
    return found


def reserved_scsi(hostdevs: Iterable[Element]) -> int:
    """How many SCSI controllers host devices take for granted: all up to the highest in an address.

    libvirt adds them while it reads the XML, before it numbers the controllers that have no index.
    """
    wishes = (one.get("address/@controller") or "0" for one in hostdevs if one.get("@type") == "scsi")
    return max((index + 1 for wish in wishes if (index := decimal(wish)) is not None), default=0)


#: <boot dev=> -> the elements that it means, each the first of its kind.
_BOOT = {"hd": ("disk", "lun"), "cdrom": ("cdrom",), "fd": ("floppy",)}


def boot_order(guest: Guest, by_tag: Mapping[str, list[Element]]) -> dict[int, int]:
    """Element identity -> boot index, by ``<os><boot dev='hd'/>``: the first disk, CD, floppy and NIC; 1 comes first.

    Of a kind that stands there twice, the last counts.
    Where neither <os> nor any device has an order, the first disk boots.
    """
    found: dict[int, int] = {}
    disks = disks_in_order(by_tag.get("disk", []), lambda disk: bus_of(ElementContext(guest, disk, Report())))
    devs = [boot.attributes.get("dev", "") for boot in guest.domain.all("os/boot")]
    if not devs and not any(element.first("boot") for element in guest.devices):
        devs = ["hd"]
    for number, dev in enumerate(devs, start=1):
        kinds = _BOOT.get(dev, ())
        meant = (
            by_tag.get("interface", [])
            if dev == "network"
            else [disk for disk in disks if disk.attributes.get("device", "disk") in kinds]
        )
        if meant:
            found[id(meant[0])] = number
    return found
