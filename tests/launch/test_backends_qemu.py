"""Real QEMU takes every backend that this host can provide, and every null one."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from conftest import require
from support_backends import guest_of, line_of

from mdtool.launch.argv import Commandline
from mdtool.launch.rehearse import rehearsed
from tests.support_waiting import PATIENCE, reserved_ports, until


@contextmanager
def beside(line: Commandline) -> Iterator[None]:
    """The processes of a command line, ended afterwards."""
    running = []
    try:
        for process in line.processes:
            running.append(subprocess.Popen(process.argv, stderr=subprocess.PIPE))
            until(process.ready.exists if process.ready else lambda: True, of=running[-1])
        yield
    finally:
        for started in running:
            started.terminate()
            started.communicate(timeout=PATIENCE)


def answers(line: Commandline, *commands: dict[str, Any]) -> list[Any]:
    """What QEMU, paused, answers; its words as an AssertionError where it does not start."""
    passed = []
    for number, secret in line.descriptors.items():
        held = os.memfd_create(secret.name)
        os.write(held, (secret.value or "pw").encode())
        os.lseek(held, 0, os.SEEK_SET)
        os.dup2(held, number)
        os.close(held)
        passed.append(number)
    sent = [{"execute": "qmp_capabilities"}, {"execute": "query-status"}, *commands, {"execute": "quit"}]
    try:
        with beside(line):
            said = subprocess.run(
                [*line.argv, "-qmp", "stdio"],
                input="".join(map(json.dumps, sent)),
                capture_output=True,
                text=True,
                timeout=PATIENCE,
                pass_fds=passed,
            )
    finally:
        for number in passed:
            os.close(number)
    messages = [json.loads(row) for row in said.stdout.splitlines() if row.startswith("{")]
    results = [message["return"] for message in messages if "return" in message]
    assert len(results) == len(sent), said.stderr
    assert results[1]["status"] == "prelaunch"
    return results[2:-1]


def everything(folder: Path, ports: list[int]) -> str:
    """One guest with each backend that needs nothing but this folder."""
    return f"""
<disk type='file'><driver type='qcow2' cache='none' io='threads' discard='unmap' detect_zeroes='unmap' iothread='1'/>
 <source file='{folder}/top.qcow2'/><backingStore type='file'><format type='qcow2'/><source file='{folder}/base.qcow2'/>
 <backingStore/></backingStore><target dev='vda' bus='virtio'/></disk>
<disk type='file'><driver type='raw' cache='writethrough' error_policy='stop'/><source file='{folder}/raw'/>
 <target dev='vdb' bus='virtio'/><iotune><total_bytes_sec>1000000</total_bytes_sec><group_name>lim</group_name></iotune>
 <shareable/></disk>
<disk type='file'><driver type='raw'/><source file='{folder}/raw'/><target dev='sdd' bus='scsi'/><iotune>
 <total_bytes_sec>1000000</total_bytes_sec><group_name>lim</group_name></iotune><shareable/></disk>
<disk type='network'><driver type='raw'/><source protocol='nbd' name='exp'>
 <host transport='unix' socket='{folder}/nbd'/></source><target dev='vdf' bus='virtio'/><readonly/></disk>
<disk type='file' device='cdrom'><driver type='raw'/><source file='{folder}/cd'/><target dev='sda' bus='sata'/></disk>
<disk type='file' device='cdrom'><target dev='sdb' bus='sata'/></disk>
<disk type='file' device='floppy'><driver type='raw'/><source file='{folder}/floppy'/><target dev='fda'/></disk>
<disk type='dir'><driver type='fat'/><source dir='{folder}/shared'/><target dev='sdc' bus='usb'/><readonly/></disk>
<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
<interface type='mcast'><mac address='52:54:00:00:00:02'/><source address='230.0.0.1' port='5558'/>
 <model type='e1000e'/></interface>
<interface type='server'><mac address='52:54:00:00:00:03'/><source address='127.0.0.1' port='{ports[0]}'/>
 <model type='rtl8139'/></interface>
<interface type='udp'><mac address='52:54:00:00:00:05'/><source address='127.0.0.1' port='9'>
 <local address='127.0.0.1' port='{ports[1]}'/></source><model type='e1000'/></interface>
<interface type='null'><mac address='52:54:00:00:00:06'/><model type='ne2k_pci'/></interface>
<serial type='pty'><target port='0'/><log file='{folder}/log' append='on'/></serial>
<serial type='tcp'><source mode='bind' host='127.0.0.1' service='{ports[2]}'/><protocol type='telnet'/>
 <target port='1'/></serial>
<serial type='udp'><source mode='bind' host='127.0.0.1' service='0'/>
 <source mode='connect' host='127.0.0.1' service='9'/><target port='2'/></serial>
<serial type='file'><source path='{folder}/s.log' append='on'/><target port='3'/></serial>
<parallel type='null'><target port='0'/></parallel>
<channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<channel type='unix'><source mode='bind' path='{folder}/fwd'/>
 <target type='guestfwd' address='10.0.2.1' port='4600'/></channel>
<console type='pty'><target type='virtio' port='1'/></console>
<graphics type='vnc' port='{ports[3]}' passwd='secret' keymap='de'><listen type='address' address='127.0.0.1'/></graphics>
<video><model type='virtio'/></video>
<sound model='ich9'/><sound model='usb'><audio id='2'/></sound><audio id='1' type='none'/>
<audio id='2' type='file' path='{folder}/wav'><output mixingEngine='yes' fixedSettings='yes'>
 <settings frequency='44100' channels='2' format='s16'/></output></audio>
<rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
<rng model='virtio'><backend model='builtin'/></rng>
<filesystem type='mount' accessmode='mapped' fmode='0644'><source dir='{folder}/shared'/><target dir='t9'/></filesystem>
<shmem name='mdtool-{os.getpid()}'><model type='ivshmem-plain'/><size unit='M'>4</size></shmem>
<crypto model='virtio' type='qemu'><backend model='builtin' queues='1'/></crypto>
<redirdev bus='usb' type='tcp'><source mode='bind' host='127.0.0.1' service='{ports[4]}'/></redirdev>
<smartcard mode='passthrough' type='tcp'><source mode='bind' host='127.0.0.1' service='{ports[5]}'/></smartcard>
<memballoon model='virtio'/><watchdog model='i6300esb'/><panic model='isa'/>
"""


OUTSIDE = "<iothreads>1</iothreads><memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>"


def images(folder: Path) -> None:
    image = ["qemu-img", "create", "-q"]
    (folder / "shared").mkdir()
    subprocess.run([*image, "-f", "qcow2", folder / "base.qcow2", "10M"], check=True)
    subprocess.run([*image, "-f", "qcow2", "-b", "base.qcow2", "-F", "qcow2", folder / "top.qcow2"], check=True)
    for name, size in (("raw", 10 << 20), ("cd", 2 << 20), ("floppy", 1474560)):
        with open(folder / name, "wb") as file:
            file.truncate(size)


def test_qemu_takes_every_backend_of_this_host(qemu: str, tmp_path: Path) -> None:
    if shutil.which("qemu-nbd") is None:
        pytest.skip("qemu-nbd is missing: apt-get install qemu-utils")
    images(tmp_path)
    server = ["qemu-nbd", "-k", tmp_path / "nbd", "-x", "exp", "-f", "raw", "-r", "-t", tmp_path / "cd"]
    nbd = subprocess.Popen(server)
    try:
        until((tmp_path / "nbd").exists, of=nbd)
        with reserved_ports(6) as ports:
            line = line_of(guest_of(everything(tmp_path, ports), OUTSIDE), runtime=tmp_path)
            blocks, chardevs, vnc, memory = answers(
                line,
                {"execute": "query-named-block-nodes", "arguments": {"flat": True}},
                {"execute": "query-chardev"},
                {"execute": "query-vnc"},
                {"execute": "query-memdev"},
            )
    finally:
        nbd.terminate()
        nbd.wait(timeout=PATIENCE)
        Path(f"/dev/shm/mdtool-{os.getpid()}").unlink(missing_ok=True)
    nodes = {block["node-name"]: block for block in blocks}
    assert nodes["vda-1"]["file"] == f"{tmp_path}/base.qcow2"
    assert nodes["vda"]["backing_file"] == f"{tmp_path}/base.qcow2"
    assert nodes["vda"]["cache"]["direct"] is True
    assert nodes["vdb-throttle"]["drv"] == "throttle"
    assert {"charserial0", "charchannel0", "charchannel1", "charconsole1", "charredir0"} <= {c["label"] for c in chardevs}
    assert vnc["auth"] == "vnc"
    assert [row["share"] for row in memory if row.get("id") == "pc.ram"] == [True]


def test_a_rehearsal_of_all_of_it_needs_none_of_it(qemu: str, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    line = line_of(guest_of(everything(gone, [1] * 6), OUTSIDE, type="kvm"), runtime=gone, rehearse=True)
    blocks, pci = answers(line, {"execute": "query-block"}, {"execute": "query-pci"})
    assert all(block["inserted"]["drv"] == "null-co" for block in blocks if "inserted" in block)
    assert not gone.exists()
    assert pci
    assert not line.substitutes


def test_the_guest_sees_the_same_devices_in_a_rehearsal(qemu: str, tmp_path: Path) -> None:
    """PCI ids, addresses, and what the devices are: with null backends as with real ones."""
    devices = (
        "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>"
        f"<disk type='file'><driver type='raw'/><source file='{tmp_path}/raw'/><target dev='vda' bus='virtio'/></disk>"
        "<serial type='pty'/><rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>"
        f"<filesystem type='mount'><source dir='{tmp_path}'/><target dir='t'/></filesystem>"
    )
    with open(tmp_path / "raw", "wb") as file:
        file.truncate(10 << 20)
    guest = guest_of(devices)
    show = {"execute": "query-pci"}, {"execute": "human-monitor-command", "arguments": {"command-line": "info qtree"}}
    (pci, tree), (null_pci, null_tree) = (
        answers(line_of(guest, runtime=tmp_path, rehearse=rehearse), *show) for rehearse in (False, True)
    )
    assert pci == null_pci
    host_side = ("size", "cyls", "heads", "secs")
    rows = [[row for row in text.splitlines() if not row.strip().startswith(host_side)] for text in (tree, null_tree)]
    assert [a for a, b in zip(*rows, strict=True) if a != b] == []


@pytest.mark.skipif(os.geteuid() != 0, reason="Debian 12's virtiofsd runs as root alone")
def test_processes_beside_qemu_serve_it(qemu: str, tmp_path: Path) -> None:
    vfsd = shutil.which("virtiofsd", path=f"{os.environ.get('PATH', '')}:/usr/lib/qemu:/usr/libexec")
    if vfsd is None or shutil.which("swtpm") is None:
        pytest.skip("virtiofsd or swtpm is missing: apt-get install virtiofsd (Debian 12: qemu-system-common) swtpm")
    (tmp_path / "tpm").mkdir()
    devices = (
        f"<tpm model='tpm-crb'><backend type='emulator' version='2.0'><source type='dir' path='{tmp_path}/tpm'/></backend></tpm>"
        f"<filesystem type='mount'><driver type='virtiofs'/><binary path='{vfsd}'/><source dir='{tmp_path}'/><target dir='t'/>"
        "</filesystem>"
    )
    (tpm,) = answers(line_of(guest_of(devices, OUTSIDE), runtime=tmp_path), {"execute": "query-tpm"})
    assert tpm[0]["options"]["type"] == "emulator"


def test_what_another_process_serves_is_rehearsed_with_a_null_one(qemu: str, tmp_path: Path) -> None:
    """A TPM and virtiofs: the true devices, though nothing real is behind them."""
    devices = (
        "<tpm model='tpm-crb'><backend type='emulator' version='2.0'/></tpm>"
        "<filesystem type='mount'><driver type='virtiofs' queue='256'/><source dir='/no'/><target dir='t'/></filesystem>"
    )
    line = line_of(guest_of(devices, OUTSIDE), runtime=tmp_path, rehearse=True)
    assert not line.substitutes
    driver = {"execute": "qom-get", "arguments": {"path": "/machine/peripheral/fs0", "property": "type"}}
    tpm, share = answers(line, {"execute": "query-tpm"}, driver)
    assert tpm[0]["model"] == "tpm-crb"
    assert share == "vhost-user-fs-pci"
    assert not list(tmp_path.iterdir())


def test_a_null_tpm_of_version_1_2(qemu: str, tmp_path: Path) -> None:
    devices = "<tpm model='tpm-tis'><backend type='emulator' version='1.2'/></tpm>"
    (tpm,) = answers(line_of(guest_of(devices), runtime=tmp_path, rehearse=True), {"execute": "query-tpm"})
    assert tpm[0]["model"] == "tpm-tis"


OTHERS = """
<disk type='file'><driver type='qcow2'/><source file='/no/a'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='cdrom'><source file='/no/b'/><target dev='sda' bus='scsi'/></disk>
<interface type='bridge'><source bridge='none'/><mac address='52:54:00:00:00:01'/><model type='virtio'/></interface>
<serial type='pty'/><console type='pty'/><channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
<rng model='virtio'><backend model='random'>/dev/hwrng</backend></rng><memballoon model='virtio'/>
<filesystem type='mount'><source dir='/no'/><target dir='t'/></filesystem>
"""


@pytest.mark.parametrize(
    ("arch", "machine", "more"),
    [
        ("aarch64", "virt-7.2", "<tpm model='tpm-tis'><backend type='emulator' version='2.0'/></tpm>"),
        ("riscv64", "virt", ""),
        ("ppc64", "pseries", "<nvram/>"),
    ],
)
def test_other_architectures_are_rehearsed(arch: str, machine: str, more: str, tmp_path: Path) -> None:
    binary = require(f"qemu-system-{arch}")
    guest = guest_of(OTHERS + more, machine=machine, arch=arch)
    (chardevs,) = answers(line_of(guest, runtime=tmp_path, rehearse=True, binary=binary), {"execute": "query-chardev"})
    assert {"charserial0", "charchannel0"} <= {chardev["label"] for chardev in chardevs}


def test_statistics_of_the_balloon_are_asked_for_in_the_machine(qemu: str) -> None:
    """As libvirt does it: the command line is the same with them and without."""
    devices = "<memballoon model='virtio'><stats period='7'/></memballoon>"
    with rehearsed(guest_of(devices)) as session:
        wish = {"path": "/machine/peripheral/balloon0", "property": "guest-stats-polling-interval"}
        assert session.execute("qom-get", wish) == 7
    assert not any("polling" in word for word in line_of(guest_of(devices)).argv)
