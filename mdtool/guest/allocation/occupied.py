"""What is taken besides the wanted devices."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from mdtool.guest.model import Address
from mdtool.records import dataclass


@dataclass(frozen=True, slots=True)
class Occupied:
    """Places that no new device may have.

    ``addresses``    of what stays and is not among the wanted devices: built-ins, nodes that a person added
    ``retired``  of devices that were removed: given out only where there is no place that never was anybody's
    ``indices``  numbers that no new PCI controller may have: of ports and bridges that a person added, whose chassis
                 numbers a new one would take otherwise (see ``place.indices_taken``)
    """

    addresses: Sequence[Address] = ()
    retired: Sequence[Address] = ()
    indices: Collection[int] = ()


NOTHING = Occupied()
