"""Controllers as values: which driver each type and model is, and a controller that nobody wrote."""

from __future__ import annotations

from typing import Any

from mdtool.guest.model import Guest, Spot, Wanted

#: (type, model) -> QEMU's type; "" for what the machine brings along, ``virtio-scsi-*`` for what takes its ending from the
#: transport.
DRIVERS: dict[tuple[str, str], str] = {
    ("pci", "pci-root"): "",
    ("pci", "pcie-root"): "",
    ("pci", "pci-bridge"): "pci-bridge",
    ("pci", "pci-expander-bus"): "pxb",
    ("pci", "pcie-expander-bus"): "pxb-pcie",
    ("pci", "dmi-to-pci-bridge"): "i82801b11-bridge",
    ("pci", "pcie-to-pci-bridge"): "pcie-pci-bridge",
    ("pci", "pcie-root-port"): "pcie-root-port",
    ("pci", "pcie-switch-upstream-port"): "x3130-upstream",
    ("pci", "pcie-switch-downstream-port"): "xio3130-downstream",
    ("usb", "none"): "",
    ("usb", "piix3-uhci"): "piix3-usb-uhci",
    ("usb", "pci-ohci"): "pci-ohci",
    ("usb", "qemu-xhci"): "qemu-xhci",
    ("usb", "nec-xhci"): "nec-usb-xhci",
    ("scsi", "lsilogic"): "lsi",
    ("scsi", "virtio-scsi"): "virtio-scsi-*",
    ("scsi", "virtio-transitional"): "virtio-scsi-pci-transitional",
    ("scsi", "virtio-non-transitional"): "virtio-scsi-pci-non-transitional",
    ("scsi", "lsisas1068"): "mptsas1068",
    ("scsi", "lsisas1078"): "megasas",
    ("scsi", "vmpvscsi"): "pvscsi",
    ("scsi", "am53c974"): "am53c974",
    ("scsi", "dc390"): "dc390",
    ("scsi", "ibmvscsi"): "spapr-vscsi",
    ("virtio-serial", "virtio"): "virtio-serial-*",
    ("ccid", "usb-ccid"): "usb-ccid",
    ("ide", "piix3"): "",
    ("fdc", "isa-fdc"): "isa-fdc",
    ("sata", "ahci"): "ahci",
}

_ENDINGS = {"pci": "pci", "ccw": "ccw", "mmio": "device"}

#: libvirt's types and models by driver, for controllers that are only known from a description.
MODELS = {driver.replace("*", ending): key for key, driver in DRIVERS.items() if driver for ending in _ENDINGS.values()} | {
    "ich9-ahci": ("sata", "ahci"),
    "ioh3420": ("pci", "pcie-root-port"),
    "lsi53c895a": ("scsi", "lsilogic"),
    "spapr-pci-host-bridge": ("pci", "pci-root"),
}


def transport(guest: Guest) -> str:
    """How a virtio device reaches a guest that says nothing of it: ``pci``, ``ccw`` or ``mmio``."""
    if guest.arch in ("s390", "s390x"):
        return "ccw"
    return "mmio" if guest.arch.startswith(("arm", "aarch64")) and guest.machine.startswith("vexpress") else "pci"


def scsi_model(guest: Guest) -> str:
    """The SCSI controller that libvirt adds for drives without one."""
    if guest.arch in ("ppc64", "ppc64le"):
        return "ibmvscsi"
    return "virtio-scsi" if guest.arch in ("s390", "s390x") else "lsilogic"


def implied(guest: Guest, type_: str, model: str, index: int, **facts: Any) -> Wanted:
    """A controller that the XML leaves out: ``controller/pci/3``."""
    driver = DRIVERS[type_, model]
    if driver.endswith("-*"):
        facts["transport"] = transport(guest)
        driver = driver[:-1] + _ENDINGS[facts["transport"]]
    if (type_ == "sata" and guest.is_q35 and index == 0) or (type_ == "fdc" and not guest.is_q35):
        driver = ""  # the chipset's own
    return Wanted(
        kind="controller",
        driver=driver,
        origin=f"controller/{type_}/{index}",
        alias=type_,
        facts={"type": type_, "model": model, "index": index, **facts},
    )


def type_of(wanted: Wanted) -> str:
    """A controller's type, ``pci``; "" for what is none."""
    return str(wanted.facts.get("type", "")) if wanted.kind == "controller" else ""


def model_of(wanted: Wanted) -> str:
    return str(wanted.facts.get("model") or "")


def index_of(wanted: Wanted) -> int:
    return int(wanted.facts.get("index", 0))


def is_placed(spot: Spot | None) -> bool:
    """Whether a spot says where: libvirt takes a PCI address of domain 0, bus 0 and slot 0 for none."""
    if spot is None:
        return False
    if spot.type == "pci":
        return any(spot.get(name) for name in ("domain", "bus", "slot"))
    return bool(spot.numbers) or spot.type in ("virtio-mmio", "none", "unassigned")
