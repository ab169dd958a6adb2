"""Where a device sits, in the notation of its bus: a row a bus type."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from mdtool.qemu.replies import RawDevice

#: makes the address of a device (None where it has none), and names the properties that are nothing but it
Address = Callable[[RawDevice], tuple[str | None, tuple[str, ...]]]


def _pci(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    return device.properties.get("addr"), ("addr",)


def _plain(name: str, form: str = "{}") -> Address:
    def read(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
        value = device.properties.get(name)
        return (form.format(value) if value is not None and value != "" else None), (name,)

    return read


def _scsi(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    names = ("channel", "scsi-id", "lun")
    values = [device.properties.get(name) for name in names]
    return (":".join(map(str, values)) if None not in values else None), names


def _isa(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    name = next((name for name in ("iobase", "ioport", "base") if name in device.properties), None)
    return (f"{device.properties[name]:x}", (name,)) if name is not None else (None, ())


def _ccw(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    names = ("dev_id", "devno")
    return next((device.properties[name] for name in names if device.properties.get(name)), None), names


#: flash memory, known by the name of its bank
FLASH = frozenset({"cfi.pflash01", "cfi.pflash02"})
#: system-bus devices at a fixed address that some versions of QEMU show and others do not
_HIDDEN_MMIO = frozenset({"intel-iommu", "amd-iommu"})


def _mmio(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    if device.driver in _HIDDEN_MMIO:
        return None, ()
    if device.driver in FLASH and device.properties.get("name"):
        return device.properties["name"], ("name",)  # its base moves with its size
    bases = [base.lstrip("0") or "0" for base in device.mmio if base != "f" * 16]
    return (bases[0] if bases else None), ()


def _usb(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    return device.port or device.properties.get("port") or None, ("port",)


def no_address(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    return None, ()


#: the notation of each bus type: what makes the address, and which properties are nothing but it
NOTATIONS: Mapping[str, Address] = {
    "System": _mmio,
    "PCI": _pci,
    "PCIE": _pci,
    "CXL": _pci,
    "pxb-bus": _pci,
    "pxb-pcie-bus": _pci,
    "pxb-cxl-bus": _pci,
    "usb-bus": _usb,
    "SCSI": _scsi,
    "IDE": _plain("unit"),
    "floppy-bus": _plain("unit"),
    "HDA": _plain("cad"),
    "ISA": _isa,
    "virtio-serial-bus": _plain("nr"),
    "virtual-css-bus": _ccw,
    "spapr-vio-bus": _plain("reg", "{:x}"),
    "i2c-bus": _plain("address", "{:02x}"),
    "ccid-bus": _plain("slot"),
    "nvme-bus": _plain("nsid"),
    "s390-pcibus": _plain("uid", "{:04x}"),
    "SSI": _plain("cs"),
}

#: devices that some versions of QEMU keep on a bus of their own making, which `info qtree` does not show
LOOSE: Mapping[str, Address] = {"nvme-ns": _plain("nsid")}
