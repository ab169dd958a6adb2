"""<rom>: the option ROM of a PCI device."""

from __future__ import annotations

from collections.abc import Mapping

from mdtool.guest.table import Prop, word

#: ``rombar`` is a number to QEMU; ``enabled='no'`` is a ROM file without a name (see the rows that use it).
ROM: Mapping[str, str | Prop] = {
    "rombar": Prop("rom/@bar", word(on=1, off=0)),
    "romfile": Prop("rom/@file"),
}
