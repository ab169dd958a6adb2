"""PCI: what each device plugs into."""

from __future__ import annotations

from mdtool.guest.allocation.controllers import index_of, model_of, type_of
from mdtool.guest.model import Wanted
from mdtool.machine.buses.kinds import PCI
from mdtool.machine.buses.pci import EXPRESS_ENDPOINTS, PCI_MODELS, ROOTS
from mdtool.records import NamedTuple


class Need(NamedTuple):
    """What a device plugs into: ``pci``, ``pcie``, ``integrated`` (the root bus alone), or a PCI controller's model.

    ``below`` is a bridge's own index: it sits on a bus with a lower one.
    """

    kind: str
    below: int | None = None

    @property
    def shares(self) -> bool:
        """Whether it takes single functions of a slot whose other functions are of its kind."""
        return self.kind == "pcie-root-port"


#: Network devices that libvirt knows as conventional PCI ones; one that it does not know at all it takes for Express.
_CONVENTIONAL_NICS = frozenset({"e1000", "rtl8139", "vmxnet3", "lan9118"})

#: Network devices that are no PCI devices.
_NO_PCI_NICS = frozenset({"usb-net", "ne2k_isa", "spapr-vlan", ""})

#: Kinds in the order in which libvirt notes the addresses that the XML gives.
KINDS = (
    "disk", "interface", "sound", "hostdev", "video", "controller", "serial", "input", "filesystem", "watchdog",
    "memballoon", "rng", "shmem", "panic", "memory", "iommu", "vsock", "crypto", "pstore",
)  # fmt: skip


def need_of(wanted: Wanted) -> Need | None:
    """What a device plugs into, or None where it is no PCI device (or the root of all)."""
    type_ = type_of(wanted)
    if type_ == "pci":
        model = model_of(wanted)
        if model in ROOTS or model not in PCI_MODELS:
            return None
        return Need(model, index_of(wanted)) if model == "pci-bridge" else Need(model)
    driver = wanted.driver
    if wanted.origin == "iommu/amd/pci":
        return Need("integrated")
    if not driver and type_ not in ("sata", "ide"):
        return None
    if driver.startswith(("virtio-", "vhost-")) and (wanted.kind != "interface" or "transport" in wanted.facts):
        if driver.endswith("-pci-transitional"):
            return Need("pci")
        if wanted.kind == "crypto" and "-pci" in driver:
            return Need("pci")  # libvirt 11 takes it for a conventional device
        if driver in ("virtio-iommu", "virtio-iommu-pci"):
            return Need("integrated")
        return Need("pcie") if "-pci" in driver or driver.startswith(("virtio-vga", "vhost-user-vga")) else None
    if driver == "pvpanic-pci":
        return Need("integrated")
    if driver in EXPRESS_ENDPOINTS:
        return Need("pcie")
    if wanted.kind == "interface" and driver not in _NO_PCI_NICS:
        return Need("pci" if driver in _CONVENTIONAL_NICS else "pcie")
    conventional = not driver or PCI.devices.match(driver)
    return Need("pci") if conventional else None
