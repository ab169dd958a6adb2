"""Elements under <devices> that are no device: the host's side of the machine."""

from __future__ import annotations

from mdtool.guest.host import HostRow, by_libvirt, carried, idle
from mdtool.guest.table import ElementRow


def no_device(tag: str, host: HostRow, **others: HostRow) -> ElementRow:
    """``others``: attributes that another module carries out."""
    sides = {"*": host, tag: host, **{f"@{name}": side for name, side in others.items()}}
    return ElementRow(tag, drivers={"": ""}, host=sides, shape=lambda _context, _wanted: None)


NOTHING = (
    no_device("emulator", idle("which QEMU")),
    no_device(
        "graphics",
        carried("display", "the screen's way to a person"),
        connected=by_libvirt("what becomes of who looks on", unless=("keep",)),
        passwdValidTo=by_libvirt("until when a password counts"),
        defaultMode=by_libvirt("whether channels are secured", unless=("any",)),
        multiUser=by_libvirt("a screen of RDP's"),
        replaceUser=by_libvirt("a screen of RDP's"),
        username=by_libvirt("a screen of RDP's"),
        wait=idle("who waits for a client: none of QEMU's screens does"),
    ),
    no_device(
        "audio",
        carried("display", "where sound goes"),
        **dict.fromkeys(("driver", "dspPolicy", "exclusive", "runtimeDir", "tryMMap"), by_libvirt("how sound is played")),
    ),
    no_device("lease", by_libvirt("a lock that the host holds")),
)
