"""What is taken besides the wanted devices."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdtool.guest.model import Spot


@dataclass(frozen=True, slots=True)
class Occupied:
    """Places that no new device may have.

    ``spots``    of what stays and is not among the wanted devices: built-ins, nodes that a person added
    ``retired``  of devices that were removed: given out only where there is no place that never was anybody's
    """

    spots: Sequence[Spot] = ()
    retired: Sequence[Spot] = ()


NOTHING = Occupied()
