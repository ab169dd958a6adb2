"""A Linux small enough to boot in seconds: Debian's kernel, busybox and udev in an initramfs made here.

MDTOOL_TEST_LINUX names a folder where these Debian packages lie or are unpacked to:

    apt-get download linux-image-$VERSION-cloud-amd64 busybox-static udev
"""

from __future__ import annotations

import gzip
import lzma
import os
import re
import subprocess
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import lacking
from tests.support_waiting import PATIENCE

#: what a kernel has built in is not there; they are loaded three times over, whichever needs which
MODULES = (
    "virtio", "virtio_ring", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "failover", "net_failover",
    "virtio_net", "virtio_blk", "crct10dif_common", "crct10dif_generic", "crc-t10dif", "crc64", "crc64-rocksoft_generic",
    "crc64-rocksoft", "t10-pi", "scsi_common", "scsi_mod", "sd_mod", "virtio_scsi", "libata", "libahci", "ahci", "ata_piix",
)  # fmt: skip
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for again in 1 2 3; do for module in /modules/*; do
  case $module in *scsi_mod*) insmod $module scan=sync;; *) insmod $module;; esac 2>/dev/null
done; done  # whatever a module finds is there when it is: none of them probes behind our back
for net in /sys/class/net/*; do
  [ -e $net/device ] || continue
  echo "NET $(cat $net/address) $(udevadm test-builtin net_id $net 2>/dev/null | tr '\\n' ' ')"
done
for block in /sys/block/*; do
  [ -e $block/device ] || continue
  echo "DISK $(basename $block) $(cat $block/serial 2>/dev/null) $(udevadm test-builtin path_id $block 2>/dev/null | tr '\\n' ' ')"
done
echo DONE
poweroff -f
"""


@dataclass(frozen=True)
class Linux:
    kernel: Path
    initramfs: Path


def linux_made(work: Path, init: str = INIT) -> Linux:
    """Unpack the packages and make an initramfs in ``work`` that runs ``init``; skips where they are not there."""
    folder = Path(os.environ.get("MDTOOL_TEST_LINUX") or "/nonexistent")
    if not list(folder.glob("linux-image-*-amd64_*.deb")):
        what = "a Debian kernel, busybox and udev as packages"
        lacking(what, "apt-get download linux-image-VERSION-cloud-amd64 busybox-static udev; MDTOOL_TEST_LINUX=FOLDER")
    root = work / "root"
    for package in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", str(package), str(root)], check=True)
    kernel = next((root / "boot").glob("vmlinuz-*"))
    files: dict[str, tuple[bytes, int]] = {"init": (init.encode(), 0o755)}
    busybox, udevadm = (next(root.glob(f"**/bin/{name}")) for name in ("busybox", "udevadm"))  # in /bin or /usr/bin
    files["bin/busybox"] = (busybox.read_bytes(), 0o755)
    files["bin/udevadm"] = (udevadm.read_bytes(), 0o755)
    said = subprocess.run(["ldd", str(udevadm)], capture_output=True, text=True, check=True).stdout
    for path in re.findall(r"(/\S+)", said):
        if Path(path).exists():
            files[path.lstrip("/")] = (Path(path).read_bytes(), 0o755)
    for number, name in enumerate(MODULES):
        for found in root.glob(f"**/lib/modules/*/kernel/**/{name}.ko*"):
            module = found.read_bytes()
            files[f"modules/{number:02d}-{name}.ko"] = (lzma.decompress(module) if found.suffix == ".xz" else module, 0o644)
    initramfs = work / "initramfs.gz"
    initramfs.write_bytes(gzip.compress(cpio(files), 1))
    return Linux(kernel, initramfs)


def cpio(files: dict[str, tuple[bytes, int]]) -> bytes:
    """A newc archive, as the kernel reads it."""
    folders = {str(parent) for name in files for parent in Path(name).parents} - {"."} | {"proc", "sys", "dev"}
    entries = [*((name, b"", 0o40755) for name in sorted(folders)), *((n, d, 0o100000 | m) for n, (d, m) in files.items())]
    out = bytearray()
    for number, (name, data, mode) in enumerate([*entries, ("TRAILER!!!", b"", 0)], 1):
        fields = (number, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
        out += b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
        out += b"\0" * (-len(out) % 4) + data
        out += b"\0" * (-len(out) % 4)
    return bytes(out)


def booted(linux: Linux, words: Iterable[str], seconds: float = PATIENCE) -> Iterator[tuple[str, str, dict[str, str]]]:
    """(NET or DISK, MAC or kernel's name, what udev says) of every NIC and disk that the guest sees."""
    append = "console=ttyS0 quiet panic=-1 net.naming-scheme=v252"  # the one that mdtool knows
    more = ["-kernel", str(linux.kernel), "-initrd", str(linux.initramfs), "-append", append]
    done = subprocess.run(
        [*words, *more, "-serial", "stdio", "-no-reboot"], capture_output=True, text=True, timeout=seconds
    )
    if "DONE" not in done.stdout:
        raise AssertionError(f"the guest did not come up: {done.stdout[-2000:]}{done.stderr[-500:]}")
    for line in done.stdout.splitlines():
        kind, _, rest = line.strip().partition(" ")
        if kind in ("NET", "DISK"):
            yield kind, rest.partition(" ")[0], dict(re.findall(r"(ID_\w+)=(\S+)", rest))
