"""Machines with twenty and more devices as command lines, and what the launch tests do with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mdtool.commandline.option import Option, options_from_words
from mdtool.launch.prepare import Prepared, handed_over
from mdtool.machine.tree import Tree
from mdtool.qemu.process import QemuProcess
from tests.support_waiting import until

COMMON = ["-nodefaults", "-no-user-config", "-display", "none", "-accel", "tcg", "-m", "64"]


def device(driver: str, id: str, **properties: Any) -> list[str]:
    data = {"driver": driver, "id": id, **{key.replace("_", "-"): value for key, value in properties.items()}}
    return ["-device", json.dumps(data)]


def _nics(bus: str, models: Sequence[str], first: int) -> list[str]:
    words: list[str] = []
    for number, model in enumerate(models):
        words += ["-netdev", json.dumps({"type": "user", "id": f"hostnet{number}"})]
        mac = f"52:54:00:00:00:{number:02x}"
        words += device(model, f"net{number}", netdev=f"hostnet{number}", mac=mac, bus=bus, addr=hex(first + number))
    return words


def _disk(number: int) -> list[str]:
    return [
        "-blockdev",
        json.dumps({"driver": "null-co", "node-name": f"disk{number}", "read-zeroes": True, "size": 1 << 20}),
    ]


def _scsi(bus: str, addr: str) -> list[str]:
    words = device("virtio-scsi-pci", "scsi0", bus=bus, addr=addr)
    for lun in range(3):
        words += _disk(lun) + device(
            "scsi-hd", f"scsi0-0-0-{lun}", bus="scsi0.0", lun=lun, drive=f"disk{lun}", serial=f"S,{lun}"
        )
    return words


def _serial(bus: str, addr: str) -> list[str]:
    words = device("virtio-serial-pci", "virtio-serial0", bus=bus, addr=addr)
    for nr in range(1, 4):
        words += ["-chardev", f"null,id=charchannel{nr}"]
        name = f"org.example.{nr}"
        words += device(
            "virtserialport", f"channel{nr}", bus="virtio-serial0.0", nr=nr, chardev=f"charchannel{nr}", name=name
        )
    return words


def pc() -> list[str]:
    words = ["qemu-system-x86_64", *COMMON, "-machine", "pc-i440fx-7.2", "-smp", "2,sockets=2", "-boot", "strict=on"]
    words += device("piix3-usb-uhci", "usb", bus="pci.0", addr="0x1.0x2")
    words += _scsi("pci.0", "0x4") + _serial("pci.0", "0x5")
    words += device("VGA", "video0", bus="pci.0", addr="0x2")
    words += _nics("pci.0", ("virtio-net-pci", "e1000", "rtl8139", "ne2k_pci", "pcnet"), 6)
    words += _disk(7) + device("virtio-blk-pci", "virtio-disk0", bus="pci.0", addr="0xc", drive="disk7", bootindex=1)
    words += ["-chardev", "null,id=charserial0"]
    words += device("isa-serial", "serial0", chardev="charserial0", index=0)
    words += device("usb-tablet", "input0", bus="usb.0", port="1")
    words += device("virtio-balloon-pci", "balloon0", bus="pci.0", addr="0xd")
    words += device("i6300esb", "watchdog0", bus="pci.0", addr="0xe")
    words += ["-object", json.dumps({"qom-type": "rng-builtin", "id": "objrng0"})]
    return words + device("virtio-rng-pci", "rng0", rng="objrng0", bus="pci.0", addr="0xf")


def _ports(count: int, first: str = "0x2") -> list[str]:
    words: list[str] = []
    for number in range(count):
        addr = f"{int(first, 0) + number // 8:#x}" + (f".{number % 8:#x}" if number % 8 else "")
        more = {"multifunction": True} if number % 8 == 0 else {}
        words += device(
            "pcie-root-port", f"pci.{number + 1}", chassis=number + 1, port=16 + number, bus="pcie.0", addr=addr, **more
        )
    return words


def _behind_ports() -> list[str]:
    words = _scsi("pci.1", "0x0") + _serial("pci.2", "0x0")
    for number, model in enumerate(("virtio-net-pci", "virtio-net-pci", "e1000e")):
        words += ["-netdev", json.dumps({"type": "user", "id": f"hostnet{number}"})]
        mac = f"52:54:00:00:00:{number:02x}"
        words += device(model, f"net{number}", netdev=f"hostnet{number}", mac=mac, bus=f"pci.{number + 3}", addr="0x0")
    words += _disk(7) + device("virtio-blk-pci", "virtio-disk0", bus="pci.6", addr="0x0", drive="disk7", bootindex=1)
    words += device("qemu-xhci", "usb", bus="pci.7", addr="0x0", p2=8, p3=8) + device(
        "usb-tablet", "input0", bus="usb.0", port="1"
    )
    words += device("virtio-balloon-pci", "balloon0", bus="pci.8", addr="0x0")
    words += ["-object", json.dumps({"qom-type": "rng-builtin", "id": "objrng0"})]
    return words + device("virtio-rng-pci", "rng0", rng="objrng0", bus="pci.9", addr="0x0")


def q35() -> list[str]:
    words = [
        "qemu-system-x86_64",
        *COMMON,
        "-machine",
        "pc-q35-7.2,smm=off",
        "-cpu",
        "qemu64,x2apic=on",
        "-smp",
        "1,maxcpus=2",
    ]
    words += _ports(10) + _behind_ports()
    words += ["-netdev", json.dumps({"type": "user", "id": "hostnet8"})]
    words += device("virtio-net-pci", "net8", netdev="hostnet8", mac="52:54:00:00:00:08", bus="pcie.0", addr="0x5")
    words += _disk(8) + device("ide-hd", "sata0-0-0", bus="ide.0", drive="disk8", serial="D8")
    words += ["-chardev", "null,id=charserial0", *device("isa-serial", "serial0", chardev="charserial0", index=0)]
    words += device("ich9-intel-hda", "sound0", bus="pcie.0", addr="0x1b")
    words += ["-audiodev", '{"id":"audio1","driver":"none"}']
    words += device("hda-duplex", "sound0-codec0", bus="sound0.0", cad=0, audiodev="audio1")
    return words + device("bochs-display", "video0", bus="pcie.0", addr="0x1")


def virt() -> list[str]:
    words = ["qemu-system-aarch64", *COMMON, "-machine", "virt-7.2,gic-version=2", "-cpu", "cortex-a57"]
    return words + _ports(10) + _behind_ports() + device("virtio-gpu-pci", "video0", bus="pci.10", addr="0x0")


MACHINES = {"pc": pc, "q35": q35, "virt": virt}


def prepared(words: Sequence[str], via: str, tree: Tree | None = None) -> Prepared:
    """A command line of ours, to be handed over in any way."""
    options: tuple[Option, ...] = tuple(options_from_words(words[1:]))
    return Prepared(tree or Tree(), words[0], options, handed_over(options, via, words[0]), via)


def saved(qemu: QemuProcess, path: Path) -> Path:
    """The migration stream of a paused machine."""
    qemu.execute("migrate", uri=f"exec:cat>{path}")
    wait_for(qemu, "query-migrate", "completed")
    return path


def wait_for(qemu: QemuProcess, command: str, status: str) -> None:
    def comes() -> bool:
        answer: Any = qemu.execute(command)
        assert answer.get("status") != "failed", answer
        return bool(answer.get("status") == status)

    until(comes, told=lambda: f"{command}: no {status}")
