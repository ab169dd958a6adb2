"""<crypto>: a cryptographic accelerator."""

from __future__ import annotations

from mdtool.guest.host import carried
from mdtool.guest.table import VIRTIO, ElementRow

CRYPTO = ElementRow(
    "crypto",
    choose="@model",
    drivers={"virtio": "virtio-crypto-*"},
    props={**VIRTIO},
    alias="crypto",
    host={"@type": carried("misc", "what kind of backend"), "backend/*": carried("misc", "the backend")},
)
