"""A running guest that is to be started anew: what cannot be is found before it is touched, and else it runs again."""

from __future__ import annotations

import os
import re
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdtool.errors import ConflictError
from mdtool.guest.devices import guest_from_file
from mdtool.launch.run import check_libvirt
from mdtool.launch.ways import DIRECT
from tests.qemu.test_live import CHANNEL, DISK, NIC, URI, UUID, Running, by_libvirt, guest
from tests.support_waiting import until

__all__ = ["by_libvirt", "guest"]  # fixtures

pytestmark = pytest.mark.usefixtures("qemu")

SHEEPDOG = (
    "<disk type='network' device='disk'><source protocol='sheepdog' name='x'/><target dev='vdz' bus='virtio'/></disk>"
)
PORT = (
    "<serial type='udp'><source mode='bind' host='127.0.0.1' service='{port}'/>"
    "<source mode='connect' host='127.0.0.1' service='9'/></serial>"
)
TCP = "<serial type='tcp'><source mode='{mode}' host='127.0.0.1' service='{port}'/><protocol type='raw'/></serial>"
NBD = (
    "<disk type='network' device='disk'><source protocol='nbd' name='x'><host name='localhost' port='{port}'/></source>"
    "<target dev='vdz' bus='virtio'/></disk>"
)
DISPLAY = "<graphics type='vnc' port='{port}' listen='127.0.0.1'/>"


def disk(file: Path, kind: str = "raw") -> str:
    return DISK.format(file=file, dev="vdz", bus="virtio").replace("type='raw'", f"type='{kind}'")


@pytest.fixture
def taken() -> Iterator[int]:
    """A UDP port that somebody has: nothing but a start finds out."""
    with socket.socket(type=socket.SOCK_DGRAM) as listener:
        listener.bind(("127.0.0.1", 0))
        yield listener.getsockname()[1]


def again(guest: Running, *words: str | Path) -> subprocess.CompletedProcess[str]:
    more = ("--daemonize", "--pidfile", guest.pidfile, "--timeout", "1", "--force")
    return guest.reconcile("--launch", "--source", guest.qmp, *more, *words)


def pid_of(guest: Running) -> int:
    until(lambda: guest.pidfile.exists() and guest.pidfile.read_text().strip())
    return int(guest.pidfile.read_text())


def untouched(guest: Running, pid: int, text: bytes) -> None:
    assert pid_of(guest) == pid and Path(f"/proc/{pid}").exists()
    assert guest.yaml.read_bytes() == text
    assert guest.verify()[0] == 0


#: (another device of the XML, options, what the error says)
KNOWN_BEFORE: list[tuple[str, list[str], str]] = [
    ("", ["--via", "devices"], "invalid choice: 'devices'"),
    ("", ["--via", "hints"], "without a hints file"),
    ("", ["--via", "libvirt"], "libvirt runs the guest, and decides that itself"),
    ("", ["--log", "/missing/folder/log"], "cannot write /missing/folder/log"),
    (SHEEPDOG, [], "cannot set up a disk behind 'sheepdog'"),
    ("<disk file>", [], "is not there on this host"),
    ("<disk qcow2>", [], "QEMU refused vdz: Image is not in qcow2 format"),
    ("<serial type='pipe'><source path='/missing/pipe'/></serial>", [], "/missing/pipe is not there"),
    ("<serial type='unix'><source mode='bind' path='/missing/x/s'/></serial>", [], "/missing/x/s is not there"),
    ("<interface type='bridge'><source bridge='nobridge0'/></interface>", [], "nobridge0 is not there"),
    (
        "<filesystem type='mount'><source dir='/missing/d'/><target dir='t'/></filesystem>",
        [],
        "/missing/d is not there",
    ),
    ("<rng model='virtio'><backend model='random'>/missing/random</backend></rng>", [], "/missing/random is not there"),
    (f"<serial type='unix'><source mode='bind' path='/tmp/{'s' * 120}'/></serial>", [], "longer than the 107 bytes"),
]


def test_what_can_be_known_is_known_before(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    pid, text = pid_of(guest), guest.yaml.read_bytes()
    (guest.folder / "garbage").write_bytes(b"no image" * 10000)
    for device, words, said in KNOWN_BEFORE:
        device = device.replace("<disk file>", disk(guest.folder / "missing"))
        device = device.replace("<disk qcow2>", disk(guest.folder / "garbage", "qcow2"))
        guest.write(NIC.format(n=1), NIC.format(n=2), device)
        done = again(guest, *words)
        assert done.returncode == 2 and said in done.stderr, done.stderr
        if device:
            assert re.search(rf"^{guest.xml}:\d+:\d+: error: ", done.stderr, re.M), done.stderr
        assert pid_of(guest) == pid and Path(f"/proc/{pid}").exists(), said
        assert guest.yaml.read_bytes() == text
    untouched(guest, pid, text)


def test_ports_are_looked_at_before(guest: Running) -> None:
    """Those that others have, and those on which nobody serves; nobody is connected to, and the guest's own are its own."""
    with socket.socket() as busy, socket.socket() as free:
        for one in (busy, free):
            one.bind(("127.0.0.1", 0))
        busy.listen()
        busy.setblocking(False)
        port, unused = busy.getsockname()[1], free.getsockname()[1]
        free.close()
        own = TCP.format(mode="bind", port=unused)
        guest.write(NIC.format(n=1), own)
        guest.launch()
        pid, text = pid_of(guest), guest.yaml.read_bytes()
        for device, said in (
            (TCP.format(mode="bind", port=port), f"port {port} is in use on this host"),
            (TCP.format(mode="connect", port=1), "nothing listens on port 1 of this host"),
            (NBD.format(port=1), "nothing listens on port 1 of this host"),
            (DISPLAY.format(port=port), f"port {port} is in use on this host"),
        ):
            guest.write(NIC.format(n=1), own, device)
            done = again(guest)
            assert done.returncode == 2 and said in done.stderr, done.stderr
            assert re.search(rf"^{guest.xml}:\d+:\d+: error: ", done.stderr, re.M), done.stderr
            untouched(guest, pid, text)
        with pytest.raises(BlockingIOError):
            busy.accept()
        guest.write(NIC.format(n=1), NIC.format(n=2), own)
        assert again(guest).returncode == 0


def test_another_guest_is_not_powered_down(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    pid, text = pid_of(guest), guest.yaml.read_bytes()
    guest.write(NIC.format(n=2))
    other = UUID.replace("aa<", "bb<")
    guest.xml.write_text(guest.xml.read_text().replace(UUID, other))
    mine = guest.yaml.with_name("other.yaml")
    done = guest.mdtool("reconcile", guest.xml, mine, "--launch", "--source", guest.qmp, "--force", "--timeout", "1")
    assert done.returncode == 2 and "another guest runs there" in done.stderr
    assert not mine.exists()
    untouched(guest, pid, text)


def test_a_block_job_is_not_lost(guest: Running) -> None:
    for name in ("a", "b"):  # more than one step of a job, which at 1 byte a second does not end
        os.truncate(guest.folder / name, 64 << 20)
    guest.write(guest.disk("a", "vda", "virtio"))
    guest.launch()
    pid, text = pid_of(guest), guest.yaml.read_bytes()
    guest.write(guest.disk("a", "vda", "virtio"), NIC.format(n=1))
    with guest.session() as session:
        named = session.execute("query-named-block-nodes")
        node = next(one["node-name"] for one in named if one["drv"] == "raw" and not one.get("backing_file"))
        target = {"driver": "file", "filename": str(guest.folder / "b"), "node-name": "copy"}
        session.execute("blockdev-add", target)
        job = {"job-id": "backup0", "device": node, "target": "copy", "sync": "full", "speed": 1}
        session.execute("blockdev-backup", job)
    done = again(guest)
    assert done.returncode == 2 and "a block job is under way: backup0 (backup" in done.stderr, done.stderr
    untouched(guest, pid, text)


def test_a_guest_whose_memory_is_elsewhere_is_left_alone(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    pid, text = pid_of(guest), guest.yaml.read_bytes()
    guest.write(NIC.format(n=1), NIC.format(n=2))
    path = guest.folder / "state"
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        with guest.session() as session:
            session.execute("migrate", {"uri": f"unix:{path}"})
            with listener.accept()[0] as stream:
                while stream.recv(1 << 20):
                    pass
            until(lambda: session.execute("query-status")["status"] == "postmigrate")
    done = again(guest)
    assert done.returncode == 2 and "postmigrate" in done.stderr, done.stderr
    untouched(guest, pid, text)


VNC = "<graphics type='vnc' passwd='sesame'><listen type='socket' socket='{socket}'/></graphics>"


@pytest.mark.parametrize("via", DIRECT)
def test_what_does_not_start_is_started_again_as_it_was(via: str, taken: int, guest: Running) -> None:
    vnc = VNC.format(socket=guest.folder / "vnc")
    guest.write(NIC.format(n=1), CHANNEL.format(n=1), guest.disk("a", "vda", "virtio"), vnc)
    start = ("--launch", "--daemonize", "--qmp", guest.qmp, "--pidfile", guest.pidfile, "--via", via)
    done = guest.reconcile(*start)
    assert done.returncode == 0, done.stderr
    pid, text = pid_of(guest), guest.yaml.read_bytes()
    guest.write(NIC.format(n=2), guest.disk("a", "vda", "virtio"), PORT.format(port=taken))
    done = again(guest, "--via", via)
    assert done.returncode == 2, done.stderr
    assert "something else listens there" in done.stderr and "runs again as it was" in done.stderr
    assert guest.yaml.read_bytes() == text
    assert pid_of(guest) != pid
    assert guest.verify()[0] == 0
    assert "sesame" not in Path(f"/proc/{pid_of(guest)}/cmdline").read_text() + done.stderr + done.stdout
    with guest.session() as session:
        assert session.execute("query-status")["status"] == "running"


def test_what_was_plugged_since_is_there_again(taken: int, guest: Running) -> None:
    guest.write(guest.disk("a", "vda", "virtio"))
    guest.launch()
    pid_of(guest)
    with guest.session() as session:
        session.execute("device_add", {"driver": "usb-kbd", "id": "plugged0", "bus": "usb.0", "port": "3"})
        before = session.execute("qom-list", {"path": "/machine/peripheral"})
    guest.write(guest.disk("a", "vda", "virtio"), PORT.format(port=taken))
    done = again(guest)
    assert done.returncode == 2 and "runs again as it was" in done.stderr, done.stderr
    with guest.session() as session:
        names = {row["name"] for row in session.execute("qom-list", {"path": "/machine/peripheral"})}
    assert "plugged0" in names and names == {row["name"] for row in before}


def test_a_description_that_cannot_be_written_ends_nothing(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    pid, text = pid_of(guest), guest.yaml.read_bytes()
    os.link(guest.yaml, guest.folder / "second-name")
    guest.write(NIC.format(n=1), NIC.format(n=2))
    done = again(guest)
    assert done.returncode == 2 and "2 names" in done.stderr
    untouched(guest, pid, text)


def test_what_starts_runs_and_is_described(guest: Running) -> None:
    guest.write(NIC.format(n=1))
    guest.launch()
    pid, text = pid_of(guest), guest.yaml.read_bytes()
    guest.write(NIC.format(n=1), NIC.format(n=2))
    done = again(guest)
    assert done.returncode == 0, done.stderr
    assert pid_of(guest) != pid and guest.yaml.read_bytes() != text
    assert guest.verify()[0] == 0


# --- libvirt -------------------------------------------------------------------------------------------------------


def launched_by(guest: Running) -> tuple[str, bytes]:
    done = guest.reconcile("--launch", "--via", "libvirt", "--connect", URI)
    assert done.returncode == 0, done.stderr
    return guest.virsh("domid", guest.name).stdout, guest.yaml.read_bytes()


def test_libvirt_starts_again_what_ran(taken: int, by_libvirt: Running) -> None:
    guest = by_libvirt
    guest.write(NIC.format(n=1))
    first, text = launched_by(guest)
    kept = guest.virsh("dumpxml", "--inactive", guest.name).stdout
    guest.write(NIC.format(n=2), PORT.format(port=taken))
    source = f"libvirt:{guest.name}"
    done = guest.reconcile("--launch", "--source", source, "--connect", URI, "--timeout", "1", "--force")
    assert done.returncode == 2 and "runs again as it was" in done.stderr, done.stderr
    assert guest.virsh("domstate", guest.name).stdout.strip() == "running"
    assert guest.virsh("domid", guest.name).stdout != first
    assert guest.virsh("dumpxml", "--inactive", guest.name).stdout == kept
    assert guest.yaml.read_bytes() == text
    assert guest.mdtool("verify", guest.yaml, source).returncode == 0


@pytest.mark.parametrize("device", ["missing", "garbage", "network"])
def test_libvirts_guest_is_not_touched_for_what_it_would_refuse(device: str, by_libvirt: Running) -> None:
    guest = by_libvirt
    guest.write(NIC.format(n=1))
    first, text = launched_by(guest)
    (guest.folder / "garbage").write_bytes(b"no image" * 10000)
    more = {
        "missing": disk(guest.folder / "missing"),
        "garbage": disk(guest.folder / "garbage", "qcow2"),
        "network": "<interface type='network'><source network='no-such-network'/><model type='virtio'/></interface>",
    }[device]
    guest.write(NIC.format(n=1), more)
    done = guest.reconcile("--launch", "--source", f"libvirt:{guest.name}", "--connect", URI, "--timeout", "1", "--force")
    assert done.returncode == 2 and re.search(rf"^{guest.xml}:\d+:\d+: error: ", done.stderr, re.M), done.stderr
    assert guest.virsh("domid", guest.name).stdout == first and guest.yaml.read_bytes() == text


def test_a_managed_save_is_refused_and_kept(by_libvirt: Running) -> None:
    guest = by_libvirt
    guest.write(NIC.format(n=1))
    launched_by(guest)
    guest.virsh("managedsave", guest.name)
    kept = guest.virsh("dumpxml", "--inactive", guest.name).stdout
    guest.write(NIC.format(n=1), NIC.format(n=2))
    assert guest.reconcile().returncode == 0
    apply = ["apply", "--connect", URI, "--source", f"libvirt:{guest.name}", "--yes"]
    launch = ["launch", "--connect", URI, "--via"]
    for words in ([*launch, "libvirt"], [*launch, "file"], apply, [*apply, "--restart"]):
        done = guest.mdtool(*words, guest.xml, guest.yaml)
        assert done.returncode == 2 and "keeps the saved memory" in done.stderr, done.stderr
        assert re.search(r"Managed save:\s+yes", guest.virsh("dominfo", guest.name).stdout)
        assert guest.virsh("dumpxml", "--inactive", guest.name).stdout == kept
    guest.virsh("managedsave-remove", guest.name)


@pytest.mark.parametrize(("theirs", "refused"), [(UUID, True), (UUID.replace("aa<", "bb<"), False)])
def test_a_saved_image_of_this_guest_stops_a_launch(
    theirs: str, refused: bool, guest: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(guest.folder))
    saved = guest.folder / "libvirt/qemu/save"
    saved.mkdir(parents=True)
    (saved / "live.save").write_bytes(b"LibvirtQemudSave\x02\0\0\0<domain>" + theirs.encode() + b"</domain>\0")
    guest.write(NIC.format(n=1))
    read = guest_from_file(guest.xml)
    if refused:
        with pytest.raises(ConflictError, match="keeps the saved memory of guest 'live'"):
            check_libvirt(read)
    else:
        check_libvirt(read)
