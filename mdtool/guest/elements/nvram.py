"""<nvram>: the settings of a POWER machine's firmware, a device that the machine itself has."""

from __future__ import annotations

from mdtool.errors import InputError
from mdtool.guest.model import Wanted
from mdtool.guest.table import ElementContext, ElementRow


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    if not context.guest.arch.startswith("ppc"):
        what = "nvram: only a POWER machine has one"
        context.report.error(InputError(what, at=context.element.position, remedy="remove it", rule="machine-has"))
    return wanted


NVRAM = ElementRow("nvram", drivers={"": ""}, origin=(), shape=_shape)
