"""<pstore>: a store that the guest's firmware keeps for what a crashing kernel writes (libvirt 10.7)."""

from __future__ import annotations

from mdtool.guest.host import carried
from mdtool.guest.table import ElementRow

PSTORE = ElementRow(
    "pstore",
    choose="@backend",
    drivers={"acpi-erst": "acpi-erst"},
    origin=(),
    alias="pstore",
    host={
        "path": carried("misc", "the file"),
        "size": carried("misc", "the file's size"),
        "size/@unit": carried("misc", "the file's size"),
    },
)
