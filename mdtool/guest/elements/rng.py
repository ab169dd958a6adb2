"""<rng>: random numbers of the host."""

from __future__ import annotations

from mdtool.guest.convert import number
from mdtool.guest.elements.character import SOURCE
from mdtool.guest.host import carried
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop, virtio
from mdtool.records import replace


def _shape(_: ElementContext, wanted: Wanted) -> Wanted:
    if "max-bytes" in wanted.properties:  # a rate without a period is one a second
        return replace(wanted, properties={"period": 1000, **wanted.properties})
    return wanted


RNG = ElementRow(
    "rng",
    choose="@model",
    drivers=virtio("virtio-rng"),
    props={"max-bytes": Prop("rate/@bytes", number), "period": Prop("rate/@period", number), **VIRTIO},
    alias="rng",
    host={
        "backend": carried("misc", "where the numbers come from"),
        "backend/@model": carried("misc", "where the numbers come from"),
        **{f"backend/{path}": why for path, why in SOURCE.items()},
    },
    shape=_shape,
)
