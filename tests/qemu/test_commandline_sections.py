"""What <qemu:commandline> says of the guest is described, launched and compared as one machine."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support import PATIENCE, run_mdtool

from mdtool.commandline.option import Option
from mdtool.errors import InputError, Report
from mdtool.guest.commandline import undescribed
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.elements.outside import wanted_outside
from mdtool.guest.platform import sections_from_guest
from tests.conftest import require

XML = (
    "<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>"
    "<memory unit='MiB'>128</memory><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices/>"
    "<qemu:commandline>{}</qemu:commandline></domain>"
)
#: options -> what the description has of them
SAID = {
    "-fw_cfg opt/a-64Mb,string=65536 -fw_cfg name=opt/b,string=x,,y": {
        "features": {"fw_cfg": {"opt/a-64Mb": "65536", "opt/b": "x,y"}}
    },
    "-smbios type=1,manufacturer=Acme -smbios type=1,serial=7 -smbios type=11,value=a,value=b": {
        "smbios": {"type1": {"manufacturer": "Acme", "serial": "7"}, "type11": ["a", "b"]}
    },
    "-smbios type=11,value=a,path={folder}/file -smbios file={folder}/table": {"smbios": {"type11": ["a"]}},
    "-fw_cfg opt/f,file={folder}/file": {},
    "-global e1000e.subsys=5 -global driver=ICH9-LPC,property=disable_s3,value=1": {
        "features": {"globals": {"e1000e.subsys": 5, "ICH9-LPC.disable_s3": 1}}
    },
    "-boot dc,menu=on,splash-time=3000": {
        "boot": {"strict": True, "order": "dc", "menu": True, "splash-time": 3000}
    },
    "-boot strict=off": {"boot": {"strict": False}},
    "-rtc base=localtime,clock=vm": {"clock": {"base": "localtime", "timers": {"rtc": {"track": "guest"}}}},
    "-rtc driftfix=slew": {"clock": {"base": "utc", "timers": {"rtc": {"tickpolicy": "catchup"}}}},
    "-M hpet=off": {"machine": {"type": "pc-q35-7.2", "arch": "x86_64", "properties": {"acpi": "off", "hpet": False}}},
    "-drive if=pflash,format=raw,readonly=on,file={folder}/code": {"firmware": {"kind": "pflash"}},
    "-blockdev driver=file,node-name=c,filename={folder}/code,read-only=on -M pflash0=c": {"firmware": {"kind": "pflash"}},
}  # fmt: skip


def written(options: str, folder: Path) -> Path:
    (folder / "file").write_text("text")
    (folder / "table").write_bytes(bytes((201, 4, 0, 1, 0, 0)))
    (folder / "code").write_bytes(bytes(1 << 20))
    words = options.format(folder=folder).split()
    path = folder / "g.xml"
    path.write_text(XML.format("".join(f"<qemu:arg value='{word}'/>" for word in words)))
    return path


@pytest.mark.usefixtures("older_libvirt")
@pytest.mark.parametrize("options", SAID)
def test_what_the_options_say_is_described_and_launched(options: str, tmp_path: Path) -> None:
    xml, description = written(options, tmp_path), tmp_path / "g.yaml"
    guest = guest_from_bytes(xml.read_bytes(), "g.xml")
    sections = sections_from_guest(guest, Report())
    assert {name: sections.get(name) for name in SAID[options]} == SAID[options]
    done = run_mdtool("reconcile", xml, description)
    assert done.returncode == 0, done.stderr
    done = run_mdtool("launch", xml, description, "--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr
    pidfile = tmp_path / "pid"
    done = run_mdtool("launch", xml, description, "--paused", "--daemonize", "--pidfile", pidfile, "--qmp", tmp_path / "q")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        for command in ("verify", "diff"):
            done = run_mdtool(command, description, f"pid:{pidfile.read_text().strip()}")
            assert done.returncode == 0, done.stdout + done.stderr
    finally:
        if pidfile.exists():
            subprocess.run(["kill", "-9", pidfile.read_text().strip()], timeout=PATIENCE, check=False)


@pytest.mark.parametrize(
    ("machine", "device", "known"),
    [
        ("pc-q35-7.2", "edu,bus=pci.0,addr=5", False),
        ("pc", "edu,bus=pcie.0", False),
        ("pc", "edu,bus=pci.0", True),
        ("q35", "edu,bus=pcie.0,addr=0x5", True),
        ("q35", "pcie-pci-bridge,id=pci.0", True),
    ],
)
def test_pci_bus_0_of_another_machine_is_refused(machine: str, device: str, known: bool) -> None:
    said = "".join(f"<qemu:arg value='{word}'/>" for word in ("-device", device, "-device", "edu,bus=pci.0,addr=6"))
    if "id=pci.0" not in device:
        said = f"<qemu:arg value='-device'/><qemu:arg value='{device}'/>"
    guest = guest_from_bytes(XML.format(said).replace("pc-q35-7.2", machine).encode(), "g.xml")
    try:
        assert known == bool(list(wanted_outside(guest)))
    except InputError as error:
        assert not known and error.rule == "bus-known" and error.at is not None


@pytest.mark.parametrize(
    "device",
    [
        "vfio-pci,host=01:00.0,multifunction=on",
        "vfio-pci,host=01:00.0,bus=rp1,addr=00.0",
        "e1000e,id=n -set device.n.subsys=5 -set device.balloon0.deflate-on-oom=on",
    ],
)
def test_a_device_of_the_host_and_set_rehearse(device: str, tmp_path: Path) -> None:
    """As people have graphics cards: beside a port of their own, nothing moves, and a rehearsal needs none of them."""
    require("qemu-system-x86_64")
    options = f"-device ioh3420,id=rp1,chassis=11,slot=1,bus=pcie.0,addr=0x1c.0,multifunction=on -device {device}"
    guest, description = written(options, tmp_path), tmp_path / "g.yaml"
    assert run_mdtool("reconcile", guest, description).returncode == 0
    before = description.read_bytes()
    done = run_mdtool("reconcile", guest, description)
    assert "no changes" in done.stdout and description.read_bytes() == before
    done = run_mdtool("launch", guest, description, "--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr
    assert ("deflate-on-oom: true" in before.decode()) is ("-set" in device)


def test_json_in_single_quotes_is_a_device(tmp_path: Path) -> None:
    """As the documentation of Looking Glass has it."""
    require("qemu-system-x86_64")
    said = """<qemu:arg value='-object'/><qemu:arg value="{'qom-type':'memory-backend-ram','id':'lg','size':1048576}"/>
        <qemu:arg value='-device'/><qemu:arg value="{'driver':'ivshmem-plain','id':'shmem0','memdev':'lg'}"/>"""
    guest, description = tmp_path / "g.xml", tmp_path / "g.yaml"
    guest.write_text(XML.format(said))
    for count in ("6 to add", "no changes"):
        done = run_mdtool("reconcile", guest, description)
        assert done.returncode == 0 and count in done.stdout, done.stderr
    assert "driver: ivshmem-plain" in description.read_text()
    done = run_mdtool("launch", guest, description, "--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr


def test_an_option_over_the_xml_is_what_counts() -> None:
    said = "".join(f"<qemu:arg value='{word}'/>" for word in ("-rtc", "clock=vm", "-boot", "strict=off"))
    xml = XML.format(said).replace("<devices/>", "<clock offset='localtime'/><devices/>")
    sections = sections_from_guest(guest_from_bytes(xml.encode(), "g.xml"), Report())
    assert sections["clock"] == {"base": "localtime", "timers": {"rtc": {"track": "guest"}}}
    assert sections["boot"] == {"strict": False}


@pytest.mark.parametrize(
    ("name", "value", "left"),
    [
        ("boot", "order=c,splash=/x", "splash=/x"),
        ("fw_cfg", "opt/f,file=/x", "opt/f,file=/x"),
        ("global", "e1000.romfile=/x", "e1000.romfile=/x"),
        ("global", "e1000.autonegotiation=off", None),
        ("rtc", "base=2006-06-17T16:01:21", "base=2006-06-17T16:01:21"),
        ("rtc", "clock=vm", None),
        ("smbios", "type=11,value=a,path=/x", "type=11,path=/x"),
    ],
)
def test_what_is_of_the_host_reaches_qemu_as_it_is(name: str, value: str, left: str | None) -> None:
    found = undescribed(Option(name, value))
    assert (found and found.value) == left


def test_memory_that_qemu_commandline_defines_is_there_once(tmp_path: Path) -> None:
    """A dump has the memory behind a device among the objects of the machine; so do arguments of Looking Glass."""
    require("qemu-system-x86_64")
    options = "-object memory-backend-ram,id=lg,size=1M,share=on -device ivshmem-plain,memdev=lg,bus=pcie.0,addr=10"
    guest, tree = written(options, tmp_path), tmp_path / "guest.yaml"
    run_mdtool("dump", guest, "-o", tree)
    assert "lg: {type: memory-backend-ram" in tree.read_text()
    done = run_mdtool("launch", guest, tree, "--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    "cards", [["qxl' ram='65536' vgamem='65536", "qxl' vgamem='1024", "qxl' vgamem='524288"], ["vga' vram='1048576"]]
)
def test_video_memory_is_described_as_qemu_bounds_it(cards: list[str], tmp_path: Path) -> None:
    require("qemu-system-x86_64")
    guest, tree = tmp_path / "guest.xml", tmp_path / "guest.yaml"
    videos = "".join(f"<video><model type='{card}'/></video>" for card in cards)
    guest.write_text(XML.format("").replace("<devices/>", f"<devices>{videos}</devices>"))
    run_mdtool("reconcile", guest, tree)
    done = run_mdtool("launch", guest, tree, "--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_codec_that_an_argument_makes_is_known_again(tmp_path: Path) -> None:
    require("qemu-system-x86_64")
    options = "-audiodev none,id=own -device ich9-intel-hda,id=snd -device hda-micro,bus=snd.0,cad=1,audiodev=own"
    guest, tree = written(options, tmp_path), tmp_path / "guest.yaml"
    run_mdtool("dump", guest, "-o", tree)
    assert run_mdtool("reconcile", guest, tree).stdout.startswith("no changes")
