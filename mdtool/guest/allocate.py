"""Every wanted device at its place: where libvirt would put it, and never where another device is or was."""

from __future__ import annotations

from collections.abc import Sequence

from mdtool.errors import InputError
from mdtool.guest.allocation.drives import with_drive_places
from mdtool.guest.allocation.numbered import with_mmio_places, with_numbers, with_serial_ports
from mdtool.guest.allocation.occupied import NOTHING, Occupied
from mdtool.guest.allocation.pci import with_pci_places
from mdtool.guest.allocation.usb import with_usb_ports
from mdtool.guest.allocation.zpci import with_zpci, with_zpci_numbers
from mdtool.guest.model import Guest, Wanted

__all__ = ["NOTHING", "Occupied", "allocate"]


def allocate(guest: Guest, wanted: Sequence[Wanted], occupied: Occupied = NOTHING) -> list[Wanted]:
    """Fill in every address, in libvirt's order; an address that is filled stays as it is.

    ``wanted`` is what ``with_defaults`` gives, survivors with the address of their node.  ``occupied`` holds what else is
    taken; a retired place is given out only if there is no place that was never used.  The ports, bridges, hubs and
    controllers that devices need and that are not in the XML come at the end, as devices of their own, with origins such
    as ``controller/pci/3``.

    Raises InputError (rule ``out-of-slots``) where a device has no place: how many are free where, and what to add.
    """
    try:
        return _placed(guest, wanted, occupied)
    except InputError as error:
        if error.at is None:  # of a device that is not in the XML: the machine type brings it
            error.at = guest.domain.at("os/type")
        raise


def _placed(guest: Guest, wanted: Sequence[Wanted], occupied: Occupied) -> list[Wanted]:
    devices = with_drive_places(guest, wanted, occupied)
    devices = with_serial_ports(guest, devices, occupied)
    devices = with_mmio_places(guest, with_numbers(devices, occupied))
    devices = with_pci_places(guest, devices, occupied)
    devices = with_zpci_numbers(with_zpci(guest, devices), occupied)
    return with_usb_ports(guest, devices, occupied)
