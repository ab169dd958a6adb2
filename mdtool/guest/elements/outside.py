"""Devices that elements outside of <devices> ask for: ``<genid>``, ``<features><vmcoreinfo state='on'/>``,
``<os><varstore>``, vCPUs that can be unplugged, and every ``-device`` of ``<qemu:commandline>``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

from mdtool.errors import InputError
from mdtool.guest.engine import with_host_side
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.guest.xml import Element
from mdtool.machine.machines import FAMILIES
from mdtool.machine.tree import Properties, Value
from mdtool.machine.values import decimal, is_on, uuid_from_text
from mdtool.text import pattern, quoted


def wanted_outside(guest: Guest) -> Iterator[Wanted]:
    """libvirt gives the generation id an id of its own and the other none.

    libvirt draws a number for a <genid/> without text when the guest is defined, and keeps it; here it is the same one
    for the same guest, and the description's where that has one.
    """
    genid = guest.domain.first("genid")
    if genid is not None:
        try:
            properties: Properties = {"guid": uuid_from_text(genid.text)} if genid.text else {}
        except ValueError as expected:
            what = f"<genid>: {quoted(genid.text)} is not a UUID"
            raise InputError(what, at=genid.position, expected=str(expected), rule="uuid") from None
        facts = {} if genid.text else {"made_up": {"guid": _generation(guest)}}
        yield Wanted("genid", "vmgenid", "genid", id="vmgenid0", properties=properties, facts=facts, element=genid)
    info = guest.domain.first("features/vmcoreinfo")
    if info is not None and info.get("@state") != "off":
        yield Wanted("vmcoreinfo", "vmcoreinfo", "vmcoreinfo", element=info)
    store = guest.domain.first("os/varstore")
    if store is not None and (guest.domain.first("os/loader") or guest.domain.get("os/@firmware")):  # else libvirt has none
        driver = "uefi-vars-x64" if guest.is_x86 else "uefi-vars-sysbus"
        path = store.get("@path")
        yield Wanted("varstore", driver, "varstore", facts={"host": {"jsonfile": path} if path else {}}, element=store)
    if guest.domain.first("vcpus") is not None:
        from mdtool.guest.platform.cpu import plugged_cpus  # few guests have any

        for cpu in plugged_cpus(guest):
            place = Address("qemu", {"on": "", "at": cpu.address})
            yield Wanted(
                "vcpu", cpu.driver, f"vcpu/{cpu.id}", (f"alias/{cpu.id}",), cpu.id, address=place, element=cpu.element
            )
    for flag, value in pairwise(guest.arguments):
        if (flag.get("@value") or "").lstrip("-") == "device" and value.get("@value"):
            wanted = _from_argument(value)
            _check_root(guest, wanted)
            yield wanted


def _generation(guest: Guest) -> str:
    from uuid import NAMESPACE_OID, uuid5  # it brings all of platform, and few guests have one

    return str(uuid5(NAMESPACE_OID, f"vmgenid/{guest.uuid or guest.name}"))


def _check_root(guest: Guest, wanted: Wanted) -> None:
    """Refuse the PCI bus 0 of another machine: QEMU finds no such bus, unless a device has that name."""
    bus = str(wanted.address["on"] if wanted.address and wanted.address.type == "qemu" else wanted.facts.get("bus", ""))
    root = guest.family.root_bus if guest.family is not None else ""
    if bus in ("", root) or not root or bus not in {row.root_bus for row in FAMILIES}:
        return
    if not any(bus in (element.get("@value") or "") for element in guest.arguments if element is not wanted.element):
        what = f"there is no bus '{bus}' on {guest.machine}"
        raise InputError(what, at=wanted.position, expected=root, rule="bus-known")


#: a PCI address as -device takes it: ``0x1c``, ``1c.0``
_ADDR = pattern(r"(?:0x)?([0-9a-f]{1,2})(?:\.(?:0x)?([0-7]))?")


#: places that are numbers to QEMU, and that no description has among a device's properties to say so
_NUMBERS = frozenset({"channel", "scsi-id", "lun", "unit", "nr", "cad"})


def _from_argument(element: Element) -> Wanted:
    """A device as written for QEMU: where it names no bus or no address, QEMU chooses.

    Its place is of type ``qemu``.  Facts: ``bus`` or ``addr`` where it names one alone, ``host`` for the properties that
    do not concern the guest.
    """
    from mdtool.commandline.option import Option  # few guests have one

    bag = Option("device", element.get("@value") or "", element.position).bag
    bag |= {name: found for name in _NUMBERS & bag.keys() if (found := decimal(str(bag[name]))) is not None}
    driver, id = str(bag.pop("driver", "")), bag.pop("id", None)
    if "multifunction" in bag:  # which is read of a place as well
        bag["multifunction"] = is_on(bag["multifunction"])
    place: dict[str, Value] = {name: bag.pop(name) for name in ("bus", "addr") if name in bag}
    address = Address("none")
    match = _ADDR.fullmatch(str(place.get("addr", "")).lower())
    if "bus" in place and match:
        address, place = Address("qemu", {"on": str(place["bus"]), "at": f"{int(match[1], 16):02x}.{match[2] or 0}"}), {}
    wanted = Wanted(
        "commandline",
        driver,
        f"commandline/{id or driver}",
        identities=(f"alias/{id}",) if id else (),
        id=id,
        address=address,
        properties=bag,
        facts=place,
        element=element,
    )
    return with_host_side(wanted)
