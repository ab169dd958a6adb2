"""``mdtool import``: a script's QEMU becomes guest XML and description, and its guest notices nothing.

tests/imports has the scripts, each with the XML that it becomes and what is said of it (NAME.xml, NAME.txt; the environment
variable REGENERATE rewrites them).  They are QEMU 7.2's: another QEMU has other defaults and is held to the machine alone.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from support import mdtool

from mdtool.commandline.option import Option, words_from_options
from mdtool.commandline.process import arguments_of
from mdtool.compare import guest_visible
from mdtool.errors import Errors, InputError, QemuError, Report
from mdtool.guest.devices import guest_from_bytes
from mdtool.importer import (
    HostSide,
    Imported,
    command_from_script,
    command_from_source,
    imported,
    options_from_command,
    without_host,
)
from mdtool.launch.argv import Commandline
from mdtool.launch.device import handover
from mdtool.launch.prepare import Prepared, prepared, version_of, wanted_by
from mdtool.launch.rehearse import prepared_rehearsal, rehearsal
from mdtool.launch.start import checked
from mdtool.machine.document import tree_from_file, tree_with
from mdtool.machine.roles import role
from mdtool.machine.tree import Bus, Node, Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.proof.migration import refusal, save_state
from mdtool.qemu.dump import dump
from mdtool.qemu.process import QemuProcess
from mdtool.qemu.root import rooted
from mdtool.reconcile import reconcile
from mdtool.reconcile.plan import Action
from tests.support import run_mdtool
from tests.support_waiting import PATIENCE, until

SCRIPTS = Path(__file__).parents[1] / "importer"
NAMES = sorted(path.stem for path in SCRIPTS.glob("*.sh"))
IS_GOLDEN = version_of("qemu-system-x86_64")[:2] == (7, 2)
#: script -> words of the host that the launch's command line has again
AGAIN = {
    "appliance": ["/dev/pve/vm-100-disk-0", '"aio": "io_uring"', "tap100i0", "pve-bridge", "100.qga", "iqn.1993-08"],
    "bare": ["/vm/disk.img"],
    "blockdev": ["/srv/d0.qcow2", '"aio": "native"', "nbd.example", "iqn.2001-04.com.example:t1", "mirror.example", "rbd:pool/image",
                 "/etc/keys/k0", "/srv/d6.luks", '"port": "10810"'],
    "bridge-tap": ['"br": "br0"', "tap3", '"vhost": true', '"queues": 4', "230.0.0.1:1234", "10.0.0.2:5000", "l2tpv3", "/var/log/guest.log"],
    "chardevs": ["4001", "telnet=on", "/run/s1.sock", "pty", "/tmp/lp.txt", "10.0.0.9", "/run/p", "/run/ga.sock", "signal=off", "ringbuf"],
    "cloud-image": ["noble-server-cloudimg-amd64.img", '"discard": "unmap"', "hostfwd=tcp::2222-:22", "seed.img"],
    "desktop": ["/vm/desktop.img", "/srv/iso/debian-12.iso", "sdl", "order=d"],
    "displays": ["gtk,gl=on", "0.0.0.0:5", "force-shared"],
    "folders": ["/home/me/share", "mapped", "/vm/shared", "readonly=on", "/dev/hugepages"],
    "kernel": ["/boot/vmlinuz", "root=/dev/vda1 ro console=ttyS0 quiet", "string=a,,b", "/etc/seed", "/dev/urandom", "-no-reboot"],
    "old-net": ["hostfwd=tcp:127.0.0.1:8080-:80", "/vm/boot.img", "base=localtime", "127.0.0.1:1", "de"],
    "ovmf-blockdev": ["/usr/share/OVMF/OVMF_CODE_4M.fd", "/vm/VARS.fd", "pflash0", "pflash1"],
    "passthrough": ["0000:01:00.0", "0000:01:00.1", "/vm/gpu.rom", "/dev/shm/looking-glass", "/dev/input/event3"],
    "quick": ["/home/me/vms/ubuntu/disk.qcow2", "22220", "/home/me/Public", "mapped", "serial.sock", "pa", "sdl"],
    "microvm": ["/v", "t0", "/a"],
    "sdcard": ["/vm/sd.img", "user"],
    "throwaway": ["snapshot=on", "hostfwd=tcp::8022-:22", "/usr/share/ovmf/OVMF.fd"],
    "sound": ["port=5930", "image-compression=off", "/run/pulse", "vdagent", "usbredir", "smartcard"],
    "storage": ["/srv/disks/a.qcow2", "snapshot=on", "/dev/vg/d", '"iothread": "iothread1"', "/srv/disks/h.raw", '"werror": "stop"'],
    "usb": ["/srv/stick.img", '"hostport": "1.3"', '"vendorid": 1133', "/dev/bus/usb/001/004"],
    "vhost-user": ["/run/vpp/p0.sock", "/run/virtiofsd.sock", "memory-backend-memfd", '"share": true'],
    "webserver": ["/srv/images/data,1.img", "tap7", '"user"', "stdio", ":3"],
    "windows": ["/run/swtpm/win11.sock", "OVMF_CODE_4M.secboot.fd", "/vm/win11/OVMF_VARS.fd", "/vm/win11/c.qcow2", "driftfix=slew"],
}  # fmt: skip
#: what this library's host must have besides (a TPM emulator, huge pages, devices to hand over, a script for its taps)
NEEDS_ITS_HOST = frozenset({"appliance", "folders", "passthrough", "usb", "windows"})
MIGRATES = ("appliance", "bridges", "memory", "old-net", "pseries", "usb-q35", "webserver")


@pytest.fixture(autouse=True)
def _there(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the scripts are: ``$0`` of one has to be a file."""
    monkeypatch.chdir(SCRIPTS)


def made_from(name: str) -> Imported:
    report = Report()
    command = command_from_script((SCRIPTS / f"{name}.sh").read_text(), f"{name}.sh", report, "/vm")
    return imported(command, name, report)


@contextmanager
def script_itself(name: str, folder: Path) -> Iterator[QemuProcess]:
    """The machine that the script starts, with nothing of the host behind it."""
    command = command_from_script((SCRIPTS / f"{name}.sh").read_text(), f"{name}.sh", Report(), "/vm")
    binary = command.words[0].text
    binary = binary if binary.startswith("qemu-system") else "qemu-system-x86_64"
    host = HostSide(folder, arch=binary.rpartition("-")[2])
    silent = (Option("audio", "none"),) if version_of(binary) >= (8, 2) and "audio" not in str(command.words) else ()
    options = (*without_host(options_from_command(command, Report()), host), *silent)
    line = Commandline(binary, (), (), (), processes=tuple(host.processes))
    with rehearsal(Prepared(Tree(), binary, options, handover(options), commandline=line)) as qemu:
        yield qemu


#: what nobody chose; names of other devices, what the drive's cache mode makes of itself, who made a chipset's USB
_NO_DIFFERENCE = frozenset({("wwn", "0"), ("bootindex", "-1")})
_NAMES = frozenset({"masterbus", "device_id", "write-cache", "has-usb"})


def shape(machine: Tree) -> Any:
    """A machine without its names: drivers, addresses, properties, and what sits on what."""

    def of(node: Node) -> Any:
        values = {**node.pins, **node.properties}
        said = {(k, str(v)) for k, v in values.items() if role(node.driver, k) == "guest" and k not in _NAMES}
        return node.driver, node.address or "", sorted(said - _NO_DIFFERENCE), [on(bus) for bus in node.buses]

    def on(bus: Bus) -> Any:
        return bus.type, sorted((of(node) for node in bus.devices), key=str)

    memory = {key: machine.memory.get(key) for key in ("size", "slots", "max")}
    sections = memory, machine.cpu, machine.numa, {"strict": False, **machine.boot}
    return (
        sections,
        sorted((on(bus) for bus in machine.buses), key=str),
        sorted((of(node) for node in machine.devices), key=str),
    )


@pytest.mark.parametrize("name", NAMES)
def test_the_imported_guest_is_the_same_machine(name: str, tmp_path: Path) -> None:
    """Its dump is the script's, reconcile has nothing to do, and the command line has the host side again."""
    made = made_from(name)
    if IS_GOLDEN:
        golden(name, made)
    guest = guest_from_bytes(made.xml.encode(), f"{name}.xml")
    description = tmp_path / "guest.yaml"
    description.write_text(yaml_from_tree(made.tree))
    tree = tree_from_file(description)
    assert [step for step in reconcile(guest, tree).plan.steps if step.action is not Action.KEEP] == []
    launch = prepared_rehearsal(guest, tree)
    with rehearsal(launch) as qemu:
        assert guest_visible(checked(qemu, launch)[0]) == []
        after = dump(qemu.session)
    with script_itself(name, tmp_path) as qemu:
        before = dump(qemu.session)
        state = tmp_path / "state"
        if name in MIGRATES:
            save_state(qemu.session, state)
    if not launch.substitutes & set(tree.by_name):
        assert shape(after) == shape(before)
    if name in MIGRATES:
        assert refusal(launch, state, before) is None
    said = " ".join(words_from_options(prepared(guest, tree, wanted_by(guest, tree), via="device").options))
    assert [word for word in AGAIN.get(name, ()) if word not in said] == []


def golden(name: str, made: Imported) -> None:
    """The XML and what is said of it, as tests/imports has them."""
    said = "".join(f"{warning}\n" for warning in made.warnings)
    for suffix, text in ((".xml", made.xml), (".txt", said)):
        path = SCRIPTS / f"{name}{suffix}"
        text = text.replace(os.getcwd(), "/here")
        if "REGENERATE" in os.environ:
            path.write_text(text)
        assert path.read_text() == text


def test_another_machine_is_seen(tmp_path: Path) -> None:
    """The same checks, with a device moved in the description."""
    made = made_from("bare")
    place = next(place for place in made.tree.places if place.node.driver == "e1000")
    moved = tree_with(made.tree, {place.name: {"address": "0a.0"}})
    launch = prepared_rehearsal(guest_from_bytes(made.xml.encode(), "bare.xml"), moved)
    with rehearsal(launch) as qemu:
        after = dump(qemu.session)
    with script_itself("bare", tmp_path) as qemu:
        before = dump(qemu.session)
        save_state(qemu.session, tmp_path / "state")
    assert shape(after) != shape(before)
    assert refusal(launch, tmp_path / "state", before) is not None


@pytest.mark.usefixtures("libvirt")
@pytest.mark.skipif(not IS_GOLDEN, reason="the XML is of QEMU 7.2's machine types")
def test_libvirt_takes_the_xml(tmp_path: Path) -> None:
    """Each script's XML is one that libvirt defines and makes a command line of."""
    for name in NAMES:
        if name in NEEDS_ITS_HOST or not (SCRIPTS / f"{name}.xml").exists():
            continue
        guest = f"mdtool-import-{os.getpid()}"
        xml = tmp_path / f"{name}.xml"
        xml.write_text(re.sub("<name>.*</name>", f"<name>{guest}</name>", (SCRIPTS / f"{name}.xml").read_text(), count=1))
        try:
            for words in (["define", xml], ["domxml-to-native", "qemu-argv", "--domain", guest]):
                done = subprocess.run(
                    ["virsh", "-q", *words], capture_output=True, text=True, timeout=PATIENCE, check=False
                )
                assert done.returncode == 0, f"{name}: {done.stderr}"
        finally:
            subprocess.run(
                ["virsh", "-q", "undefine", "--nvram", guest], capture_output=True, timeout=PATIENCE, check=False
            )


def test_the_command_imports_and_its_files_agree(tmp_path: Path) -> None:
    script, xml, description = (tmp_path / f"web{end}" for end in (".sh", ".xml", ".yaml"))
    script.write_text((SCRIPTS / "webserver.sh").read_text())
    for words in (["import", script, "--xml", xml, "-o", description], ["reconcile", xml, description, "--dry-run"]):
        done = run_mdtool(*words)
        assert done.returncode == 0, done.stdout + done.stderr


def test_no_secret_of_the_script_goes_anywhere() -> None:
    made = made_from("secrets")
    everything = made.xml + yaml_from_tree(made.tree) + "\n".join(map(str, made.warnings))
    script = (SCRIPTS / "secrets.sh").read_text()
    for secret in ("geheim42", "c2VjcmV0NDI=", "hidden42", "QVFBbase42==", "chap4242"):
        assert secret in script and secret not in everything
    said = [warning for warning in made.warnings if warning.rule == "secret"]
    assert len(said) == 5 and all(warning.at and warning.remedy for warning in said)
    assert made.xml.count("<listen type='none'/>") == 2  # no display without its password


def test_an_error_has_no_secret_either() -> None:
    script = "qemu-system-x86_64 -m 64 -object secret,id=s,data=geheim42 -device e1000,nonsense=1 -spice port=1,password=geheim42\n"
    with pytest.raises(QemuError) as caught:
        imported(command_from_script(script, "s.sh", Report()), "web")
    assert "geheim42" not in str(caught.value)


def test_a_running_qemu_is_imported_by_its_pid(tmp_path: Path) -> None:
    """From its arguments, relative paths from its own folder; a copy of them says the same."""
    copy = tmp_path / "cmdline"
    with rehearsal(prepared_rehearsal(Path(__file__).parents[2] / "samples" / "web01" / "guest.xml", via="device")) as qemu:
        command = command_from_source(f"pid:{qemu.pid}", Report())
        copy.write_bytes(Path(f"/proc/{qemu.pid}/cmdline").read_bytes())
        assert command.folder == os.readlink(f"/proc/{qemu.pid}/cwd")
    assert Path(command.words[0].text).name == "qemu-system-x86_64" and "-device" in [word.text for word in command.words]
    assert [word.text for word in command_from_source(str(copy), Report()).words][1:] == [
        word.text for word in command.words
    ][1:]
    with pytest.raises(InputError, match="not a QEMU"):
        command_from_source(f"pid:{os.getpid()}", Report())


def test_a_qemu_behind_its_loader_is_imported_by_its_pid() -> None:
    command, environment = rooted(["qemu-system-x86_64", "-M", "none", "-display", "none", "-S"], "/")
    process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
    try:
        until(lambda: "-S" in arguments_of(process.pid), of=process)
        read = command_from_source(f"pid:{process.pid}", Report())
    finally:
        process.kill()
        process.wait()
    words = [word.text for word in read.words]
    assert Path(words[0]).name == "qemu-system-x86_64" and words[-5:] == ["-M", "none", "-display", "none", "-S"]


def test_stdin_is_a_source(tmp_path: Path) -> None:
    text = "qemu-system-x86_64 -nodefaults -m 64 -display none -drive file=d.img,if=virtio\n"
    done = run_mdtool("import", "-", "--xml", "g.xml", "-o", "g.yaml", cwd=tmp_path, stdin=text)
    assert done.returncode == 0, done.stderr
    assert f"file='{tmp_path}/d.img'" in (tmp_path / "g.xml").read_text()


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("#!/bin/sh\nqemu-system-x86_64 \\\n  -hda $DISK\n", "s.sh:3:8", "$DISK is set outside of the script"),
        ("if x; then D=a; fi\nqemu-system-x86_64 -hda $D\n", "s.sh:2:25", "$D is set under a condition"),
        ("qemu-system-x86_64 -hda $(pick-a-disk)\n", "s.sh:1:25", "only a run can tell what $(...) prints"),
        ("qemu-system-x86_64 -cdrom *.iso\n", "s.sh:1:27", "only a run can tell which files"),
        ("ls -l\n", "s.sh:1:1", "no QEMU command line in it"),
        ("qemu-system-x86_64 -m 64 -hda\n", "s.sh:1:26", "-hda needs an argument"),
        ("qemu-system-x86_64 -hda 'a\n", "s.sh:1:25", "not a command line that can be read"),
        ("qemu-system-x86_64 -soundhw hda\n", "s.sh:1:29", "-soundhw is no longer an option of QEMU"),
        ("qemu-system-x86_64 -device '{\"driver\":'\n", "s.sh:1:28", "not JSON"),
        ("qemu-system-x86_64 -set device.x.mac=1\n", "s.sh:1:25", "there is no such option"),
        ("qemu-system-x86_64 -readconfig /nowhere\n", "s.sh:1:32", "cannot read /nowhere"),
        ("qemu-system-x86_64 -hda a\x07b\n", "s.sh:1:25", "which is not text"),
    ],
)
def test_what_cannot_be_read_is_told_at_its_place(text: str, place: str, what: str) -> None:
    with pytest.raises((InputError, Errors)) as caught:
        options_from_command(command_from_script(text, "s.sh", Report()), Report())
    assert str(caught.value.at) == place
    assert what in caught.value.what


@pytest.mark.parametrize(
    ("words", "place"),
    [("-device e1000,nonsense=1", "s.sh:2:11"), ("-no-such-flag", "s.sh:2:3"), ("-M nonsense", "s.sh:2:6")],
)
def test_a_refused_option_is_told_at_its_place(words: str, place: str) -> None:
    script = f"qemu-system-x86_64 -m 64 \\\n  {words}\n"
    with pytest.raises(QemuError) as caught:
        imported(command_from_script(script, "s.sh", Report()), "web")
    assert str(caught.value.at) == place


def test_every_option_of_this_qemu_has_a_row() -> None:
    """And takes an argument where QEMU takes one."""
    from mdtool.commandline.table import OPTIONS

    text = subprocess.run(
        ["qemu-system-x86_64", "-help"], capture_output=True, text=True, timeout=PATIENCE, check=True
    ).stdout
    names = {name for found in re.findall(r"^-{1,2}([\w/-]+)", text, re.M) for name in found.replace("/-", " ").split()}
    assert names - OPTIONS.keys() - {"M"} == set()
    takes = {}
    for name in names:  # QEMU looks at all options before it looks at any, and the first one ends it
        words = ["qemu-system-x86_64", "-version", f"-{name}"]
        done = subprocess.run(words, capture_output=True, text=True, timeout=PATIENCE, check=False)
        takes[name] = "requires an argument" in done.stderr
    assert takes == {name: name == "M" or OPTIONS[name].argument for name in names}


def test_an_option_that_nobody_knows_is_kept_and_said() -> None:
    report = Report()
    command = command_from_script("qemu-system-x86_64 -later-flag -other-flag 5 -m 64\n", "s.sh", report)
    assert [o for o in options_from_command(command, report) if o.name != "m"] == [
        Option("later-flag", None, command.words[1].position),
        Option("other-flag", "5", command.words[3].position),
    ]
    assert [str(warning) for warning in report.warnings] == [
        "s.sh:1:20: warning: -later-flag is not known; it is kept unchanged [option-known]",
        "s.sh:1:44: warning: -other-flag is not known; it is kept unchanged, with '5' as its argument [option-known]",
    ]


@pytest.mark.parametrize(
    "line", ["qemu-system-x86_64 -M q35 -m 900G", "qemu-system-aarch64 -M virt -cpu cortex-a57 -m 200G"]
)
def test_the_host_needs_no_memory_for_it(line: str) -> None:
    made = imported(command_from_script(line, "s.sh", Report(), "/vm"), "big", Report())
    assert made.tree.memory["size"] == int(line.rpartition(" ")[2][:-1]) << 30
    assert len(made.tree.objects) == 1


@pytest.mark.parametrize(
    "medium", ["-cdrom a.iso", "-drive if=none,id=c,media=cdrom,file=a.iso -device virtio-blk-ccw,drive=c"]
)
def test_a_cd_in_a_disk_is_not_written_to(medium: str) -> None:
    made = imported(command_from_script(f"qemu-system-s390x -m 128 {medium}", "s.sh", Report(), "/vm"), "cd", Report())
    assert "bus='virtio'/><readonly/>" in made.xml


@pytest.mark.parametrize("command", [["import", "--xml", "x.xml"], ["dump"]])
def test_a_qemu_that_is_not_here_has_its_place(
    command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s.sh").write_text("# a board\nexec qemu-system-none64 -m 256\n")
    assert mdtool(command[0], "s.sh", *command[1:], "-o", "x.yaml") == 2
    assert "s.sh:2:6: error: no such QEMU: qemu-system-none64" in capsys.readouterr().err
