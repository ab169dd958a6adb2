"""QEMU as a process: started, refused, dead, hanging, killed; and nothing left behind in any case."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mdtool.errors import ConflictError, Position, QemuError
from mdtool.launch.backends.base import Process
from mdtool.launch.signals import pass_signals_on, signals_end_it
from mdtool.qemu.process import QemuProcess
from mdtool.qemu.refusals import error_from_words
from mdtool.qemu.runtime import GuestDirectory
from tests.support_waiting import PATIENCE, alive, children, gone, until

QEMU = "qemu-system-x86_64"
PLAIN = [QEMU, "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc-q35-7.2,accel=tcg", "-m", "32"]


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of the test's own, which every test must leave empty."""
    base = Path(tempfile.mkdtemp(prefix="md"))  # short: sockets go in there
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    before = children()
    yield base
    assert [path for path in base.rglob("*") if path.name != "mdtool"] == []
    assert children() <= before  # the keeper of the tests' libvirtd is one of them
    shutil.rmtree(base)


def script(path: Path, body: str) -> str:
    path.write_text("#!/bin/sh\n" + textwrap.dedent(body))
    path.chmod(0o755)
    return str(path)


def test_it_starts_paused_runs_and_ends() -> None:
    with QemuProcess(PLAIN) as qemu:
        assert qemu.session.execute("query-status")["status"] == "prelaunch"
        qemu.cont()
        assert qemu.session.execute("query-status")["running"] is True
        pid = qemu.pid
    assert not alive(pid)


def test_the_exit_status_is_qemus() -> None:
    with QemuProcess(PLAIN) as qemu:
        qemu.execute("quit")
        assert qemu.wait(PATIENCE) == 0
    with QemuProcess(PLAIN) as qemu:
        qemu.send_signal(signal.SIGKILL)
        assert qemu.wait(PATIENCE) == 137


def test_a_second_monitor_is_the_users(tmp_path: Path) -> None:
    from mdtool.qemu.session import session_from_source

    path = tmp_path / "mine.qmp"
    with (
        QemuProcess([*PLAIN, "-qmp", f"unix:{path},server=on,wait=off"]) as qemu,
        session_from_source(str(path)) as mine,
    ):
        assert mine.execute("query-status") == qemu.session.execute("query-status")


def test_qemu_is_missing() -> None:
    with pytest.raises(QemuError, match="no such QEMU: qemu-system-none"), QemuProcess(["qemu-system-none"]):
        pass


def test_a_wrong_binary_that_ends_at_once() -> None:
    with pytest.raises(QemuError, match="exit status 0 and said nothing"), QemuProcess(["true"]):
        pass


def test_qemu_that_dies_says_why(tmp_path: Path) -> None:
    dies = script(tmp_path / "qemu", "echo 'qemu: warning: something else' >&2; echo 'qemu: the sky fell' >&2; exit 3")
    with pytest.raises(QemuError) as caught, QemuProcess([dies]):
        pass
    assert str(caught.value) == "error: QEMU refused to start: the sky fell [qemu-refuses]"


def test_qemu_that_hangs_is_ended_in_the_stated_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not end by itself, and a signal to end it does not hear."""
    monkeypatch.setattr("mdtool.qemu.process.END_SECONDS", 0.5)
    hangs = script(
        tmp_path / "qemu",
        f"echo $$ > {tmp_path}/pid; trap '' TERM; echo starting >&2; : > {tmp_path}/said; while :; do sleep 1; done",
    )
    with pytest.raises(QemuError, match=r"did not greet on its monitor within 2 s and was ended; it said: starting"):
        QemuProcess([hangs], timeout=2, meanwhile=lambda: until((tmp_path / "said").exists)).__enter__()
    assert not alive(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize("form", ["json", "text", "config"])
def test_a_refused_device_is_told_at_its_line(form: str, tmp_path: Path) -> None:
    at = Position("guest.xml", 31, 5)
    config = '[device "net0"]\n  driver = "e1000"\n\n[device "net1"]\n  driver = "e1000"\n  bus = "nowhere"\n'
    words = {
        "json": ["-device", '{"driver":"e1000","id":"net1","bus":"nowhere"}'],
        "text": ["-device", "e1000,id=net1,bus=nowhere"],
        "config": ["-readconfig", str(tmp_path / "qemu.cfg")],
    }[form]
    (tmp_path / "qemu.cfg").write_text(config)
    qemu = QemuProcess([*PLAIN, *words], positions={"net1": at}, config={str(tmp_path / "qemu.cfg"): config})
    with pytest.raises(QemuError) as caught, qemu:
        pass
    assert str(caught.value) == "guest.xml:31:5: error: QEMU refused net1: Bus 'nowhere' not found [qemu-refuses]"


def test_a_refused_device_add_is_told_at_its_line() -> None:
    with (
        QemuProcess(PLAIN, positions={"rng0": Position("guest.xml", 7, 63)}) as qemu,
        pytest.raises(QemuError) as caught,
    ):
        qemu.execute("device_add", driver="virtio-rng-pci", id="rng0", bus="pcie.0")
    expected = "guest.xml:7:63: error: QEMU refused device_add virtio-rng-pci: Bus 'pcie.0' does not support hotplugging"
    assert str(caught.value).startswith(expected)


def test_a_locked_disk_names_the_remedy(tmp_path: Path) -> None:
    disk = tmp_path / "disk.img"
    disk.write_bytes(bytes(1 << 20))
    drive = ["-blockdev", f'{{"driver":"file","filename":"{disk}","node-name":"b0"}}']
    use = ["-device", "virtio-blk-pci,drive=b0,id=virtio-disk0"]
    at = Position("guest.xml", 12, 5)
    with QemuProcess([*PLAIN, *drive, *use]), pytest.raises(QemuError, match="another QEMU uses this disk") as caught:
        QemuProcess([*PLAIN, *drive, *use], positions={"virtio-disk0": at, "b0": at}).__enter__()
    assert caught.value.at == at


def test_a_port_in_use_names_the_remedy(tmp_path: Path) -> None:
    import socket

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        serial = ["-chardev", f"socket,id=c0,host=127.0.0.1,port={taken.getsockname()[1]},server=on,wait=off"]
        with pytest.raises(QemuError, match="something else listens there"):
            QemuProcess([*PLAIN, *serial]).__enter__()


def test_a_full_disk_is_told(tmp_path: Path) -> None:
    with pytest.raises(QemuError, match="cannot write the log"):
        QemuProcess(PLAIN, log=tmp_path / "missing" / "qemu.log").__enter__()


KILLED = """
import sys
from mdtool.qemu.process import QemuProcess
from mdtool.qemu.runtime import GuestDirectory
with GuestDirectory("some-uuid", "web01") as place:
    with QemuProcess({argv!r}, directory=place.path, pass_fds=[place.fd]) as qemu:
        place.holds(qemu.pid)
        qemu.cont()
        print(qemu.pid, flush=True)
        sys.stdin.read()
"""


def test_no_orphan_after_kill_9_and_the_next_start_cleans_up(runtime: Path) -> None:
    child = subprocess.Popen(
        [sys.executable, "-c", KILLED.format(argv=PLAIN)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    assert alive(pid)
    child.kill()
    child.wait()
    child.stdout.close()
    assert gone(pid)
    assert (runtime / "mdtool" / "some-uuid").exists()  # a killed process cleans nothing up ...
    with GuestDirectory("some-uuid", "web01") as place:  # ... the next one does
        assert list(place.path.iterdir()) == []


def test_a_second_launch_of_the_same_guest_is_refused() -> None:
    with GuestDirectory("some-uuid", "web01") as place, QemuProcess(PLAIN, pass_fds=[place.fd]) as qemu:
        place.holds(qemu.pid)
        with pytest.raises(ConflictError, match=f"guest 'web01' already runs, process {qemu.pid}"):
            GuestDirectory("some-uuid", "web01").__enter__()
        with GuestDirectory("another-uuid", "web02"):
            pass
    with GuestDirectory("some-uuid", "web01"):
        pass


SURVIVED = """
import subprocess, sys
from mdtool.qemu.runtime import GuestDirectory
with GuestDirectory("some-uuid", "web01") as place:
    print(subprocess.Popen(["sleep", "infinity"], pass_fds=[place.fd], stdout=subprocess.DEVNULL).pid, flush=True)
    sys.stdin.read()
"""


def test_the_lock_holds_while_qemu_lives_though_mdtool_does_not() -> None:
    child = subprocess.Popen([sys.executable, "-c", SURVIVED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert child.stdout is not None
    pid = int(child.stdout.readline())
    child.kill()
    child.wait()
    child.stdout.close()
    try:
        with pytest.raises(ConflictError, match="already runs"):
            GuestDirectory("some-uuid", "web01").__enter__()
    finally:
        os.kill(pid, signal.SIGKILL)
    assert gone(pid)
    with GuestDirectory("some-uuid", "web01"):
        pass


def test_helpers_start_before_and_end_after(tmp_path: Path) -> None:
    ready = tmp_path / "helper.sock"
    body = f"echo $$ > {tmp_path}/pid; sleep 0.1; touch {ready}; while :; do sleep 1; done"
    helper = Process((script(tmp_path / "helper", body),), ready)
    with QemuProcess(PLAIN, helpers=[helper]):
        pid = int((tmp_path / "pid").read_text())
        assert alive(pid)
    assert not alive(pid)


def test_a_helper_that_ends_at_once_is_told(tmp_path: Path) -> None:
    helper = Process((script(tmp_path / "helper", "echo 'no TPM here' >&2; exit 1"),), tmp_path / "never")
    with pytest.raises(QemuError, match="ended at once: no TPM here"):
        QemuProcess(PLAIN, helpers=[helper]).__enter__()


def test_timestamps_and_chatter_are_no_errors() -> None:
    said = """char device redirected to /dev/pts/0 (label charserial0)
2026-11-22T22:15:21.090622Z qemu-system-x86_64: -device {"driver": "e1000", "id": "net0"}: no room"""
    assert error_from_words(said, {}).what == "QEMU refused net0: no room"


def test_what_the_host_lacks_for_sound_is_no_error() -> None:
    said = """qemu: module audio-audio-pa not found, do you want to install qemu-system-gui package?
ALSA lib confmisc.c:855:(parse_card) cannot find card '0'
alsa: Could not initialize DAC
audio: Failed to create voice `dac'
qemu-system-x86_64: -device x: 'x' is no device"""
    assert error_from_words(said, {}).what == "QEMU refused to start: -device x: 'x' is no device"


def test_warnings_are_no_errors() -> None:
    said = "qemu-system-x86_64: warning: TCG lacks it\nqemu-system-x86_64: -device x: 'x' is no device"
    assert error_from_words(said, {}).what == "QEMU refused to start: -device x: 'x' is no device"


def test_a_signal_waits_until_what_is_started_can_be_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It comes when QEMU is there and nobody holds it yet, to whichever thread; and QEMU is deaf to its parent's death."""
    real = subprocess.Popen

    def signalled(*words: Any, **settings: Any) -> subprocess.Popen[bytes]:
        process = real(*words, **settings)
        until((tmp_path / "pid").exists, of=process)
        other = threading.Thread(target=lambda: signal.pthread_kill(threading.get_ident(), signal.SIGTERM))
        other.start()
        other.join()
        return process

    hangs = script(tmp_path / "qemu", f"echo $$ > {tmp_path}/new; mv {tmp_path}/new {tmp_path}/pid; kill -STOP $$")
    monkeypatch.setattr("mdtool.qemu.process.subprocess.Popen", signalled)
    with pytest.raises(SystemExit) as ended, signals_end_it(), QemuProcess([hangs], timeout=PATIENCE):
        pass
    assert ended.value.code == 128 + signal.SIGTERM
    assert gone(int((tmp_path / "pid").read_text()))


@pytest.fixture
def handlers() -> Iterator[None]:
    numbers = (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)
    before = [signal.getsignal(number) for number in numbers]
    yield
    for number, handler in zip(numbers, before, strict=True):
        signal.signal(number, handler)


def test_a_ctrl_c_while_qemu_is_asked_waits_for_the_answer(handlers: None) -> None:
    """It asks for a power-down, through the monitor that answers just then, and does not end QEMU."""
    said: list[str] = []
    with QemuProcess(PLAIN) as qemu:
        qemu.cont()
        pass_signals_on(qemu, paused=False, say=said.append)
        signal.raise_signal(signal.SIGINT)
        assert not said and qemu.session.execute("query-status")["running"] is True
        assert not qemu.ends_within(0)
        assert said == ["asked the guest to power down; ctrl-C once more ends QEMU"]
        assert "POWERDOWN" in {event["event"] for event in qemu.session.events(timeout=PATIENCE)}
        signal.raise_signal(signal.SIGINT)
        assert qemu.ends_within(PATIENCE) and qemu.wait() == 0


def test_an_interrupt_during_the_fork_is_not_lost() -> None:
    """Python swallows it in what it calls after a fork: there the terminal would wait for a launch that nobody wants."""
    script = """
import os, signal
os.register_at_fork(after_in_parent=lambda: os.kill(os.getpid(), signal.SIGINT))
from mdtool.qemu.background import daemonized
try:
    daemonized(lambda ready: signal.pause())
except KeyboardInterrupt:
    print("interrupted")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=PATIENCE)
    assert done.stdout == "interrupted\n"
