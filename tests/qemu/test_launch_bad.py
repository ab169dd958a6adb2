"""What goes wrong at a launch: a clear error at the element that is to blame, exit 2, and nothing left behind.

That nothing is left is the fixture ``runtime``'s to check, after every test: no process, no socket, no file.
"""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.qemu.test_launch_command import Launch, command, runtime
from tests.support import mdtool as in_process
from tests.support import run_mdtool
from tests.support_waiting import PATIENCE, alive, gone, until

__all__ = ["runtime"]

ROOT = os.geteuid() == 0
NIC = "<interface type='{}'><mac address='52:54:00:00:00:01'/>{}</interface>"


def made(name: str, *devices: str, os: str = "", disk: str | Path = "disk") -> tuple[str, str]:
    """A guest XML of a disk and, from line 12 on, ``devices``; and its description."""
    Path("disk").write_bytes(bytes(1 << 20))
    number = sum(map(ord, name))
    Path(f"{name}.xml").write_text(
        f"""<domain type='qemu'>
          <name>{name}</name><uuid>11111111-2222-3333-4444-{number:012d}</uuid>
          <memory unit='MiB'>64</memory>
          <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type>{os}</os>
          <features><acpi/></features>
          <devices>
            <emulator>/usr/bin/qemu-system-x86_64</emulator>
            <controller type='usb' model='none'/><memballoon model='none'/>
            <disk type='file' device='disk'><driver name='qemu' type='raw'/>
              <source file='{Path(disk).absolute()}'/><target dev='vda' bus='virtio'/>
            </disk>
            {" ".join(devices)}
          </devices>
        </domain>"""
    )
    assert in_process("reconcile", f"{name}.xml", f"{name}.yaml") == 0
    return f"{name}.xml", f"{name}.yaml"


def refused(*words: str | Path) -> str:
    """What a launch says that ends with 2, and at once: without a traceback, and within the time that it was given."""
    done = run_mdtool("launch", *words)
    assert done.returncode == 2 and "Traceback" not in done.stderr, done.stderr
    assert done.stdout == ""
    return done.stderr


@pytest.mark.parametrize(
    ("binary", "said"),
    [
        ("/bin/true", "/bin/true does not answer as QEMU does"),
        ("/bin/cat", "/bin/cat does not answer as QEMU does: "),
        ("/etc/passwd", "QEMU cannot be run: /etc/passwd: permission denied"),
        ("/", "QEMU cannot be run: /: permission denied"),
        ("no/such/qemu", "no such QEMU: no/such/qemu"),
        ("qemu-system-aarch64", "qemu-system-aarch64 is QEMU for aarch64, and the guest is an x86_64 one"),
    ],
)
def test_the_wrong_binary(binary: str, said: str) -> None:
    assert said in refused(*made("wrong"), "--qemu", binary)


#: answers on the monitor that it inherited, in other words than QMP's
GARBAGE = """
import re, signal, socket, sys
monitor = socket.socket(fileno=int(re.search(r"id=mdtool-qmp,fd=(\\d+)", " ".join(sys.argv))[1]))
client = monitor.accept()[0]
client.sendall(b"hello, I am no QEMU\\r\\n")
signal.pause()
"""
#: what becomes of a program that tells as QEMU what it is, and is started as a guest's: (its end, words)
LATER = {
    "dies": ("echo 'qemu: the sky fell' >&2; exit 3", "QEMU refused to start: the sky fell"),
    "is killed": ("kill -KILL $$", "QEMU ended at start with signal SIGKILL and said nothing"),
    "hangs": ("kill -STOP $$", "did not greet on its monitor within 2 s and was ended"),
    "is silent": ("exec sleep infinity", "did not greet on its monitor within 2 s and was ended"),
    "says what is no QMP": (f"exec {sys.executable} -c '{GARBAGE}' \"$@\"", "what answers there is not QMP"),
}


@pytest.mark.parametrize("end", LATER)
def test_a_qemu_that(end: str, tmp_path: Path) -> None:
    body, said = LATER[end]
    binary = tmp_path / "qemu"
    binary.write_text(
        f'#!/bin/sh\ncase "$*" in *stdio|--version) exec qemu-system-x86_64 "$@" ;; esac\necho $$ > {tmp_path}/pid\n{body}\n'
    )
    binary.chmod(0o755)
    guest = made("ends")
    assert said in refused(*guest, "--qemu", binary, "--timeout", "2")
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_while_qemu_hangs(number: signal.Signals, tmp_path: Path) -> None:
    """Nobody has to wait for the end of --timeout."""
    binary = tmp_path / "qemu"
    body = f"echo $$ > {tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; kill -STOP $$"
    binary.write_text(f'#!/bin/sh\ncase "$*" in *stdio|--version) exec qemu-system-x86_64 "$@" ;; esac\n{body}\n')
    binary.chmod(0o755)
    process = subprocess.Popen(
        command("launch", *made("hangs"), "--qemu", binary, "--timeout", str(2 * PATIENCE)), stderr=subprocess.PIPE
    )
    try:
        until((tmp_path / "pid").exists, of=process)
        process.send_signal(number)
        assert process.wait(PATIENCE) == 128 + number
    finally:
        process.kill()
        said = process.communicate()[1]
    assert said == b""
    assert gone(int((tmp_path / "pid").read_text()))


@contextmanager
def taken() -> Iterator[int]:
    """A TCP port on which somebody listens, of those that a VNC display can have."""
    with socket.socket() as listener:
        for port in range(5950, 6900):
            try:
                listener.bind(("127.0.0.1", port))
                break
            except OSError:
                continue
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize(
    "element",
    [
        "<graphics type='vnc' port='{}' listen='127.0.0.1'/>",
        "<graphics type='spice' port='{}' listen='127.0.0.1'/>",
        "<serial type='tcp'><source mode='bind' host='127.0.0.1' service='{}'/><protocol type='raw'/></serial>",
    ],
    ids=["vnc", "spice", "serial"],
)
@pytest.mark.parametrize("via", ["file", "device"])
def test_a_port_in_use(element: str, via: str) -> None:
    with taken() as port:
        said = refused(*made("ports", element.format(port)), "--via", via)
    assert said.startswith("ports.xml:12:13: error: QEMU refused"), said
    assert "something else listens there" in said


def test_a_disk_that_another_guest_writes_to() -> None:
    first, second = made("first"), made("second")
    launch = Launch(*first, "--paused")
    said = refused(*second)
    launch.process.terminate()
    assert launch.end() == 0, launch.said
    assert re.match(r"second.xml:9:13: error: QEMU refused [\w-]+: Failed to get", said), said
    assert "another QEMU uses this disk" in said


@pytest.mark.parametrize(
    ("nic", "said"),
    [
        (NIC.format("bridge", "<source bridge='nobridge0'/>"), "/etc/qemu/bridge.conf"),
        (NIC.format("user", "<portForward proto='tcp'><range start='9'/></portForward>"), "<portForward> needs passt"),
        (NIC.format("network", "<source network='mine'/>"), "libvirt's network 'mine'"),
    ],
    ids=["bridge", "ports", "network"],
)
def test_a_network_that_cannot_be(nic: str, said: str) -> None:
    error = refused(*made("network", nic))
    assert re.match(r"network.xml:12:\d+: error: ", error) and said in error, error


@pytest.mark.skipif(not ROOT, reason="only root can run QEMU as somebody else")
@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="there are no taps here")
@pytest.mark.parametrize("what", ["disk", "tap"])
def test_what_the_user_may_not(what: str, runtime: Path) -> None:
    runtime.chmod(0o711)
    disk = runtime / "disk"  # below the test's own folder nobody else comes
    disk.touch(0o600 if what == "disk" else 0o666)
    disk.chmod(0o600 if what == "disk" else 0o666)
    os.truncate(disk, 1 << 20)
    tap = NIC.format("ethernet", "<target dev='mdtooltap' managed='no'/>")
    said = refused(*made("rights", *([tap] if what == "tap" else []), disk=disk), "--user", "nobody")
    disk.unlink()
    assert said.startswith("rights.xml:9:13" if what == "disk" else "rights.xml:12:13"), said
    assert {"disk": "Permission denied", "tap": "a tap needs root"}[what] in said


def test_a_user_that_is_not_there() -> None:
    assert "--user nosuchuser: there is no such user" in refused(*made("user"), "--user", "nosuchuser")


@pytest.fixture
def full() -> Iterator[Path]:
    """A folder on a disk that is full."""
    folder = Path(tempfile.mkdtemp(prefix="md"))
    words = ["mount", "-t", "tmpfs", "-o", "size=4k,nr_inodes=20", "none", str(folder)]
    if not ROOT or subprocess.run(words, capture_output=True, check=False).returncode:
        folder.rmdir()
        pytest.skip("a small file system to fill up needs root, and a container that may mount")
    (folder / "x").write_bytes(bytes(4096))
    yield folder
    subprocess.run(["umount", str(folder)], check=True)
    folder.rmdir()


def left_in(folder: Path) -> set[str]:
    return {path.name for path in folder.rglob("*")} - {"x", "mdtool"}


@pytest.mark.parametrize("via", ["file", "device"])
def test_no_room_in_the_runtime_directory(via: str, full: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(full))
    said = refused(*made("room"), "--via", via)
    assert f"cannot write {full}/" in said and "No space left on device" in said and "XDG_RUNTIME_DIR" in said
    assert left_in(full) == set()


def test_no_room_for_the_log(full: Path) -> None:
    """Words that could not be written are missed; that they could not is said."""
    guest = made("room")
    Path("disk").unlink()
    assert f"what it said was lost: {full} is full" in refused(*guest, "--log", full / "log")


def test_no_room_for_the_pidfile(full: Path) -> None:
    assert f"cannot write {full}/pid: No space left on device" in refused(*made("room"), "--pidfile", full / "pid")
    assert left_in(full) == set()


def test_no_room_for_uefi_variables(full: Path) -> None:
    """Half of them would be the guest's at the next launch."""
    firmware = Path("/usr/share/OVMF")
    if not (firmware / "OVMF_CODE_4M.fd").exists():
        pytest.skip("OVMF is missing: apt-get install ovmf")
    loader = f"<loader readonly='yes' type='pflash'>{firmware}/OVMF_CODE_4M.fd</loader>"
    loader += f"<nvram template='{firmware}/OVMF_VARS_4M.fd'>{full}/vars.fd</nvram>"
    assert f"cannot make {full}/vars.fd" in refused(*made("room", os=loader))
    assert left_in(full) == set()


def test_a_monitor_where_none_can_be(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "qmp"
    said = refused(*made("monitor"), "--qmp", str(path))
    assert f"cannot write {path}: the folder {path.parent} is not there" in said
