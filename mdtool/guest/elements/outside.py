"""Devices that elements outside of <devices> ask for: ``<genid>`` and ``<features><vmcoreinfo state='on'/>``."""

from __future__ import annotations

from collections.abc import Iterator

from mdtool.guest.model import Guest, Wanted
from mdtool.tree import Properties


def wanted_outside(guest: Guest) -> Iterator[Wanted]:
    """libvirt gives the generation id an id of its own and the other none.

    A <genid/> without text is filled in by libvirt when the guest starts; QEMU's word for that is ``auto``.
    """
    genid = guest.domain.first("genid")
    if genid is not None:
        properties: Properties = {"guid": genid.text.lower() or "auto"}
        yield Wanted("genid", "vmgenid", "genid", id="vmgenid0", properties=properties, element=genid)
    info = guest.domain.first("features/vmcoreinfo")
    if info is not None and info.get("@state") != "off":
        yield Wanted("vmcoreinfo", "vmcoreinfo", "vmcoreinfo", element=info)
