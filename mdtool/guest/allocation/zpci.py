"""s390x: the zpci device beside each PCI device, by which the architecture's PCI instructions find it.

Its numbers are what a guest sees in place of an address: Linux takes ``uid`` for the PCI domain of the function
(``0001:00:00.0``) and ``fid`` for its hotplug slot.  libvirt counts uids from 1 and fids from 0, each device's own.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import count

from mdtool.guest.allocation.needs import KINDS, need_of
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.allocation.order import arrays, ranked
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.records import replace


def with_zpci(guest: Guest, wanted: Sequence[Wanted]) -> list[Wanted]:
    """``wanted`` and after it a zpci device for each PCI device that has none, with the numbers that its XML gives.

    Its origin is ``zpci/`` and that of the device, which is its fact ``for`` too; ``uid`` is its place.
    """
    devices = list(wanted)
    if not guest.is_s390:
        return devices
    there = {one.origin for one in devices}
    for one in wanted:
        origin = f"zpci/{one.origin}"
        if need_of(one) is None or origin in there or one.kind == "commandline":  # QEMU itself makes one for those
            continue
        uid, fid = one.facts.get("uid"), one.facts.get("fid")
        devices.append(
            Wanted(
                "zpci",
                "zpci",
                origin,
                alias="zpci",
                address=Address("zpci", {"uid": uid}) if uid else None,
                properties={"fid": fid} if fid is not None else {},
                facts={"for": one.origin},
            )
        )
    return devices


def with_zpci_numbers(wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    """Every zpci device with its uid and fid; those whose XML gives one of the two choose first."""
    devices = list(wanted)
    uids = {one.address["uid"] for one in devices if one.driver == "zpci" and one.address is not None}
    uids |= {address["uid"] for address in occupied.addresses if address.type == "zpci"}
    retired = {address["uid"] for address in occupied.retired if address.type == "zpci"} - uids
    fids = {one.properties["fid"] for one in devices if one.driver == "zpci" and "fid" in one.properties}
    fids |= {address["fid"] for address in occupied.addresses if address.type == "zpci" and address.get("fid") is not None}
    order = list(_in_order(devices))
    for given in (True, False):
        for at in order:
            one = devices[at]
            if given and one.address is None and "fid" not in one.properties:
                continue
            uid = one.address["uid"] if one.address is not None else next(n for n in count(1) if n not in uids | retired)
            fid = one.properties["fid"] if "fid" in one.properties else next(n for n in count() if n not in fids)
            uids.add(uid)
            fids.add(fid)
            devices[at] = replace(one, address=Address("zpci", {"uid": uid}), properties={**one.properties, "fid": fid})
    return devices


def _in_order(devices: Sequence[Wanted]) -> Iterator[int]:
    """The positions of zpci devices, in the order in which libvirt looks at what they stand beside."""
    zpci = {one.facts["for"]: at for at, one in enumerate(devices) if one.driver == "zpci"}
    kinds = arrays(devices)
    for kind in ranked(kinds, KINDS):
        for at in kinds[kind]:
            if devices[at].origin in zpci:
                yield zpci[devices[at].origin]
