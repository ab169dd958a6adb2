"""<nvram>: the settings of a POWER machine's firmware, a device that the machine itself has."""

from __future__ import annotations

from mdtool.errors import InputError
from mdtool.guest.model import Wanted
from mdtool.guest.table import Context, Device


def _shape(context: Context, wanted: Wanted) -> Wanted:
    if not context.guest.arch.startswith("ppc"):
        what = "nvram: only a POWER machine has one"
        context.report.error(InputError(what, at=context.element.position, remedy="remove it", rule="machine-has"))
    return wanted


NVRAM = Device("nvram", drivers={"": ""}, origin=(), shape=_shape)
