"""Elements under <devices> that are no device: the host's side of the machine."""

from __future__ import annotations

from mdtool.guest.table import Device


def no_device(tag: str, why: str) -> Device:
    return Device(tag, drivers={"": ""}, host={"*": why, tag: why}, shape=lambda _context, _wanted: None)


NOTHING = (
    no_device("emulator", "which QEMU"),
    no_device("graphics", "the screen's way to a person"),
    no_device("audio", "where sound goes"),
    no_device("lease", "a lock that the host holds"),
)
