"""<pstore>: a store that the guest's firmware keeps for what a crashing kernel writes (libvirt 10.7)."""

from __future__ import annotations

from mdtool.guest.table import Device

PSTORE = Device(
    "pstore",
    choose="@backend",
    drivers={"acpi-erst": "acpi-erst"},
    origin=(),
    alias="pstore",
    host={"path": "the file", "size": "the file's size", "size/@unit": "the file's size"},
)
