"""<nvram>: the settings of a POWER machine's firmware, a device that the machine itself has."""

from __future__ import annotations

from mdtool.guest.table import Device

NVRAM = Device("nvram", drivers={"": ""}, origin=())
