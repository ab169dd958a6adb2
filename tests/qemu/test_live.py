"""``reconcile --live`` and ``reconcile --launch --source`` on a guest that runs."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import tempfile
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from mdtool.errors import MonitorError
from mdtool.qemu.session import Session, session_from_source
from mdtool.resources import resource
from tests.support import run_mdtool
from tests.support_waiting import PATIENCE, until

ROOT = Path(__file__).parents[2]

pytestmark = pytest.mark.usefixtures("qemu")

URI = "qemu:///system"
UUID = "<uuid>11111111-2222-3333-4444-0000000000aa</uuid>"
NIC = "<interface type='user'><mac address='52:54:00:00:00:0{n}'/><model type='virtio'/></interface>"
DISK = "<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/><target dev='{dev}' bus='{bus}'/></disk>"
TABLET = "<input type='tablet' bus='usb'/>"
CHANNEL = "<channel type='unix'><target type='virtio' name='org.example.{n}'/></channel>"


class Running:
    """A guest that ``mdtool launch --daemonize`` started, its XML and description, and its monitor."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.name = folder, "live"
        self.xml, self.yaml, self.qmp = folder / "g.xml", folder / "g.yaml", folder / "qmp"
        self.pidfile = folder / "pid"
        for name in ("a", "b", "c"):
            (folder / name).write_bytes(bytes(1 << 20))

    def disk(self, name: str, dev: str, bus: str) -> str:
        return DISK.format(file=self.folder / name, dev=dev, bus=bus)

    def write(self, *devices: str, memory: int = 64, machine: str = "pc-q35-7.2", os: str = "") -> None:
        second = "".join(f"<q:arg value='{word}'/>" for word in ("-qmp", f"unix:{self.folder}/second,server=on,wait=off"))
        self.xml.write_text(
            f"<domain type='qemu'><name>{self.name}</name>{'' if self.name != 'live' else UUID}"
            f"<memory unit='MiB'>{memory}</memory><os><type arch='x86_64' machine='{machine}'>hvm</type>{os}</os>"
            "<features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>"
            "<controller type='usb' index='0' model='qemu-xhci'/><controller type='scsi' index='0' model='virtio-scsi'/>"
            "<controller type='virtio-serial' index='0'/>\n" + "\n".join(devices) + "\n</devices>"
            f"<q:commandline xmlns:q='http://libvirt.org/schemas/domain/qemu/1.0'>{second}</q:commandline></domain>"
        )

    def virsh(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["virsh", "-c", URI, "-q", *words], capture_output=True, text=True, timeout=PATIENCE, check=False
        )

    def mdtool(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return run_mdtool(*words, cwd=self.folder)

    def reconcile(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        return self.mdtool("reconcile", self.xml, self.yaml, *words)

    def launch(self) -> None:
        done = self.reconcile("--launch", "--daemonize", "--qmp", self.qmp, "--pidfile", self.pidfile, "--via", "device")
        assert done.returncode == 0, done.stderr

    def live(self, *words: str) -> dict[str, Any]:
        done = self.reconcile("--live", self.qmp, "--json", *words)
        assert done.returncode in (0, 1), done.stderr
        data: dict[str, Any] = json.loads(done.stdout)
        jsonschema.validate(data, json.loads(resource("schemas", "plan.schema.json").read_text()))
        assert done.returncode == int(any(not one["done"] for one in data["live"]))
        return {one["name"]: one["why"] for one in data["live"]}

    def verify(self) -> tuple[int, str]:
        done = self.mdtool("verify", self.yaml, self.qmp)
        return done.returncode, done.stdout + done.stderr

    def session(self) -> Session:
        return session_from_source(os.fspath(self.qmp))

    def end(self) -> None:
        try:
            with self.session() as session:
                session.execute("quit")
        except MonitorError:
            pass
        until(lambda: not self.pidfile.exists())


@pytest.fixture
def guest(monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    folder = Path(tempfile.mkdtemp(prefix="md"))  # short: sockets go in there
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    running = Running(folder)
    yield running
    running.end()
    shutil.rmtree(folder, ignore_errors=True)  # the launcher may be removing its lock right now


def nodes(session: Session) -> set[str]:
    return {one["node-name"] for one in session.execute("query-named-block-nodes", {"flat": True})}


def test_plugging_in_and_out(guest: Running) -> None:
    """What QEMU does at once, with its host side; and nothing stays behind what went."""
    guest.write(NIC.format(n=1), guest.disk("a", "sda", "scsi"), TABLET, CHANNEL.format(n=1))
    guest.launch()
    guest.write(NIC.format(n=1), NIC.format(n=2), guest.disk("b", "sdb", "scsi"), guest.disk("c", "sdc", "usb"),
                CHANNEL.format(n=2))  # fmt: skip
    live = guest.live()
    assert live == dict.fromkeys(live, "") and len(live) == 7
    assert guest.verify()[0] == 0, guest.verify()
    with guest.session() as session:
        assert {"sdb", "sdc"} <= nodes(session) and not {"sda", "sda-file"} & nodes(session)
        chardevs = {one["label"] for one in session.execute("query-chardev")}
    assert "charchannel1" in chardevs and "charchannel0" not in chardevs
    assert guest.reconcile().stdout.startswith("no changes")


def test_what_is_left(guest: Running) -> None:
    """A guest without an operating system lets go of no PCI device; memory and new ports need a power cycle.

    For a bridge QEMU starts a program, for which its sandbox would kill it.
    """
    guest.write(NIC.format(n=1), CHANNEL.format(n=1))
    guest.launch()
    guest.write(NIC.format(n=2), NIC.format(n=3), memory=128)
    with guest.session() as session:
        netdevs = re.findall(r"^\S*hostnet\S*", session.hmp("info network"), re.MULTILINE)
    live = guest.live("--timeout", "3")
    assert live["channel0"] == ""
    assert "3 s" in live["net0"] and live["memory"] and live["objects"]
    assert [name for name, why in live.items() if name.startswith("pci.") and not why] == []
    new = {name: why for name, why in live.items() if name in ("net1", "net2")}
    assert list(new.values()).count("") == 1, "one port was free"
    assert "is not there before a power cycle" in next(why for why in new.values() if why)
    with guest.session() as session:
        after = re.findall(r"^\S*hostnet\S*", session.hmp("info network"), re.MULTILINE)
    assert len(after) <= len(netdevs) + 2
    # The description says what runs: the card that nobody let go of is in it, and what was left is planned again.
    assert guest.verify()[0] == 0, guest.verify()
    bridged = NIC.format(n=9).replace("'user'>", "'bridge'><source bridge='none0'/>").replace("'virtio'", "'usb-net'")
    written = guest.xml.read_text()
    guest.xml.write_text(written.replace("</devices>", f"{bridged}</devices>"))
    assert [why for why in guest.live("--timeout", "1").values() if "its sandbox would end it" in why]
    guest.xml.write_text(written)
    assert guest.verify()[0] == 0, guest.verify()
    described = guest.yaml.read_text()
    assert "52:54:00:00:00:01" in described and "- id: channel0" not in described
    left = {name for name, why in live.items() if why}
    again = guest.live("--timeout", "3")
    assert again.keys() == left and all(again.values())
    assert guest.yaml.read_text() == described


def test_another_machine_than_described_is_left_alone(guest: Running) -> None:
    guest.write(TABLET)
    guest.launch()
    guest.yaml.write_text(guest.yaml.read_text().replace("address: '1'", "address: '2'"))
    guest.write()
    before = guest.yaml.read_bytes()
    done = guest.reconcile("--live", guest.qmp)
    assert done.returncode == 2 and "not the described one" in done.stderr and guest.yaml.read_bytes() == before
    done = guest.reconcile("--live", "libvirt:web01")
    assert done.returncode == 2


def test_a_refused_device_leaves_nothing_behind(guest: Running) -> None:
    guest.write(TABLET)
    guest.launch()
    with guest.session() as session:
        session.execute("device_add", {"driver": "usb-mouse", "id": "mine", "bus": "usb.0", "port": "3"})
        session.execute("device_del", {"id": "mine"})
        before = nodes(session)
    missing = guest.disk("a", "sda", "usb").replace("/a'", "/missing'")
    guest.write(TABLET, missing)
    live = guest.live()
    assert [why for why in live.values() if "missing" in why]
    with guest.session() as session:
        assert nodes(session) == before


def test_relaunch_with_new_hardware(guest: Running) -> None:
    """The whole step: a guest that does not hear the power button is ended with --force alone, and starts anew."""
    guest.write(NIC.format(n=1))
    guest.launch()
    pid = guest.pidfile.read_text()
    guest.write(NIC.format(n=1), NIC.format(n=2), memory=96)
    before = guest.yaml.read_bytes()
    again = (
        "--launch",
        "--source",
        guest.qmp,
        "--daemonize",
        "--pidfile",
        guest.pidfile,
        "--timeout",
        "1",
        "--via",
        "device",
    )
    refused = guest.reconcile(*again)
    assert refused.returncode == 2 and "--force" in refused.stderr
    assert guest.yaml.read_bytes() == before and guest.pidfile.read_text() == pid
    with guest.session() as session:
        assert session.execute("query-status")["status"] == "running"
    done = guest.reconcile(*again, "--force")
    assert done.returncode == 0, done.stderr
    until(guest.pidfile.exists)
    assert guest.pidfile.read_text() != pid
    assert guest.verify()[0] == 0, guest.verify()
    same = guest.reconcile(*again)
    assert same.returncode == 0 and "keeps running" in same.stderr


@pytest.fixture
def by_libvirt(libvirt: str, guest: Running) -> Iterator[Running]:
    """A guest of a name of its own, for libvirt to run."""
    guest.name = f"mdtool-{uuid.uuid4().hex[:12]}"
    yield guest
    guest.virsh("destroy", guest.name)
    guest.virsh("undefine", guest.name)


def test_relaunch_by_libvirt(by_libvirt: Running) -> None:
    """The same through libvirt, which then runs the guest as described; a failure leaves it alone."""
    guest, source = by_libvirt, f"libvirt:{by_libvirt.name}"
    guest.write(NIC.format(n=1), NIC.format(n=2))
    done = guest.reconcile("--launch", "--via", "libvirt", "--connect", URI)
    assert done.returncode == 0, done.stderr
    first = guest.virsh("domid", guest.name).stdout
    guest.write(NIC.format(n=2), NIC.format(n=3), memory=96)
    before = guest.yaml.read_bytes()
    again = ("--launch", "--source", source, "--connect", URI, "--timeout", "1")
    refused = guest.reconcile(*again)
    assert refused.returncode == 2 and "--force" in refused.stderr
    assert guest.yaml.read_bytes() == before and guest.virsh("domid", guest.name).stdout == first
    done = guest.reconcile(*again, "--force")
    assert done.returncode == 0, done.stderr
    assert guest.virsh("domstate", guest.name).stdout.strip() == "running"
    assert guest.virsh("domid", guest.name).stdout != first
    verified = guest.mdtool("verify", guest.yaml, source)
    assert verified.returncode == 0, verified.stdout
    xml = guest.virsh("dumpxml", guest.name).stdout
    assert "52:54:00:00:00:01" not in xml and "52:54:00:00:00:03" in xml
    same = guest.reconcile(*again)
    assert same.returncode == 0 and "keeps running" in same.stderr


@contextmanager
def ends_at_the_power_button(guest: Running, pid: int) -> Iterator[None]:
    """QEMU gets a signal once the button is pressed, as no operating system is there to hear it."""

    def end() -> None:
        with suppress(MonitorError):  # where the test failed, QEMU ends by itself
            until(lambda: any(event["event"] == "POWERDOWN" for event in session.events(timeout=0.1)))
            os.kill(pid, signal.SIGTERM)

    with session_from_source(os.fspath(guest.folder / "second")) as session:
        waiting = threading.Thread(target=end)
        waiting.start()
        yield
        waiting.join()


def test_a_guest_of_libvirt_that_powers_down_is_not_ended(by_libvirt: Running) -> None:
    guest = by_libvirt
    guest.write(NIC.format(n=1))
    assert guest.reconcile("--launch", "--via", "libvirt", "--connect", URI).returncode == 0
    first = guest.virsh("domid", guest.name).stdout
    guest.write(NIC.format(n=1), NIC.format(n=2))
    with session_from_source(f"libvirt:{guest.name}", connect=URI) as session:
        assert session.pid is not None
        pid = session.pid
    with ends_at_the_power_button(guest, pid):
        done = guest.reconcile(
            "--launch", "--source", f"libvirt:{guest.name}", "--connect", URI, "--timeout", str(PATIENCE)
        )
    assert done.returncode == 0, done.stderr
    assert guest.virsh("domid", guest.name).stdout != first
    assert guest.mdtool("verify", guest.yaml, f"libvirt:{guest.name}").returncode == 0


def test_a_guest_that_powers_down_is_not_ended(guest: Running) -> None:
    """No --force is needed."""
    guest.write(NIC.format(n=1))
    guest.launch()
    pid = int(guest.pidfile.read_text())
    guest.write(NIC.format(n=1), NIC.format(n=2))
    again = ("--launch", "--source", guest.qmp, "--daemonize", "--pidfile", guest.pidfile, "--timeout", str(PATIENCE))
    with ends_at_the_power_button(guest, pid):
        done = guest.reconcile(*again)
    assert done.returncode == 0, done.stderr
    until(guest.pidfile.exists)
    assert int(guest.pidfile.read_text()) != pid and guest.verify()[0] == 0
