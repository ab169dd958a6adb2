"""<panic>: how a guest reports that it crashed."""

from __future__ import annotations

from mdtool.guest.choices import PANIC_MODEL, chosen
from mdtool.guest.model import Wanted
from mdtool.guest.table import ElementContext, ElementRow
from mdtool.records import replace


def _shape(context: ElementContext, wanted: Wanted) -> Wanted | None:
    if not wanted.driver and wanted.address is not None and wanted.facts["choice"] == "hyperv":
        what = "a Hyper-V enlightenment has no address"
        context.error("address/@type", what, expected="no <address>", rule="address-type")
    if wanted.driver != "pvpanic":
        return wanted if wanted.driver else None
    port = wanted.address.get("iobase") if wanted.address is not None else None
    return replace(wanted, properties={**wanted.properties, **({"ioport": port} if port is not None else {})})


PANIC = ElementRow(
    "panic",
    choose="@model",
    absent=lambda context: chosen(PANIC_MODEL, context.guest.arch, context.guest.machine, "isa"),
    drivers={"isa": "pvpanic", "pvpanic": "pvpanic-pci", "hyperv": "", "pseries": "", "s390": ""},
    shape=_shape,
)
