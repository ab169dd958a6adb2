"""``mdtool launch --via libvirt``: the same machine, started by libvirt; needs a libvirtd that this user may use."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mdtool.compare import compare, guest_visible
from mdtool.launch.libvirt import dropped
from mdtool.machine.document import tree_from_file
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.dump import dump
from mdtool.qemu.session import session_from_source
from tests.conftest import lacking, require
from tests.support import run_mdtool
from tests.support_waiting import PATIENCE, until

SAMPLE = Path(__file__).parents[2] / "samples" / "web01" / "guest.xml"


def virsh(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([require("virsh"), "-q", *words], capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def guest(libvirt: str, tmp_path: Path) -> Iterator[Path]:
    """web01 under a name of its own, without a disk, and its description; whatever libvirt has of it is removed."""
    name = f"mdtool-{uuid.uuid4().hex[:8]}"
    text = SAMPLE.read_text().replace("web01</name>", f"{name}</name>")
    text = text.replace("3f1c2d5e-8a57-4f3e-9d0b-6a1c5e7f9b21", str(uuid.uuid4()))
    start = text.index("    <disk")
    text = text[:start] + text[text.index("</disk>") + 8 :]
    path = tmp_path / f"{name}.xml"
    path.write_text(text)
    made = run_mdtool("reconcile", path, path.with_suffix(".yaml"))
    assert made.returncode == 0, made.stderr
    yield path
    virsh("destroy", name)
    virsh("undefine", name)


def test_libvirt_starts_the_described_machine(guest: Path) -> None:
    done = run_mdtool("launch", guest, guest.with_suffix(".yaml"), "--via", "libvirt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "did not keep" not in done.stderr
    assert virsh("domstate", guest.stem).stdout.strip() == "running"
    verified = run_mdtool("verify", guest.with_suffix(".yaml"), f"libvirt:{guest.stem}")
    assert verified.returncode == 0, verified.stdout
    again = run_mdtool("launch", guest, guest.with_suffix(".yaml"), "--via", "libvirt")
    assert again.returncode == 2 and "runs guest" in again.stderr


def test_two_launches_of_one_guest_are_one_too_many_in_any_two_ways(guest: Path, tmp_path: Path) -> None:
    description = guest.with_suffix(".yaml")
    assert run_mdtool("launch", guest, description, "--via", "libvirt", "--paused").returncode == 0
    pid = Path(f"/run/libvirt/qemu/{guest.stem}.pid").read_text().strip()
    ours = run_mdtool("launch", guest, description)
    assert ours.returncode == 2, ours.stdout + ours.stderr
    assert f"libvirt runs guest '{guest.stem}' already, process {pid}" in ours.stderr
    assert virsh("destroy", guest.stem).returncode == 0
    pidfile = tmp_path / "pid"
    ours = run_mdtool("launch", guest, description, "--paused", "--daemonize", "--pidfile", pidfile)
    assert ours.returncode == 0, ours.stderr
    libvirts = run_mdtool("launch", guest, description, "--via", "libvirt")
    os.kill(int(pidfile.read_text()), signal.SIGTERM)
    assert libvirts.returncode == 2 and f"guest '{guest.stem}' already runs, process" in libvirts.stderr, libvirts.stderr
    assert virsh("domstate", guest.stem).stdout.strip() == "shut off"


@pytest.mark.parametrize(
    ("device", "said"),
    [
        ("<graphics type='vnc' port='{port}' listen='127.0.0.1'/>", "QEMU refused -vnc: .*Address already in use"),
        ("<interface type='network'><source network='no-such'/></interface>", "no network with matching name 'no-such'"),
    ],
    ids=["port", "network"],
)
def test_what_libvirt_refuses_is_told_at_its_line(device: str, said: str, guest: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        element = device.format(port=taken.getsockname()[1])
        text = re.sub(r"<graphics.*?/>", "", guest.read_text())
        guest.write_text(text.replace("    <!-- backup -->", f"    {element}\n    <!-- backup -->"))
        line = 1 + guest.read_text().splitlines().index(f"    {element}")
        assert run_mdtool("reconcile", guest, guest.with_suffix(".yaml")).returncode == 0
        done = run_mdtool("launch", guest, guest.with_suffix(".yaml"), "--via", "libvirt")
    assert done.returncode == 2 and re.match(rf"{guest}:{line}:5: error: .*{said}", done.stderr), done.stderr
    assert virsh("domstate", guest.stem).returncode != 0, "libvirt knows it still"


def test_a_launch_that_fails_leaves_the_guests_uefi_variables(guest: Path, tmp_path: Path) -> None:
    """They may be from launches without libvirt, which would remove them with the guest that it is to forget."""
    code = Path("/usr/share/OVMF/OVMF_CODE_4M.fd")
    if not code.exists():
        lacking("OVMF", "apt-get install ovmf")
    folder = Path(tempfile.mkdtemp(prefix="md"))
    variables = folder / "vars.fd"
    shutil.copyfile("/usr/share/OVMF/OVMF_VARS_4M.fd", variables)
    loader = f"<loader readonly='yes' type='pflash'>{code}</loader><nvram>{variables}</nvram></os>"
    nic = "<interface type='network'><source network='no-such'/></interface>"
    text = guest.read_text().replace("</os>", loader).replace("    <!-- backup -->", f"    {nic}")
    guest.write_text(re.sub(r"<boot dev='hd'/>", "", text))
    assert run_mdtool("reconcile", guest, guest.with_suffix(".yaml")).returncode == 0
    done = run_mdtool("launch", guest, guest.with_suffix(".yaml"), "--via", "libvirt")
    assert done.returncode == 2 and "no-such" in done.stderr
    assert virsh("domstate", guest.stem).returncode != 0
    assert variables.exists()
    shutil.rmtree(folder)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_what_was_started(number: signal.Signals, guest: Path, tmp_path: Path) -> None:
    """libvirt's client takes its time here after the guest was started, and that is when the signal comes."""
    slow = tmp_path / "bin" / "virsh"
    slow.parent.mkdir()
    slow.write_text(
        f'#!/bin/sh\n{require("virsh")} "$@" || exit\ncase "$*" in *start*) touch {tmp_path}/started; sleep infinity;; esac\n'
    )
    slow.chmod(0o755)
    words = [sys.executable, "-m", "mdtool", "launch", str(guest), str(guest.with_suffix(".yaml")), "--via", "libvirt"]
    path = f"{slow.parent}:{os.environ['PATH']}"
    process = subprocess.Popen(words, env={**os.environ, "PATH": path}, start_new_session=True)
    until((tmp_path / "started").exists, of=process)
    assert virsh("domstate", guest.stem).stdout.strip() == "paused"
    process.send_signal(number)
    assert process.wait(PATIENCE) == 128 + number
    assert virsh("domstate", guest.stem).returncode != 0


def test_what_is_printed_is_what_libvirt_takes(guest: Path) -> None:
    done = run_mdtool("launch", guest, guest.with_suffix(".yaml"), "--via", "libvirt", "--print")
    printed = guest.with_suffix(".print.xml")
    printed.write_text(done.stdout)
    assert virsh("create", "--paused", str(printed)).returncode == 0
    verified = run_mdtool("verify", guest.with_suffix(".yaml"), f"libvirt:{guest.stem}")
    assert verified.returncode == 0, verified.stdout + verified.stderr


def test_what_a_hand_set_becomes_an_override(guest: Path) -> None:
    description = guest.with_suffix(".yaml")
    text = description.read_text()
    assert text.count("properties: {mac: '52:54:00:10:00:02'}") == 1
    text = text.replace("mac: '52:54:00:10:00:02'", "mac: '52:54:00:10:00:02', rombar: 0")
    cdrom = "      origin: disk/sda\n"
    assert text.count(cdrom) == 1
    description.write_text(text.replace(cdrom, cdrom + "      properties: {serial: CD 1}\n"))
    done = run_mdtool("launch", guest, description, "--via", "libvirt", "--paused")
    assert done.returncode == 0, done.stdout + done.stderr
    assert virsh("domstate", guest.stem).stdout.strip() == "paused"
    assert "<qemu:property name='rombar' type='unsigned' value='0'/>" in virsh("dumpxml", guest.stem).stdout
    with session_from_source(f"libvirt:{guest.stem}") as session:
        machine = dump(session)
    assert guest_visible(compare(tree_from_file(description), machine)) == []
    nic = next(p.node for p in machine.places if p.node.properties.get("mac") == "52:54:00:10:00:02")
    assert {**nic.pins, **nic.properties}["rombar"] == 0
    assert {"CD 1"} == {p.node.properties.get("serial") for p in machine.places if p.node.driver == "ide-cd"}


def test_a_full_description_is_no_other_machine(guest: Path) -> None:
    """What a rehearsal dumps, libvirt starts: built-ins, pins and all."""
    full = guest.with_suffix(".full.yaml")
    dumped = run_mdtool("dump", guest, "-o", full)
    assert dumped.returncode == 0, dumped.stderr
    done = run_mdtool("launch", guest, full, "--via", "libvirt")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "built-ins" not in done.stderr


def test_the_state_of_libvirts_guest_loads_into_ours(guest: Path) -> None:
    description = guest.with_suffix(".yaml")
    done = run_mdtool("launch", guest, description, "--via", "libvirt", "--paused")
    assert done.returncode == 0, done.stdout + done.stderr
    full = guest.with_suffix(".full.yaml")
    assert run_mdtool("dump", f"libvirt:{guest.stem}", "-o", full).returncode == 0
    verified = run_mdtool("verify", full, f"libvirt:{guest.stem}", "--migration")
    assert verified.returncode == 0, verified.stdout + verified.stderr
    assert "the state loads" in verified.stdout


def test_a_machine_that_libvirt_cannot_make_is_ended_and_forgotten(guest: Path) -> None:
    """The negative control: an address in the description that the definition is not given."""
    from mdtool.guest.devices import guest_from_file
    from mdtool.launch.libvirt import launched_by_libvirt
    from mdtool.launch.prepare import wanted_by
    from mdtool.launch.run import Differs

    tree = tree_from_file(guest.with_suffix(".yaml"))
    other = guest.with_suffix(".other.yaml")
    other.write_text(
        yaml_from_tree(tree).replace(
            "driver: pcie-root-port\n      address: '03.0'", "driver: pcie-root-port\n      address: '07.0'"
        )
    )
    wrong, read = tree_from_file(other), guest_from_file(guest)
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Differs) as caught:
        patch.setattr("mdtool.launch.libvirt.xml_with_places", lambda source, *_, **__: source.decode())
        launched_by_libvirt(read, wrong, wanted_by(read, wrong))
    assert {d.property for d in caught.value.differences} == {"address"}
    assert virsh("domstate", guest.stem).returncode != 0


def test_what_libvirt_drops_is_said() -> None:
    given = b"<domain><vcpu>2</vcpu><devices><watchdog model='ib700' odd='1'><a b='0x10'/></watchdog></devices></domain>"
    kept = b"<domain><vcpu a='b'>2</vcpu><devices><watchdog model='ib700'><a b='16'/></watchdog></devices></domain>"
    assert dropped(given, kept) == ["devices/watchdog@odd=1"]


def test_a_size_is_kept_in_any_unit() -> None:
    given = b"<domain><memory>5</memory><cpu><numa><cell id='0x0' memory='1' unit='GiB'/></numa></cpu><devices>%s</devices></domain>"
    dimm = b"<memory model='dimm'><target><size unit='MiB'>64</size></target></memory>"
    kept = (given % dimm).replace(b"memory='1' unit='GiB'", b"memory='1048576' unit='KiB'")
    kept = kept.replace(b"'MiB'>64<", b"'KiB'>65536<").replace(b">5<", b">8192<").replace(b"0x0", b"0")
    assert dropped(given % dimm, kept) == []
    assert dropped(given % dimm, kept.replace(b"65536", b"65537")) == ["devices/memory/target/size=67108864"]
    assert dropped(given % dimm, given % b"") == ["devices/memory/target/size=67108864", "devices/memory@model=dimm"]


def test_a_device_that_only_the_description_has_reaches_libvirt(guest: Path) -> None:
    """A manual port with a device behind it, and one in a free port."""
    path = guest.with_suffix(".yaml")
    text = path.read_text()
    at = re.search(r"^    devices:\n", text[text.index("  pcie.0:") :], re.MULTILINE)
    assert at is not None
    start = text.index("  pcie.0:") + at.end()
    port = """\
    - id: side
      driver: pcie-root-port
      address: '1d.0'
      origin: hand
      properties: {chassis: 77, port: 77}
      buses:
        side:
          type: PCIE
          devices:
          - {id: rng77, driver: virtio-rng-pci, address: '00.0', origin: hand}
"""
    path.write_text(text[:start] + port + text[start:])
    done = run_mdtool("launch", guest, path, "--via", "libvirt")
    assert done.returncode == 0, done.stdout + done.stderr
    tree = virsh("qemu-monitor-command", "--hmp", guest.stem, "info qtree").stdout
    assert 'dev: virtio-rng-pci, id "rng77"' in tree
    printed = run_mdtool("launch", guest, path, "--via", "libvirt", "--print").stdout
    assert printed.index('"id": "side"') < printed.index("rng77"), "what provides a bus comes first"
