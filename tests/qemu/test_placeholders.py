"""Placeholder back ends: the machine is the same, the host is not touched, and every reader of command lines has one table."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from conftest import other_root, require
from support import run_mdtool

from mdtool.commandline.option import Option
from mdtool.commandline.placeholder import options as rows
from mdtool.commandline.placeholder.backends import ROWS
from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.commandline.table import OPTIONS
from mdtool.errors import Report
from mdtool.guest.devices import guest_from_bytes
from mdtool.importer import command_from_source, imported
from mdtool.launch.rehearse import rehearsed
from mdtool.machine.machines import needs_audiodev
from mdtool.machine.roles import role
from mdtool.machine.tree import Tree
from mdtool.proof.probe import probed
from mdtool.qemu.commandline import dumped_commandline
from mdtool.qemu.dump import dump
from tests.support_waiting import until


def test_every_placeholder_is_of_an_option_that_qemu_has() -> None:
    assert set(rows._ROWS) <= OPTIONS.keys()
    assert {flag for flag, _ in ROWS.values()} <= {name for name, row in OPTIONS.items() if row.creates}
    assert ROWS.keys() <= {*rows.BACKENDS}


def test_the_size_of_the_screen_is_rehearsed_and_kept() -> None:
    """A framebuffer of a Macintosh is as large."""
    host, size = HostSide(Path()), Option("g", "1152x870x8")
    assert size in rows.without_host([size], host) and host.kept == [size]


@pytest.mark.parametrize("driver", ["sb16", "ES1370", "AC97", "adlib", "usb-audio", "hda-duplex"])
def test_a_sound_card_without_a_back_end_leaves_the_sound_of_the_host_alone(driver: str) -> None:
    made = {one.name: one.bag for one in rows.without_host([Option("device", driver)], HostSide(Path()))}
    assert made["audiodev"]["driver"] == "none" and made["device"]["audiodev"] == made["audiodev"]["id"]


@pytest.mark.parametrize("arch", ["aarch64", "ppc"])
@pytest.mark.parametrize("other", [False, True], ids=["here", "other"])
def test_the_boards_with_sound_are_those_of_qemu(arch: str, other: bool) -> None:
    root = other_root() if other else None
    if root is not None and not (root / f"usr/bin/qemu-system-{arch}").exists():
        pytest.skip(f"the other root has no QEMU for {arch}")
    with probed(
        [require(f"qemu-system-{arch}"), "-machine", "none", "-nodefaults", "-display", "none"], root=root
    ) as probe:
        ask, version = probe.session.execute, probe.session.version
        names = [one["name"] for one in ask("query-machines")]
        with_sound = {
            name
            for name in names
            if "audiodev" in {one["name"] for one in ask("qom-list-properties", {"typename": f"{name}-machine"})}
        }
    assert {name for name in names if needs_audiodev(name, lambda: version)} == with_sound


@pytest.mark.parametrize(("version", "options"), [((11, 1), "audio none"), ((7, 2), ""), ((11, 1), "audiodev none,id=a")])
def test_a_board_with_sound_has_a_silent_one_in_every_reader(version: tuple[int, ...], options: str) -> None:
    """QEMU 8.2 and later do not start versatilepb on a host without sound."""
    given = [Option("machine", "versatilepb")] + ([Option("audiodev", "none,id=a")] if "audiodev" in options else [])
    made = rows.without_host(given, HostSide(Path(), version=lambda: version))
    sound = " ".join(f"{one.name} {one.value}" for one in made if one.name.startswith("audio"))
    assert sound.startswith(options.split(",")[0][:5]) if options else not sound
    assert ("audio none" in sound) == (options == "audio none")


@pytest.mark.parametrize(
    "given",
    [
        "usb-ccid -device ccid-card-emulated,backend=nss-emulated",
        "ivshmem-doorbell,chardev=c,vectors=2",
        "vhost-user-gpu-pci,chardev=c",
        "vhost-user-vga,chardev=c,max_outputs=2",
    ],
)
def test_a_substitute_has_the_back_end_that_it_needs_and_no_other(given: str, tmp_path: Path) -> None:
    script = f"qemu-system-x86_64 -M pc -usb -nodefaults -chardev socket,id=c,path=/nowhere -device {given}"
    tree = dumped_commandline(str(tmp_path / "s.sh"), script.encode())
    assert given.split()[-1].partition(",")[0] in {place.node.driver for place in tree.places}


@pytest.mark.parametrize(
    "option",
    [
        ("x86_64", "q35,kernel-irqchip=split", "intel-iommu,intremap=on,eim=on"),
        ("s390x", "s390-ccw-virtio", "vfio-pci,host=0000:00:00.0,id=h0"),
    ],
)
def test_a_substitute_that_depends_on_more_than_the_driver_keeps_the_place_in_a_script(
    option: tuple[str, str, str],
) -> None:
    arch, machine, given = option
    script = f"qemu-system-{arch} -M {machine} -nodefaults -device {given}"
    node = next(p.node for p in dumped_commandline("s.sh", script.encode()).places if given.startswith(p.node.driver))
    assert node.driver == "vfio-pci" or node.properties == {"intremap": "on", "eim": "on"}


def test_devices_of_the_command_line_have_the_back_ends_of_a_script() -> None:
    given = ("-chardev", "socket,id=c,path=/nowhere", "-device", "vhost-user-fs-pci,chardev=c,tag=t", "-device", "vfio-pci,host=1:0.0",
             "-chardev", "socket,id=i,path=/nowhere", "-device", "ivshmem-doorbell,vectors=2,chardev=i,id=ivs",
             "-device", "piix3-usb-uhci,id=u", "-device", "usb-ccid,bus=u.0", "-device", "ccid-card-emulated,backend=nss-emulated")  # fmt: skip
    xml = (
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name><memory>262144</memory>"
        "<os><type arch='x86_64' machine='q35'>hvm</type></os><devices/><qemu:commandline>"
        + "".join(f"<qemu:arg value='{word}'/>" for word in given)
        + "</qemu:commandline></domain>"
    )
    with rehearsed(guest_from_bytes(xml.encode(), "g.xml")) as session:
        drivers = {place.node.driver for place in dump(session).places}
    assert drivers >= {"vhost-user-fs-pci", "pci-testdev", "ivshmem-plain", "ccid-card-passthru"}


def facts(tree: Tree) -> dict[str, object]:
    """What a guest sees of the devices that QEMU or the script has, by driver and place."""
    found: dict[str, object] = {}
    for place in tree.places:
        node = place.node
        values = {**node.pins, **node.properties}
        seen = {
            k: str(v) for k, v in values.items() if role(node.driver, k) == "guest" and k not in ("masterbus", "device_id")
        }
        found[f"{node.driver} {place.bus.type if place.bus else ''} {node.address}"] = seen
    return found


#: one host side each that only a placeholder can be had of
ALIKE = {
    "can": "-object can-bus,id=c0 -device kvaser_pci,canbus=c0",
    "folder": "-virtfs local,path=/nonexistent,mount_tag=t,security_model=none",
    "tpm": "-chardev socket,id=t,path=/nonexistent -tpmdev emulator,id=t0,chardev=t -device tpm-tis,tpmdev=t0",
    "flash": "-drive if=pflash,format=raw,readonly=on,file=/nonexistent/a -drive if=pflash,format=raw,file=/nonexistent/b",
    "short": "-cdrom /nonexistent -hda /nonexistent",
    "vhost-user": "-chardev socket,id=v,path=/nonexistent -netdev vhost-user,id=n,chardev=v -device virtio-net-pci,netdev=n",
    "passed-through": "-device vfio-pci,host=01:00.0,id=gpu",
    "sizes": "-m 1G,slots=2,maxmem=4T",
    "entry": "-fw_cfg opt/x-Mb,string=65536 -fw_cfg opt/y,file=/nonexistent",
}  # fmt: skip


@pytest.mark.parametrize("name", ALIKE)
def test_a_script_is_dumped_and_imported_alike(name: str, tmp_path: Path) -> None:
    script = tmp_path / "start.sh"
    script.write_text(f"qemu-system-x86_64 -M q35 {ALIKE[name]}\n")
    made = imported(command_from_source(str(script), Report()), "web")
    tree = dumped_commandline(str(script), script.read_bytes())
    assert facts(tree) == facts(made.tree)
    assert tree.memory == made.tree.memory


@pytest.mark.parametrize("arch", ["s390x", "ppc64", "aarch64"])
def test_a_short_drive_goes_where_the_machine_has_them(arch: str, tmp_path: Path) -> None:
    script = tmp_path / "start.sh"
    machine = "-M virt" if arch == "aarch64" else ""
    script.write_text(f"qemu-system-{arch} {machine} -cdrom /nonexistent.iso\n")
    drivers = {place.node.driver for place in dumped_commandline(str(script), script.read_bytes()).places}
    assert drivers & {"scsi-cd", "virtio-blk-ccw", "virtio-blk-pci", "virtio-blk-device", "ide-cd"}


def test_a_rehearsal_needs_no_memory_and_no_kvm() -> None:
    outside = (
        "<qemu:arg value='-cpu'/><qemu:arg value='host,kvm=off,hv_vendor_id=0123456789ab,-hypervisor'/>"
        "<qemu:arg value='-fw_cfg'/><qemu:arg value='opt/x-64Mb,string=65536'/>"
    )
    xml = (
        "<domain type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>"
        "<memory unit='GiB'>400</memory><os><type arch='x86_64' machine='q35'>hvm</type></os>"
        f"<devices/><qemu:commandline>{outside}</qemu:commandline></domain>"
    )
    with rehearsed(guest_from_bytes(xml.encode(), "g.xml")) as session:
        assert session.execute("query-memory-size-summary")["base-memory"] == 400 << 30


def test_a_vhost_user_nic_keeps_its_queues() -> None:
    """With another back end QEMU cuts tx_queue_size down to 256."""
    xml = (
        "<domain type='qemu'><name>g</name><memory>65536</memory><os><type arch='x86_64' machine='pc'>hvm</type></os><devices>"
        "<interface type='vhostuser'><source type='unix' path='/nonexistent' mode='client'/><model type='virtio'/>"
        "<mac address='52:54:00:00:00:01'/><driver queues='2' rx_queue_size='1024' tx_queue_size='1024'/></interface>"
        "</devices></domain>"
    )
    with rehearsed(guest_from_bytes(xml.encode(), "g.xml")) as session:
        text = session.execute("human-monitor-command", {"command-line": "info qtree"})
    assert "tx_queue_size = 1024" in text


def test_what_only_kvm_has_is_no_part_of_a_cpu(tmp_path: Path) -> None:
    (made,) = rows.without_host_one(Option("cpu", "host,kvm=off,+hv_relaxed,pmu=off"), HostSide(tmp_path))
    assert made.value == "max,pmu=off"
    assert rows.without_host_one(Option("cpu", "host"), HostSide(tmp_path, "ppc64")) == []


# --- a guest that runs -------------------------------------------------------------------------------------------


@contextmanager
def running(folder: Path) -> Iterator[int]:
    """A QEMU whose sockets are named on its command line and in its file for -readconfig."""
    config = folder / "machine.cfg"
    config.write_text(
        f'[chardev "c0"]\n  backend = "socket"\n  path = "{folder}/in-file"\n  server = "on"\n  wait = "off"\n'
        '[device "s0"]\n  driver = "isa-serial"\n  chardev = "c0"\n'
    )
    words = ["qemu-system-x86_64", "-S", "-display", "none", "-nodefaults", "-readconfig", str(config)]
    words += ["-chardev", f"socket,id=c1,path={folder}/on-line,server=on,wait=off", "-device", "isa-serial,chardev=c1"]
    words += ["-pidfile", str(folder / "pid")]
    process = subprocess.Popen(words)
    try:
        until(lambda: all((folder / name).exists() for name in ("pid", "in-file", "on-line")), of=process)
        yield process.pid
    finally:
        process.kill()
        process.wait()


def test_a_fingerprint_of_a_guest_touches_none_of_its_sockets(tmp_path: Path) -> None:
    with running(tmp_path) as pid:
        before = {name: os.stat(tmp_path / name).st_ino for name in ("in-file", "on-line")}
        done = run_mdtool("fingerprint", f"pid:{pid}")
        assert done.returncode == 0, done.stderr
        assert {name: os.stat(tmp_path / name).st_ino for name in before} == before
        for name in before:
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(tmp_path / name))


def test_a_file_for_readconfig_that_is_gone_is_an_error(tmp_path: Path) -> None:
    """Without what it says it would be another machine."""
    with running(tmp_path) as pid:
        (tmp_path / "machine.cfg").unlink()
        done = run_mdtool("fingerprint", f"pid:{pid}")
    assert done.returncode == 2
    assert "readconfig" in done.stderr
