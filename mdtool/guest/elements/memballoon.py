"""<memballoon>: memory given back to the host."""

from __future__ import annotations

from mdtool.guest.convert import number, switch
from mdtool.guest.table import VIRTIO, ElementRow, Prop, virtio
from mdtool.records import replace

MEMBALLOON = ElementRow(
    "memballoon",
    choose="@model",
    drivers={**virtio("virtio-balloon"), "none": ""},
    props={
        "deflate-on-oom": Prop("@autodeflate", switch),
        "guest-stats-polling-interval": Prop("stats/@period", number),
        "free-page-reporting": Prop("@freePageReporting", switch),
        **VIRTIO,
    },
    origin=(),
    alias="balloon",
    shape=lambda _, wanted: None if wanted.facts["choice"] == "none" else replace(wanted, origin="memballoon"),
)
