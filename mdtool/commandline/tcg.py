"""What QEMU's own emulation (TCG) has, in place of what only the host's CPU could do."""

from __future__ import annotations

#: bytes; TCG's x86 CPUs address 40 bits, and some of that is devices
TCG_MEMORY = 512 * 1024**3
#: the interrupt controller of ARM's virt where the host's own is wanted
TCG_GIC = "3"
