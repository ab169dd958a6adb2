"""<crypto>: a cryptographic accelerator."""

from __future__ import annotations

from mdtool.guest.table import VIRTIO, Device

CRYPTO = Device(
    "crypto",
    choose="@model",
    drivers={"virtio": "virtio-crypto-*"},
    props={**VIRTIO},
    alias="crypto",
    host={"@type": "what kind of backend", "backend/*": "the backend"},
)
