"""Command lines for the tests of proof: plain QEMU, null backends, nothing of the host."""

from __future__ import annotations

from conftest import require

#: (name, word after -device); a fault replaces one by name, or drops it
DEVICES = {
    "rp1": "pcie-root-port,id=rp1,bus=pcie.0,addr=02.0,multifunction=on,chassis=1,port=16",
    "rp2": "pcie-root-port,id=rp2,bus=pcie.0,addr=02.1,chassis=2,port=17",
    "rp3": "pcie-root-port,id=rp3,bus=pcie.0,addr=02.2,chassis=3,port=18",
    "net0": "virtio-net-pci,id=net0,bus=rp1,addr=00.0,netdev=n0,mac=52:54:00:11:22:33",
    "scsi0": "virtio-scsi-pci,id=scsi0,bus=rp2,addr=00.0",
    "nic1": "e1000e,id=nic1,bus=rp3,addr=00.0,netdev=n1,mac=52:54:00:11:22:44",
    "usb": "qemu-xhci,id=usb,bus=pcie.0,addr=03.0",
    "video0": "VGA,id=video0,bus=pcie.0,addr=04.0",
    "watchdog0": "i6300esb,id=watchdog0,bus=pcie.0,addr=05.0",
}
#: each of them a fault in itself
MACHINE = "pc-q35-7.2"
SMBIOS = "type=1,manufacturer=Acme,product=Rocket,serial=0815"
NETDEVS = ("-netdev", "hubport,id=n0,hubid=0", "-netdev", "hubport,id=n1,hubid=1")


def q35(
    *more: str,
    binary: str = "qemu-system-x86_64",
    machine: str = MACHINE,
    cpu: str = "qemu64",
    smp: str = "2",
    memory: str = "256",
    smbios: str = SMBIOS,
    **devices: str | None,
) -> list[str]:
    """A q35 machine with ten devices; a keyword replaces the device of that name, None drops it."""
    words = [binary, "-nodefaults", "-no-user-config", "-display", "none", "-machine", machine, "-cpu", cpu]
    words += ["-smp", smp, "-m", memory, "-smbios", smbios, *NETDEVS]
    listed: dict[str, str | None] = {**DEVICES, **devices}
    for device in listed.values():
        words += ["-device", device] if device is not None else []
    return [*words, *more]


def changed(name: str, old: str, new: str) -> dict[str, str]:
    """The keyword that puts ``new`` for ``old`` in the device ``name``; a fault that is none is a fault of the test."""
    assert old in DEVICES[name]
    return {name: DEVICES[name].replace(old, new)}


def i440fx(*devices: str) -> list[str]:
    require("qemu-system-x86_64")
    words = ["qemu-system-x86_64", "-nodefaults", "-display", "none", "-machine", "pc-i440fx-7.2"]
    return [*words, *(word for device in devices for word in ("-device", device))]
