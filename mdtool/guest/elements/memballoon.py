"""<memballoon>: memory given back to the host."""

from __future__ import annotations

from dataclasses import replace

from mdtool.guest.table import VIRTIO, Device, Prop, switch, virtio

MEMBALLOON = Device(
    "memballoon",
    choose="@model",
    drivers={**virtio("virtio-balloon"), "none": ""},
    props={
        "deflate-on-oom": Prop("@autodeflate", switch),
        "free-page-reporting": Prop("@freePageReporting", switch),
        **VIRTIO,
    },
    origin=(),
    alias="balloon",
    host={"stats/@period": "how often the host asks"},
    shape=lambda _, wanted: None if wanted.facts["choice"] == "none" else replace(wanted, origin="memballoon"),
)
