"""PCI: what each device plugs into."""

from __future__ import annotations

from typing import NamedTuple

from mdtool.guest.allocation.controllers import index_of, model_of, type_of
from mdtool.guest.model import Wanted
from mdtool.machine.buses.pci import PCI_MODELS, ROOTS


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


#: Endpoints that are PCI Express devices; virtio is one where its driver is not transitional.
_EXPRESS = frozenset({
    "e1000e", "igb", "nec-usb-xhci", "qemu-xhci", "vfio-pci", "vfio-pci-nohotplug", "nvme", "bochs-display",
})  # fmt: skip

#: Controllers that are PCI devices, beside those of type ``pci``.
_CONTROLLERS = frozenset({"usb", "scsi", "virtio-serial", "sata", "ide", "nvme"})

#: Conventional PCI devices by driver, for the kinds whose other drivers sit elsewhere.
_CONVENTIONAL = frozenset({
    "ES1370", "AC97", "intel-hda", "ich9-intel-hda", "i6300esb", "pci-serial", "ivshmem-plain", "ivshmem-doorbell",
    "VGA", "cirrus-vga", "vmware-svga", "qxl", "qxl-vga", "secondary-vga", "ati-vga", "acpi-erst",
})  # fmt: skip

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
    if driver in _EXPRESS:
        return Need("pcie")
    if wanted.kind == "interface" and driver not in _NO_PCI_NICS:
        return Need("pci" if driver in _CONVENTIONAL_NICS else "pcie")
    conventional = driver in _CONVENTIONAL or (type_ in _CONTROLLERS and driver != "spapr-vscsi")
    return Need("pci") if conventional else None
