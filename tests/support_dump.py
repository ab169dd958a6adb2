"""Running QEMUs for the dump tests, and servers that only look like one.

With another root (`make matrix`) the same tests run on its qemu-system-x86_64, which must have qom-list-get (10.1 or later).
"""

from __future__ import annotations

import atexit
import json
import shlex
import shutil
import socket
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from conftest import other_root, require

from mdtool.qemu.root import rooted
from mdtool.qemu.session import Session, session_from_source
from tests.support_waiting import PATIENCE, until

NULL_DISKS = " ".join(f"-blockdev null-co,node-name=d{n}" for n in range(6))
NULL_CHARS = " ".join(f"-chardev null,id=c{n}" for n in range(6))

#: machines that between them have every bus type with an address notation: name -> (architecture, options)
MACHINES: dict[str, tuple[str, str]] = {
    "q35": (
        "x86_64",
        "-machine pc-q35-7.2 -m 256,slots=4,maxmem=4G -smp 2,maxcpus=4,sockets=2,cores=2 -name web01 "
        "-uuid 3f1c0000-0000-4000-8000-000000000001 -device qemu64-x86_64-cpu,id=cpu2,socket-id=1,core-id=0,thread-id=0 "
        "-device intel-iommu "
        "-device pcie-root-port,id=pci.1,addr=2.0,multifunction=on,chassis=1,port=16 "
        "-device pcie-root-port,id=pci.2,addr=2.1,chassis=2,port=17 "
        "-device x3130-upstream,id=up,bus=pci.2 -device xio3130-downstream,id=down,bus=up,chassis=3 "
        "-device virtio-net-pci,id=net0,mac=52:54:00:11:22:33,bus=pci.1 -device e1000e,addr=5,bootindex=3 "
        "-device virtio-scsi-pci,id=scsi0,bus=down "
        "-device scsi-hd,drive=d0,id=disk0,bus=scsi0.0,channel=0,scsi-id=0,lun=3,serial=abc,wwn=0x5000c50015ea71ac "
        "-device ide-hd,drive=d1,bus=ide.1,id=sata0 -device virtio-blk-pci,drive=d2,addr=9,bootindex=2 "
        "-device qemu-xhci,id=usb,addr=6 -device usb-tablet,id=input0,bus=usb.0,port=1 "
        "-device usb-hub,bus=usb.0,port=2 -device usb-kbd,port=2.1,bus=usb.0 "
        "-device virtio-serial-pci,id=vs0,addr=7 -device virtserialport,chardev=c0,name=org.qemu.guest_agent.0,nr=1 "
        "-device isa-serial,chardev=c1 -device VGA,id=video0,addr=1 -audiodev none,id=au "
        "-device intel-hda,id=snd,addr=1b.0 -device hda-duplex,audiodev=au,bus=snd.0 "
        "-object memory-backend-ram,id=mem1,size=128M -device pc-dimm,memdev=mem1,id=dimm0 "
        "-device virtio-balloon-pci,addr=a -device pvpanic -device i6300esb,addr=b "
        "-device pxb-pcie,id=pxb1,bus_nr=32,bus=pcie.0,addr=c -device nvme,serial=nv1,id=nv,bus=pcie.0,addr=d,drive=d3",
    ),
    "pc": (
        "x86_64",
        "-machine pc-i440fx-7.2 -m 128 -smp 2 -usb -audiodev none,id=au "
        "-device rtl8139,bootindex=1 -device piix3-usb-uhci,id=uhci,addr=8 -device usb-mouse,bus=uhci.0 "
        "-device usb-kbd,bus=uhci.0 -device usb-tablet,bus=uhci.0 -device usb-ccid,id=ccid "
        "-device pci-bridge,id=br,chassis_nr=3 -device e1000,bus=br,addr=4 -device e1000,bus=pci.0 "
        "-device lsi53c895a,id=lsi -device scsi-cd,drive=d0,bus=lsi.0,scsi-id=3 -device ide-cd,drive=d1,bus=ide.1,unit=1 "
        "-device floppy,drive=d2 -device usb-storage,drive=d3,bus=usb-bus.0 -device sb16,audiodev=au "
        "-device isa-parallel,chardev=c0 -device isa-debugcon,chardev=c1 "
        "-device ipmi-bmc-sim,id=bmc0 -device isa-ipmi-kcs,bmc=bmc0 "
        "-device virtio-rng-pci -device cirrus-vga -device vmgenid,guid=324e6eaf-d1d1-4bf6-bf41-b9bb6c91fb87,id=vg "
        "-device pxb,id=pxb0,bus_nr=16,bus=pci.0 -device pxb,id=pxb9,bus_nr=48,bus=pci.0 "
        "-device ib700 -net nic,model=e1000 -device vmcoreinfo",
    ),
    "rare": (
        "x86_64",
        "-machine pc-q35-7.2,nvdimm=on,cxl=on -m 64,slots=4,maxmem=2G "
        "-object memory-backend-ram,id=nvm,size=16M -device nvdimm,memdev=nvm,id=nv0,label-size=128K "
        "-device pxb-cxl,id=cxl0,bus=pcie.0,bus_nr=64,addr=4 -device cxl-rp,id=rp0,bus=cxl0,chassis=9,port=0,slot=2 "
        "-object memory-backend-ram,id=cxlm,size=256M -object memory-backend-ram,id=lsa,size=16M "
        "-device cxl-type3,bus=rp0,memdev=cxlm,lsa=lsa,id=t3 "
        "-device nvme-subsys,id=sub0 -device nvme,id=nvme0,serial=n,subsys=sub0,bus=pcie.0,addr=5 "
        "-device nvme-ns,drive=d0,bus=nvme0,nsid=1 -device nvme-ns,drive=d1,bus=nvme0,nsid=7 "
        "-device sdhci-pci,id=sd0,bus=pcie.0,addr=6 -device sd-card,drive=d2,bus=sd-bus "
        "-device qemu-xhci,id=xhci,bus=pcie.0,addr=7 -device usb-ccid,id=ccid,bus=xhci.0 -device ccid-card-passthru,chardev=c0,bus=ccid.0 "
        "-device usb-serial,chardev=c1,bus=xhci.0 -audiodev none,id=au -device usb-audio,audiodev=au,bus=xhci.0 "
        "-device ich9-intel-hda,id=hda,bus=pcie.0,addr=8 -device hda-micro,audiodev=au,bus=hda.0,cad=2 -device hda-output,audiodev=au,cad=0 "
        "-device megasas,id=raid,bus=pcie.0,addr=9 -device scsi-hd,drive=d3,bus=raid.0,scsi-id=1 "
        "-device pvscsi,id=pvs,bus=pcie.0,addr=a -device scsi-cd,bus=pvs.0,drive=d4 "
        "-device virtio-mem-pci,id=vm0,bus=pcie.0,addr=b,memdev=vmem "
        "-object memory-backend-ram,id=vmem,size=128M -device edu,bus=pcie.0,addr=c -device pci-serial,chardev=c2,bus=pcie.0,addr=d "
        "-device isa-fdc,id=fdc -device floppy,drive=d5,unit=1",
    ),
    "deep": (
        "x86_64",
        "-machine pc-q35-7.2 -m 64,slots=2,maxmem=2G -smp 2,maxcpus=8,sockets=2,dies=2,cores=2,threads=1 "
        "-device qemu64-x86_64-cpu,socket-id=1,die-id=0,core-id=1,thread-id=0 "
        "-device pxb-pcie,id=a,bus_nr=16,bus=pcie.0,addr=4 -device pxb-pcie,id=b,bus_nr=32,bus=pcie.0,addr=5 "
        "-device pxb-pcie,bus_nr=64,bus=pcie.0,addr=6 -device pcie-root-port,bus=a,id=ra,chassis=1 "
        "-device pcie-root-port,bus=b,id=rb,chassis=2 -device e1000e,bus=ra -device pcie-pci-bridge,bus=rb,id=pb "
        "-device pci-bridge,bus=pb,id=pbb,chassis_nr=7,addr=3 -device e1000,bus=pbb,addr=2 "
        "-device piix3-usb-uhci,id=u,bus=pcie.0,addr=7 -device usb-hub,port=1 -device usb-hub,port=1.1 "
        "-device usb-hub,port=1.1.2 -device usb-tablet,port=1.1.2.3 -device usb-kbd,port=1.1.1 -device usb-mouse,port=2 "
        "-device virtio-iommu-pci,bus=pcie.0,addr=8 -device loader,addr=0x1000,data=0x11,data-len=4 -device loader,addr=0x3000,cpu-num=0 "
        "-object memory-backend-ram,id=pm,size=16M -device virtio-pmem-pci,memdev=pm,id=pm0,bus=pcie.0,addr=9 "
        "-device pci-serial-2x,chardev1=c0,chardev2=c1,bus=pcie.0,addr=a -device isa-ide,iobase=0x168,iobase2=0x36e,irq=10 "
        "-device mptsas1068,id=m,bus=pcie.0,addr=b -device scsi-hd,drive=d0,bus=m.0,scsi-id=5 "
        "-device virtio-net-pci,bus=pcie.0,addr=c,iommu_platform=on,disable-legacy=on,mac=52:54:00:00:00:01",
    ),
    "microvm": (
        "x86_64",
        "-machine microvm -m 64 -device virtio-net-device -device virtio-blk-device,drive=d0 "
        "-device virtio-scsi-device,id=vs -device isa-debugcon,chardev=c0",
    ),
    "virt": (
        "aarch64",
        "-machine virt-7.2,gic-version=3 -cpu cortex-a57 -m 64 -smp 2 -device pcie-root-port,id=pci.1,chassis=1 "
        "-device virtio-net-pci,bus=pci.1 -device virtio-scsi-pci -device scsi-hd,drive=d0 "
        "-device virtio-blk-device,drive=d1 -device qemu-xhci -device usb-kbd",
    ),
    "secure": (
        "aarch64",
        "-machine virt-7.2,gic-version=3,iommu=smmuv3,virtualization=on,secure=on -cpu max -m 64 "
        "-device pxb-pcie,id=x,bus_nr=128 -device pcie-root-port,bus=x,id=px,chassis=3 -device nvme,serial=x,bus=px "
        "-device ramfb -device virtio-gpu-device -device loader,addr=0x44000000,data=1,data-len=4",
    ),
    "s390": (
        "s390x",
        "-machine s390-ccw-virtio-7.2 -m 64 -smp 2 -device virtio-net-ccw,devno=fe.0.0005 "
        "-device virtio-blk-ccw,drive=d0 -device zpci,uid=3,fid=2,target=p1 -device virtio-rng-pci,id=p1 "
        "-device virtio-scsi-ccw,id=s0 -device scsi-hd,drive=d1 -device sclpconsole,chardev=c0 "
        "-device virtio-serial-ccw -device virtconsole,chardev=c1",
    ),
    "pseries": (
        "ppc64",
        "-machine pseries-7.2,cap-cfpc=broken,cap-sbbc=broken,cap-ibs=broken,cap-ccf-assist=off -cpu power9_v2.0 -m 256 -smp 2 "
        "-device spapr-vlan -device spapr-vscsi,id=vs -device scsi-hd,drive=d0,bus=vs.0 "
        "-device spapr-vty,reg=0x30000000,chardev=c0 -device spapr-pci-host-bridge,index=1,id=phb1 "
        "-device virtio-net-pci,bus=phb1.0,addr=3",
    ),
    "riscv": (
        "riscv64",
        "-machine virt -m 64 -smp 2 -bios none -device virtio-net-pci -device virtio-blk-device,drive=d0 "
        "-device qemu-xhci -device usb-tablet",
    ),
}


@cache
def new_qemu() -> str:
    """A script that runs the qemu-system-x86_64 of another root (10.1 or later, with qom-list-get); skips without one."""
    command, environment = rooted(["qemu-system-x86_64"], other_root())
    script = Path(tempfile.mkdtemp(prefix="mdtool-newer-qemu-")) / "qemu-system-x86_64"
    atexit.register(shutil.rmtree, script.parent, ignore_errors=True)
    modules = shlex.quote(environment.get("QEMU_MODULE_DIR", ""))
    script.write_text(f'#!/bin/sh\nQEMU_MODULE_DIR={modules} exec {shlex.join(command)} "$@"\n')
    script.chmod(0o755)
    return str(script)


def binary_of(arch: str) -> str:
    return require(f"qemu-system-{arch}")


@contextmanager
def running(binary: str, options: str, folder: Path, name: str = "qmp") -> Iterator[str]:
    """A paused QEMU; yields the path of its QMP socket."""
    folder.mkdir(exist_ok=True)
    path = folder / name
    words = [binary, "-S", "-accel", "tcg", "-display", "none", "-nodefaults", "-no-user-config"]
    words += [*NULL_DISKS.split(), *NULL_CHARS.split(), *options.split()]
    words += ["-qmp", f"unix:{path},server=on,wait=off"]
    with open(folder / f"{name}.log", "w") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        # First there is no socket, and then one on which nobody listens.
        until(lambda: path.exists() and _is_up(path), of=process, told=(folder / f"{name}.log").read_text)
        yield str(path)
    finally:
        process.kill()
        process.wait()


def _is_up(path: Path) -> bool:
    """Whether QEMU has all its devices: its monitor greets before, and answers after."""
    with socket.socket(socket.AF_UNIX) as probe:
        probe.settimeout(PATIENCE)
        try:
            probe.connect(str(path))
            probe.sendall(b'{"execute": "qmp_capabilities"}{"execute": "query-status"}')
            return any("running" in text for text in probe.makefile())
        except OSError:
            return False


@contextmanager
def session_of(binary: str, options: str, folder: Path) -> Iterator[Session]:
    with running(binary, options, folder) as path, session_from_source(path) as session:
        yield session


GREETING = {"QMP": {"version": {"qemu": {"micro": 22, "minor": 2, "major": 7}, "package": ""}, "capabilities": []}}
Answer = Callable[[socket.socket, dict[str, Any]], None]


def line(value: Any) -> bytes:
    return json.dumps(value).encode() + b"\r\n"


@contextmanager
def serving(folder: Path, talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server that calls ``talk`` with its first client; yields its socket path."""
    path = str(folder / "fake")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)

        def serve() -> None:
            try:
                client, _ = listener.accept()
                with client:
                    talk(client)
            except OSError:
                pass  # the client went away, which some tests are about

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield path


def requests(client: socket.socket) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Each command with its bytes; commands follow each other without line ends."""
    text = ""
    while data := client.recv(1 << 16):
        text += data.decode()
        while text := text.lstrip():
            try:
                request, end = json.JSONDecoder().raw_decode(text)
            except ValueError:
                break
            yield request, text[:end].encode()
            text = text[end:]


def answering(answer: Answer) -> Callable[[socket.socket], None]:
    """A ``talk`` that greets, agrees on capabilities and leaves every further command to ``answer``."""

    def talk(client: socket.socket) -> None:
        client.sendall(line(GREETING))
        for request, _ in requests(client):
            if request["execute"] == "qmp_capabilities":
                client.sendall(line({"return": {}}))  # capabilities are agreed on without an id
            else:
                answer(client, request)

    return talk


def recording(target: str, seen: list[dict[str, Any]]) -> Callable[[socket.socket], None]:
    """A ``talk`` that passes everything on to a real QEMU and notes each command."""

    def talk(client: socket.socket) -> None:
        with socket.socket(socket.AF_UNIX) as qemu:
            qemu.connect(target)

            def back() -> None:
                try:
                    while data := qemu.recv(1 << 16):
                        client.sendall(data)
                except OSError:
                    pass

            threading.Thread(target=back, daemon=True).start()
            for request, data in requests(client):
                seen.append(request)
                qemu.sendall(data)

    return talk
