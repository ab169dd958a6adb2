"""<rom>: the option ROM of a PCI device."""

from __future__ import annotations

from collections.abc import Mapping

from mdtool.guest.convert import word
from mdtool.guest.host import HostRow, carried
from mdtool.guest.model import Wanted
from mdtool.guest.table import ElementContext, Prop
from mdtool.records import replace

ROM: Mapping[str, str | Prop] = {"rombar": Prop("rom/@bar", word(on=1, off=0))}  # a number to QEMU
ROM_HOST: Mapping[str, HostRow] = {"rom/@file": carried("__init__", "where the ROM's file is")}


def without_rom(context: ElementContext, wanted: Wanted) -> Wanted:
    """``<rom enabled='no'/>`` is a ROM file without a name."""
    if context.get("rom/@enabled") != "no":
        return wanted
    kept = {name: value for name, value in wanted.properties.items() if name != "rombar"}
    return replace(wanted, properties={**kept, "romfile": ""})
