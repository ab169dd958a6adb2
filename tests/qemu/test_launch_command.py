"""``mdtool launch`` and ``mdtool verify`` from the command line, on a real QEMU."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import ClassVar

import pytest

from mdtool.errors import MonitorError
from mdtool.launch.ways import DIRECT
from mdtool.qemu.session import session_from_source
from tests.conftest import lacking
from tests.support import run_mdtool
from tests.support_waiting import PATIENCE, alive, child_called, gone, until

SAMPLES = Path(__file__).parents[2] / "samples"
#: a q35 and a pc guest
GUESTS = {name: SAMPLES / name / "guest.xml" for name in ("web01", "legacy")}


@pytest.fixture(autouse=True)
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime directory of the test's own, which every test must leave empty, with no process in it."""
    base = Path(tempfile.mkdtemp(prefix="md"))  # short: sockets go in there
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(base))
    monkeypatch.setenv("PYTHONPATH", str(SAMPLES.parent))  # a checkout runs without being installed
    monkeypatch.chdir(tmp_path)
    yield base
    Launch.end_all()
    until(lambda: not _left_in(base), told=lambda: _left_in(base))
    shutil.rmtree(base)


def _left_in(base: Path) -> list[str]:
    """Not by rglob, which stumbles over a folder that goes away under it."""
    inside = (os.path.join(folder, name) for folder, folders, files in os.walk(base) for name in (*folders, *files))
    return [path for path in inside if not path.endswith("/mdtool")]


def command(*words: str | Path) -> list[str]:
    return [sys.executable, "-m", "mdtool", *map(str, words)]


@pytest.fixture
def guest(tmp_path: Path) -> Path:
    """The q35 sample with a disk that exists, a console that needs no terminal, and its description."""
    disk = tmp_path / "disk.qcow2"
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True)
    text = re.sub(r"file='[^']*\.qcow2'", f"file='{disk}'", GUESTS["web01"].read_text())
    text = re.sub(r"<graphics[^>]*/>", "", text).replace("<serial type='pty'/>", "<serial type='null'/>")
    path = tmp_path / "web01.xml"
    path.write_text(text)
    done = run_mdtool("reconcile", path, tmp_path / "web01.yaml")
    assert done.returncode == 0, done.stderr
    return path


@pytest.mark.parametrize("via", DIRECT)
@pytest.mark.parametrize("name", sorted(GUESTS))
def test_a_rehearsal_is_as_described(name: str, via: str, tmp_path: Path) -> None:
    assert run_mdtool("reconcile", GUESTS[name], "g.yaml").returncode == 0
    done = run_mdtool("launch", GUESTS[name], "g.yaml", "--via", via, "--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "0 differences that a guest sees" in done.stdout


@pytest.mark.parametrize("path", [GUESTS["web01"], Path(__file__).parent / "ways" / "q35.xml"], ids=["web01", "dimm"])
def test_a_full_description_is_compared_built_ins_and_all(path: Path) -> None:
    assert run_mdtool("dump", path, "-o", "g.yaml").returncode == 0
    done = run_mdtool("launch", path, "g.yaml", "--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "built-ins" not in done.stdout


def test_an_address_changed_against_the_running_machine_is_found(tmp_path: Path) -> None:
    assert run_mdtool("dump", GUESTS["web01"], "-o", "g.yaml").returncode == 0
    text = Path("g.yaml").read_text()
    there = re.search(r"- id: pci\.12\n +driver: pcie-root-port\n +address: '(03\.\d)'", text)
    assert there is not None
    Path("moved.yaml").write_text(text.replace(there[0], there[0].replace(there[1], "05.0")))
    done = run_mdtool("launch", GUESTS["web01"], "moved.yaml", "--rehearse")
    assert done.returncode == 0, done.stderr  # the description rules: the machine is made as it says
    seen = run_mdtool("verify", "g.yaml", GUESTS["web01"])
    assert seen.returncode == 0, seen.stdout
    with running("moved.yaml") as path:
        seen = run_mdtool("verify", "g.yaml", path)
    assert seen.returncode == 1
    assert f"pci.12: moved: described at pcie.0 {there[1]}, is at pcie.0 05.0 [address]" in seen.stdout


def running(description: str):  # type: ignore[no-untyped-def]
    """A rehearsal of web01 with a second monitor; gives the monitor's path."""
    from contextlib import contextmanager

    from mdtool.launch.rehearse import prepared_rehearsal, rehearsal
    from mdtool.machine.document import tree_from_file

    @contextmanager
    def block() -> Iterator[Path]:
        path = Path("second.qmp").absolute()
        prepared = prepared_rehearsal(GUESTS["web01"], tree_from_file(description))
        with rehearsal(prepared, more=["-qmp", f"unix:{path},server=on,wait=off"]):
            yield path

    return block()


def test_verify_speaks_json(guest: Path) -> None:
    with running("web01.yaml") as path:
        done = run_mdtool("verify", "web01.yaml", path, "--json")
    data = json.loads(done.stdout)
    assert done.returncode == 0 and data["differences"] == [] and data["compared"]["nodes"] > 20


SECRET = "Sesam-47"


def with_password(guest: Path) -> None:
    vnc = f"<graphics type='vnc' socket='{Path('vnc').absolute()}' passwd='{SECRET}'/>"
    guest.write_text(guest.read_text().replace("    <!-- backup -->", f"    {vnc}\n    <!-- backup -->"))


def is_running() -> bool:
    with suppress(MonitorError), session_from_source("shell.qmp") as session:  # the file is there before anyone listens
        return bool(session.execute("query-status")["running"])
    return False


@pytest.mark.parametrize("via", [*DIRECT, "hints"])
def test_print_is_what_runs(via: str, guest: Path, runtime: Path) -> None:
    """What --print says, run by a shell, is the described machine, and it runs: with helpers, and secrets in files."""
    with_password(guest)
    state = with_tpm(guest)
    words: list[str] = ["web01.yaml"]
    if via == "hints":
        Path("web01.yaml").unlink()  # what hints do not know is as libvirt has it with this QEMU
        assert run_mdtool("reconcile", guest, "web01.yaml").returncode == 0
        assert run_mdtool("hints", "export", "web01.yaml", "-o", "hints").returncode == 0
        words = ["--hints", "hints"]
    done = run_mdtool("launch", guest, *words, "--print", "--via", via)
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout and "# vnc-password: a file of yours" in done.stdout
    assert ("-readconfig /dev/stdin" in done.stdout) == (via in ("file", "hints"))
    Path("vnc-password").write_text(SECRET)
    script = done.stdout.replace(" -no-user-config", " -no-user-config -qmp unix:shell.qmp,server=on,wait=off")
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                               stderr=subprocess.PIPE, text=True, start_new_session=True)  # fmt: skip
    try:
        until(is_running, of=process)  # the way by the monitor adds devices before it lets the guest run
        verified = run_mdtool("verify", "web01.yaml", "shell.qmp")
        with session_from_source("shell.qmp") as session:
            session.execute("quit")
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        said = process.communicate(timeout=PATIENCE)[1]
    assert verified.returncode == 0, verified.stdout + verified.stderr + said
    shutil.rmtree(state)
    shutil.rmtree(runtime / "mdtool" / "web01")  # where the script's swtpm listened


@pytest.mark.parametrize("via", DIRECT)
def test_a_secret_shows_nowhere(via: str, guest: Path, runtime: Path) -> None:
    with_password(guest)
    launch = Launch(guest, "web01.yaml", "--via", via, "--log", "log")
    places = [Path(f"/proc/{pid}/{what}") for pid in (launch.pid, launch.process.pid) for what in ("cmdline", "environ")]
    places += [path for path in (*runtime.rglob("*"), Path("log"), Path("web01.yaml")) if path.is_file()]
    shown = {str(path): path.read_bytes() for path in places}
    # The negative control: QEMU has it, and asks for a password.
    with socket.socket(socket.AF_UNIX) as client:
        client.connect("vnc")
        assert client.recv(12) == b"RFB 003.008\n"
        client.send(b"RFB 003.008\n")
        assert client.recv(2) == b"\x01\x02", "VNC authentication alone"
    launch.process.terminate()
    assert launch.end() == 0, launch.said
    assert [name for name, data in shown.items() if SECRET.encode() in data] == []
    assert SECRET not in launch.said


@pytest.mark.parametrize(
    "disk",
    [
        "<auth username='u'><secret type='iscsi' usage='mine'/></auth><source protocol='iscsi' name='iqn.a/1'><host name='h'/></source>",
        "<source protocol='nbd' name='x'><host name='h'/></source><encryption format='luks'><secret type='passphrase' usage='mine'/></encryption>",
        "<source protocol='https' name='x'><host name='h' port='443'/><auth username='u'><secret type='iscsi' usage='mine'/></auth></source>",
    ],
    ids=["iscsi", "luks", "https"],
)
def test_a_secret_in_libvirts_keeping_is_libvirts_to_use(disk: str, guest: Path) -> None:
    element = f"<disk type='network' device='disk'><driver type='raw'/>{disk}<target dev='vdz' bus='virtio'/></disk>"
    guest.write_text(guest.read_text().replace("    <!-- backup -->", f"    {element}\n    <!-- backup -->"))
    assert run_mdtool("reconcile", guest, "web01.yaml").returncode == 0
    done = run_mdtool("launch", guest, "web01.yaml")
    line = 1 + next(n for n, row in enumerate(guest.read_text().splitlines()) if element in row)
    assert done.returncode == 2 and done.stderr.startswith(f"{guest}:{line}:"), done.stderr
    assert "--via libvirt" in done.stderr


def test_print_json_is_a_list_and_touches_nothing(tmp_path: Path) -> None:
    assert run_mdtool("reconcile", GUESTS["web01"], "g.yaml").returncode == 0
    before = sorted(tmp_path.rglob("*"))
    words = json.loads(run_mdtool("launch", GUESTS["web01"], "g.yaml", "--via", "device", "--print", "--json").stdout)
    assert words[0].endswith("qemu-system-x86_64") and "-device" in words
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--via", "libvirt", "--qmp", "x"], "--qmp: libvirt runs the guest"),
        (["--via", "libvirt", "--rehearse"], "--via libvirt cannot rehearse"),
        (["--rehearse", "--hints-out", "x"], "--hints-out: a rehearsal starts, compares and ends"),
        (["--rehearse", "--incoming", "tcp:0:1"], "--incoming: a rehearsal starts, compares and ends"),
        (["--via", "hints"], "--via hints without a hints file"),
        (["--hints", "web01.yaml"], "give either a description or --hints"),
        (["--qemu", "qemu-system-none"], "no such QEMU: qemu-system-none"),
        (["--log", "no/such/folder/log"], "cannot write no/such/folder/log"),
        (["--hints-out", "no/such/folder/hints"], "cannot write no/such/folder/hints"),
    ],
)
def test_what_makes_no_sense_is_an_error(words: list[str], said: str, guest: Path) -> None:
    done = run_mdtool("launch", guest, "web01.yaml", *words)
    assert done.returncode == 2 and said in done.stderr, done.stderr


def test_an_outdated_description_is_refused(guest: Path) -> None:
    guest.write_text(guest.read_text().replace("52:54:00:10:00:02", "52:54:00:10:00:99"))
    done = run_mdtool("launch", guest, "web01.yaml", "--rehearse")
    assert done.returncode == 2
    assert "is not up to date" in done.stderr and "mdtool reconcile" in done.stderr


@pytest.mark.parametrize("via", DIRECT)
def test_a_device_that_qemu_refuses_is_told_at_its_line(via: str, guest: Path) -> None:
    text = Path("web01.yaml").read_text()
    Path("web01.yaml").write_text(text.replace("52:54:00:10:00:02'}", "52:54:00:10:00:02', nonsense: 1}"))
    done = run_mdtool("launch", guest, "web01.yaml", "--via", via, "--rehearse")
    line = next(n for n, row in enumerate(guest.read_text().splitlines(), 1) if "the web" in row) + 1
    assert done.returncode == 2
    assert done.stderr.startswith(f"{guest}:{line}:5: error: QEMU refused"), done.stderr
    assert "Property 'virtio-net-pci.nonsense' not found" in done.stderr


def test_a_disk_that_is_not_there_is_told_at_its_line(guest: Path, tmp_path: Path) -> None:
    """QEMU has made its monitor by then; the socket does not stay."""
    (tmp_path / "disk.qcow2").unlink()
    done = run_mdtool("launch", guest, "web01.yaml", "--qmp", "monitor")
    assert not Path("monitor").exists()
    line = next(n for n, row in enumerate(guest.read_text().splitlines(), 1) if "<disk" in row)
    assert done.returncode == 2
    assert done.stderr.startswith(f"{guest}:{line}:5: error: QEMU refused") and "No such file" in done.stderr


class Launch:
    """``mdtool launch`` in the background; ``pid`` is QEMU's."""

    all: ClassVar[list[subprocess.Popen[str]]] = []

    @classmethod
    def end_all(cls) -> None:
        """End what a failed test left; QEMU goes with its mdtool."""
        for process in cls.all:
            if process.poll() is None:
                process.kill()
            process.communicate()
        cls.all.clear()

    def __init__(self, *words: str | Path, pidfile: str = "pid") -> None:
        self.process = subprocess.Popen(
            command("launch", *words, "--pidfile", pidfile), stderr=subprocess.PIPE, text=True, start_new_session=True
        )
        self.all.append(self.process)
        assert self.process.stderr is not None
        self.said = ""
        for line in self.process.stderr:
            self.said += line
            if "as described" in line:
                break
        assert "as described" in self.said, self.said
        self.pid = int(Path(pidfile).read_text())

    def end(self) -> int:
        try:
            self.said += self.process.communicate(timeout=PATIENCE)[1]
        finally:
            if self.process.poll() is None:
                self.process.kill()
        return self.process.returncode


def test_a_guest_runs_until_its_qemu_quits(guest: Path) -> None:
    launch = Launch(guest, "web01.yaml", "--qmp", "mine.qmp")
    with session_from_source("mine.qmp") as session:
        assert session.execute("query-status")["running"] is True
        session.execute("quit")
    assert launch.end() == 0, launch.said
    assert gone(launch.pid) and not Path("pid").exists()


def test_the_state_of_a_sandboxed_guest_can_be_taken(guest: Path) -> None:
    launch = Launch(guest, "web01.yaml", "--paused", "--qmp", "mine.qmp")
    assert "-sandbox" in Path(f"/proc/{launch.pid}/cmdline").read_text()
    verified = run_mdtool("verify", "web01.yaml", "mine.qmp", "--migration")
    runs = alive(launch.pid)
    launch.process.send_signal(signal.SIGTERM)
    assert launch.end() == 0, launch.said
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert runs and "the state loads" in verified.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run QEMU as somebody else")
def test_qemu_runs_as_somebody_else(guest: Path, runtime: Path) -> None:
    runtime.chmod(0o711)
    (guest.parent / "disk.qcow2").unlink()
    disk = runtime / "disk.qcow2"  # below the test's own folder nobody else comes
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", disk, "1G"], check=True)
    disk.chmod(0o666)
    guest.write_text(guest.read_text().replace(str(guest.parent / "disk.qcow2"), str(disk)))
    launch = Launch(guest, "web01.yaml", "--user", "nobody")
    assert Path(f"/proc/{launch.pid}").owner() == "nobody"
    launch.process.kill()  # the kernel ends it, another user's or not
    assert launch.end() == -signal.SIGKILL and gone(launch.pid)
    launch = Launch(guest, "web01.yaml", "--user", "nobody")
    launch.process.send_signal(signal.SIGTERM)
    assert launch.end() == 0, launch.said
    disk.unlink()


def with_tpm(guest: Path) -> Path:
    """The guest with a TPM, whose other half is a process of its own; returns where the state is."""
    if shutil.which("swtpm") is None:
        lacking("swtpm", "apt-get install swtpm")
    state = Path(tempfile.mkdtemp(prefix="md"))
    tpm = f"<tpm model='tpm-crb'><backend type='emulator' version='2.0'><source type='dir' path='{state}'/></backend></tpm>"
    guest.write_text(guest.read_text().replace("    <!-- backup -->", f"    {tpm}\n    <!-- backup -->"))
    assert run_mdtool("reconcile", guest, "web01.yaml").returncode == 0
    return state


@pytest.mark.parametrize("end", ["mdtool is killed", "QEMU is killed", "QEMU quits", "the helper is killed"])
def test_a_helper_and_qemu_go_together(end: str, guest: Path, runtime: Path) -> None:
    state = with_tpm(guest)
    launch = Launch(guest, "web01.yaml")
    helper = child_called("swtpm", launch.process.pid)
    assert launch.pid != helper and alive(helper)
    match end:
        case "mdtool is killed":
            launch.process.kill()
            assert launch.end() == -signal.SIGKILL
            left = next((runtime / "mdtool").glob("*-*/machine.cfg")).parent  # nobody was there to remove it
            again = Launch(guest, "web01.yaml")  # ... but the next launch
            again.process.terminate()
            assert again.end() == 0 and not left.exists(), again.said
        case "QEMU is killed":
            os.kill(launch.pid, signal.SIGKILL)
            assert launch.end() == 128 + signal.SIGKILL, launch.said
        case "QEMU quits":
            os.kill(launch.pid, signal.SIGTERM)
            assert launch.end() == 0, launch.said
        case _:  # the guest goes on without, and its end is as ever
            os.kill(helper, signal.SIGKILL)
            assert gone(helper) and alive(launch.pid)
            launch.process.terminate()
            assert launch.end() == 0, launch.said
    assert gone(launch.pid) and gone(helper)
    shutil.rmtree(state)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can run QEMU as somebody else")
def test_a_helper_serves_a_qemu_of_somebody_else(guest: Path, runtime: Path) -> None:
    runtime.chmod(0o711)
    state = with_tpm(guest)
    disk = runtime / "disk.qcow2"
    shutil.move(guest.parent / "disk.qcow2", disk)
    disk.chmod(0o666)
    guest.write_text(guest.read_text().replace(str(guest.parent / "disk.qcow2"), str(disk)))
    launch = Launch(guest, "web01.yaml", "--user", "nobody")
    launch.process.terminate()
    assert launch.end() == 0, launch.said
    disk.unlink()
    shutil.rmtree(state)


def test_a_daemon_that_is_killed_takes_its_qemu_along(guest: Path) -> None:
    done = run_mdtool("launch", guest, "web01.yaml", "--daemonize", "--pidfile", "pid", "--log", "log")
    assert done.returncode == 0, done.stderr
    pid = int(Path("pid").read_text())
    parent = int(re.search(r"PPid:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())[1])  # type: ignore[index]
    os.kill(parent, signal.SIGKILL)
    assert gone(pid) and gone(parent)
    again = run_mdtool("launch", guest, "web01.yaml", "--daemonize", "--pidfile", "pid")  # what was left is no hindrance
    assert again.returncode == 0, again.stderr
    os.kill(int(Path("pid").read_text()), signal.SIGTERM)


def test_a_second_launch_is_refused(guest: Path) -> None:
    launch = Launch(guest, "web01.yaml", "--paused")
    second = run_mdtool("launch", guest, "web01.yaml", "--via", "monitor")
    launch.process.send_signal(signal.SIGTERM)
    assert launch.end() == 0, launch.said
    assert second.returncode == 2 and f"already runs, process {launch.pid}" in second.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_reach_qemu_and_nothing_is_left(number: signal.Signals, guest: Path) -> None:
    launch = Launch(guest, "web01.yaml")
    launch.process.send_signal(number)
    assert launch.end() == 0, launch.said
    assert gone(launch.pid)


def test_ctrl_c_asks_the_guest_and_then_ends_qemu(guest: Path) -> None:
    launch = Launch(guest, "web01.yaml")
    launch.process.send_signal(signal.SIGINT)
    assert launch.process.stderr is not None
    assert "asked the guest to power down" in launch.process.stderr.readline()
    assert alive(launch.pid)  # no guest is there to answer
    launch.process.send_signal(signal.SIGINT)
    assert launch.end() == 0, launch.said
    assert gone(launch.pid)


def test_a_message_may_come_in_the_midst_of_another() -> None:
    """ctrl-C comes when it likes: what its handler says goes past the buffer that is being written."""
    text = """if True:
        import signal, sys
        from mdtool.cli.output import say
        signal.signal(signal.SIGALRM, lambda *_: say("handler"))
        signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
        for number in range(20000):
            say(str(number))
        signal.setitimer(signal.ITIMER_REAL, 0)
    """
    done = subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr[-500:]
    said = done.stderr.splitlines()
    assert "handler" in said and [line for line in said if line != "handler"] == [str(n) for n in range(20000)]


def test_daemonize_returns_when_the_guest_runs(guest: Path) -> None:
    done = run_mdtool("launch", guest, "web01.yaml", "--daemonize", "--pidfile", "pid", "--qmp", "mine.qmp")
    assert done.returncode == 0, done.stderr
    verified = run_mdtool("verify", "web01.yaml", "mine.qmp")
    second = run_mdtool("launch", guest, "web01.yaml", "--daemonize")
    pid = int(Path("pid").read_text())
    os.kill(pid, signal.SIGTERM)
    assert gone(pid)
    assert verified.returncode == 0, verified.stdout
    assert second.returncode == 2 and "already runs" in second.stderr


def test_ctrl_c_ends_a_launch_that_goes_to_the_background(guest: Path, tmp_path: Path) -> None:
    """The terminal's ctrl-C reaches the process in front alone; QEMU, which hangs here, must go with it."""
    fake = tmp_path / "qemu"
    fake.write_text("#!/bin/sh\necho $$ > started.new\nmv started.new started\nexec sleep infinity\n")
    fake.chmod(0o755)
    words = [sys.executable, "-m", "mdtool", "launch", guest, "web01.yaml", "--daemonize", "--qemu", fake]
    with subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True) as front:
        started = Path("started")
        until(started.exists, of=front)
        front.send_signal(signal.SIGINT)
        assert front.wait(PATIENCE) == 130
        assert gone(int(started.read_text()))  # before stderr is read, which lasts until all who hold it have ended
        assert "interrupted" in front.stderr.read()


def test_a_machine_that_is_not_as_described_never_runs(guest: Path, tmp_path: Path) -> None:
    """The negative control of every launch: QEMU is given another slot behind mdtool's back."""
    fake = tmp_path / "qemu"
    fake.write_text('#!/bin/sh\nsed -i \'s/addr = "0x3.0x2"/addr = "0x6"/\' "$XDG_RUNTIME_DIR"/mdtool/*/machine.cfg\n'
                    'exec qemu-system-x86_64 "$@"\n')  # fmt: skip
    fake.chmod(0o755)
    for more in ((), ("--daemonize",)):
        done = run_mdtool("launch", guest, "web01.yaml", "--qemu", fake, "--log", "log", *more)
        assert done.returncode == 1, done.stderr
        assert "pci.12: moved: described at pcie.0 03.2, is at pcie.0 06.0 [address]" in done.stdout
        assert "as described" not in done.stderr


def test_hints_keep_addresses_over_fresh_xml(guest: Path) -> None:
    done = run_mdtool("hints", "export", "web01.yaml", "-o", "web01.hints")
    assert done.returncode == 0, done.stderr
    xml = guest.read_text()
    first = re.search(r" *<interface type='user'>.*?</interface>\n", xml, re.DOTALL)
    assert first is not None
    fresh = guest.with_name("fresh.xml")
    fresh.write_text(xml.replace(first[0], ""))
    with_hints = run_mdtool("launch", fresh, "--hints", "web01.hints", "--print", "--json", "--via", "device")
    assert with_hints.returncode == 0, with_hints.stderr
    without = run_mdtool("launch", fresh, "--print", "--json", "--via", "device")
    assert nics(with_hints.stdout) == nics(run_mdtool("launch", guest, "--print", "--json", "--via", "device").stdout)[1:]
    assert nics(without.stdout) != nics(with_hints.stdout)


def nics(text: str) -> list[tuple[str, str, str]]:
    words = [json.loads(word) for word in json.loads(text) if word.startswith('{"driver"')]
    return [(word["mac"], word["bus"], word["id"]) for word in words if "mac" in word]


def test_hints_are_written_anew_after_each_hotplug(guest: Path) -> None:
    """Whoever plugs speaks to QEMU alone; a NIC is known by its MAC, and a disk once the XML has it."""

    def hinted() -> dict[str, tuple[str, str]]:
        return {row["origin"]: (row["bus"], row["address"]) for row in json.loads(Path("hints").read_text())["hints"]
                if "address" in row}  # fmt: skip

    launch = Launch(guest, "web01.yaml", "--qmp", "mine.qmp", "--hints-out", "hints")
    first, inode = hinted(), Path("hints").stat().st_ino
    origin = "interface/52:54:00:10:00:77"
    with session_from_source("mine.qmp") as session:
        session.execute("netdev_add", {"type": "user", "id": "n"})
        nic = {"driver": "e1000e", "id": "mine", "netdev": "n", "mac": "52:54:00:10:00:77", "bus": "pci.12", "addr": "0x0"}
        session.execute("device_add", nic)
        until(lambda: origin in hinted(), of=launch.process)
        assert hinted() == {**first, origin: ("pci.12", "00.0")} and Path("hints").stat().st_ino != inode
        session.execute("device_del", {"id": "input0"})
        until(lambda: "input/usb/tablet" not in hinted(), of=launch.process)
        assert hinted().items() ^ first.items() == {
            (origin, ("pci.12", "00.0")),
            ("input/usb/tablet", first["input/usb/tablet"]),
        }
        session.execute("blockdev-add", {"driver": "null-co", "node-name": "b"})
        session.execute(
            "device_add", {"driver": "scsi-hd", "id": "scsi0-0-0-1", "drive": "b", "bus": "scsi0.0", "lun": 1, "scsi-id": 0}
        )
        assert launch.process.stderr is not None
        assert launch.process.stderr.readline() == f"no hint for scsi0-0-0-1 until {guest.absolute()} has it\n"
        disk = "<disk type='network' device='disk'><source protocol='nbd' name='x'/><target dev='sdb' bus='scsi'/></disk>"
        guest.write_text(guest.read_text().replace("    <!-- management", f"    {disk}\n    <!-- management"))
        until(lambda: hinted().get("disk/sdb") == ("scsi0.0", "0:0:1"), of=launch.process)
    launch.process.send_signal(signal.SIGINT)
    assert "asked the guest to power down" in launch.process.stderr.readline()
    launch.process.send_signal(signal.SIGINT)
    assert launch.end() == 0, launch.said
    assert [path.name for path in Path().glob(".hints*")] == []
    # What they are for: fresh XML, which says of the new NIC that it is there and nothing else.
    element = "<interface type='user'><mac address='52:54:00:10:00:77'/><model type='e1000e'/></interface>"
    fresh = guest.with_name("fresh.xml")
    fresh.write_text(guest.read_text().replace("    <!-- management", f"    {element}\n    <!-- management"))
    done = run_mdtool("launch", fresh, "--hints", "hints", "--print", "--json", "--via", "device")
    assert done.returncode == 0, done.stderr
    assert "pci.12" in {bus for mac, bus, _ in nics(done.stdout) if mac == "52:54:00:10:00:77"}
