"""One row an XML element: see ``mdtool.guest.table``."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from mdtool.guest.elements.character import CHANNEL, CONSOLE, PARALLEL, SERIAL
from mdtool.guest.elements.controller import CONTROLLER
from mdtool.guest.elements.crypto import CRYPTO
from mdtool.guest.elements.disk import DISK
from mdtool.guest.elements.filesystem import FILESYSTEM
from mdtool.guest.elements.hostdev import HOSTDEV
from mdtool.guest.elements.hub import HUB
from mdtool.guest.elements.ignored import NOTHING
from mdtool.guest.elements.input import INPUT
from mdtool.guest.elements.interface import INTERFACE, PLAIN
from mdtool.guest.elements.iommu import IOMMU
from mdtool.guest.elements.memballoon import MEMBALLOON
from mdtool.guest.elements.memory import MEMORY
from mdtool.guest.elements.nvram import NVRAM
from mdtool.guest.elements.panic import PANIC
from mdtool.guest.elements.pstore import PSTORE
from mdtool.guest.elements.redirdev import REDIRDEV, REDIRFILTER
from mdtool.guest.elements.rng import RNG
from mdtool.guest.elements.shmem import SHMEM
from mdtool.guest.elements.smartcard import SMARTCARD
from mdtool.guest.elements.sound import SOUND
from mdtool.guest.elements.tpm import TPM
from mdtool.guest.elements.video import PRIMARY, VIDEO
from mdtool.guest.elements.vsock import VSOCK
from mdtool.guest.elements.watchdog import WATCHDOG
from mdtool.guest.table import ElementRow, is_like

#: Tag -> row, for every element that may stand under <devices>.
ROWS: Mapping[str, ElementRow] = {
    row.element: row
    for row in (
        DISK, CONTROLLER, INTERFACE, FILESYSTEM, HOSTDEV, SERIAL, PARALLEL, CONSOLE, CHANNEL, SMARTCARD, INPUT, VIDEO,
        SOUND, HUB, REDIRDEV, REDIRFILTER, WATCHDOG, MEMBALLOON, RNG, TPM, NVRAM, PANIC, SHMEM, MEMORY, IOMMU, VSOCK,
        CRYPTO, PSTORE, *NOTHING,
    )
}  # fmt: skip


@cache
def can_make(driver: str) -> bool:
    """Whether some element could have made a device of this driver: only such a one may an edit of the XML take away.

    >>> can_make("virtio-blk-pci"), can_make("edu")
    (True, False)
    """
    return any(is_like(driver, pattern) for pattern in _PATTERNS)


_PATTERNS = frozenset(
    pattern for row in ROWS.values() if isinstance(row.drivers, Mapping) for pattern in row.drivers.values()
) | {*PLAIN, *PRIMARY.values(), "virtio-net-*", "vfio-pci*", "tpm-*", "zpci"}  # rows that look at the guest
