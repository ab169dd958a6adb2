"""``reconcile --live`` on a Linux that lets go of PCI devices when it is asked to."""

from __future__ import annotations

from pathlib import Path

import pytest
from test_live import DISK, NIC, Running, guest, nodes

from tests.review.linux import Linux, linux_made
from tests.support_waiting import until

__all__ = ["guest"]  # a fixture

#: counts its network cards for ever, once its drivers are there
INIT = """#!/bin/busybox sh
/bin/busybox --install -s /bin
mount -t proc proc /proc; mount -t sysfs sys /sys; mount -t devtmpfs dev /dev
for again in 1 2 3; do for module in /modules/*; do insmod $module 2>/dev/null; done; done
while sleep 0.2; do
  now="$(cat /sys/class/net/e*/address 2>/dev/null | sort | tr '\\n' ' ')$(ls /sys/block | grep vd | tr '\\n' ' ')"
  [ "$now" = "$before" ] || echo "SEES $now."
  before="$now"
done
"""


@pytest.fixture(scope="module")
def linux(tmp_path_factory: pytest.TempPathFactory) -> Linux:
    return linux_made(tmp_path_factory.mktemp("linux"), INIT)


def seen(console: Path) -> str:
    """What the guest saw last: its network cards and virtio disks."""
    said = [
        line for line in console.read_text(errors="replace").splitlines() if line.startswith("SEES ") and line[-1] == "."
    ]
    return said[-1][5:-1].strip() if said else ""


def comes_to_see(console: Path, what: str) -> None:
    until(
        lambda: seen(console) == what, told=lambda: f"sees {seen(console)!r}: {console.read_text(errors='replace')[-800:]}"
    )


@pytest.mark.parametrize("machine", ["pc-q35-7.2", "pc-i440fx-7.2"])
def test_a_guest_lets_go(guest: Running, linux: Linux, machine: str) -> None:
    """A card and a disk go, behind root ports as on the root bus, another card comes; the guest sees each of it."""
    console = guest.folder / "console"
    console.touch()
    boot = (
        f"<kernel>{linux.kernel}</kernel><initrd>{linux.initramfs}</initrd>"
        "<cmdline>console=ttyS0 quiet panic=-1 net.ifnames=0</cmdline>"
    )
    serial = f"<serial type='file'><source path='{console}'/><target port='0'/></serial>"
    disk = DISK.format(file=guest.folder / "a", dev="vda", bus="virtio")

    def write(*devices: str) -> None:
        guest.write(serial, *devices, memory=192, machine=machine, os=boot)

    write(NIC.format(n=1), NIC.format(n=2), disk)
    guest.launch()
    comes_to_see(console, "52:54:00:00:00:01 52:54:00:00:00:02 vda")
    write(NIC.format(n=2), NIC.format(n=3))
    assert guest.live("--timeout", "600") == {"net0": "", "virtio-disk0": "", "net2": ""}
    comes_to_see(console, "52:54:00:00:00:02 52:54:00:00:00:03")
    assert guest.verify()[0] == 0, guest.verify()
    with guest.session() as session:
        assert not [name for name in nodes(session) if name.startswith("vda")]
    assert guest.reconcile().stdout.startswith("no changes")
