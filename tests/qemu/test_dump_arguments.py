"""What no monitor tells comes from the arguments of the process: the same sections as the guest XML makes."""

from __future__ import annotations

import hashlib
import os
import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdtool.cli import main
from mdtool.commandline.config import options_from_config
from mdtool.commandline.option import Option, options_from_words
from mdtool.commandline.process import program_in
from mdtool.commandline.sections import sections_from_options
from mdtool.errors import InputError, MdtoolError, Report
from mdtool.guest.devices import guest_from_bytes, guest_from_file
from mdtool.guest.model import Guest
from mdtool.guest.platform import platform_of, sections_from_guest
from mdtool.launch.start import started
from mdtool.machine.document import document_from_file
from mdtool.machine.tree import Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.arguments import completed
from mdtool.qemu.dump import dump
from mdtool.qemu.session import session_from_source
from tests.support_dump import binary_of, recording, running, serving
from tests.support_launch import MACHINES, pc, prepared
from tests.support_waiting import PATIENCE, child_called, reserved_ports, until

CASES = Path(__file__).parent.parent / "cases"
SECTIONS = ("machine", "cpu", "memory", "numa", "firmware", "boot", "smbios", "features", "clock", "objects")

UUID = "3f1c0000-0000-4000-8000-00000000000b"
GUEST = """\
<domain type='qemu'>
  <name>told</name>
  <uuid>3f1c0000-0000-4000-8000-00000000000b</uuid>
  <memory unit='MiB'>96</memory>
  <vcpu>4</vcpu>
  <os>
    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>
    <loader readonly='yes' type='pflash'>{folder}/code.fd</loader>
    <nvram>{folder}/vars.fd</nvram>
    <bootmenu enable='yes' timeout='3000'/>
    <smbios mode='sysinfo'/>
  </os>
  <sysinfo type='smbios'>
    <bios><entry name='vendor'>Acme, Inc.</entry><entry name='version'>1.2</entry></bios>
    <system><entry name='manufacturer'>Acme</entry><entry name='serial'>007</entry></system>
    <baseBoard><entry name='manufacturer'>Board</entry></baseBoard>
    <chassis><entry name='asset'>A=1</entry></chassis>
    <oemStrings><entry>one</entry><entry>two, three</entry></oemStrings>
  </sysinfo>
  <sysinfo type='fwcfg'><entry name='opt/org.example/key'>a, b</entry></sysinfo>
  <features><acpi/><apic/><vmport state='off'/><pmu state='off'/></features>
  <cpu mode='custom' match='exact'><model>Nehalem</model>
    <topology sockets='2' cores='2' threads='1'/>
    <feature policy='require' name='x2apic'/><feature policy='disable' name='sse4_2'/>
    <numa>
      <cell id='0' cpus='0-1' memory='64' unit='MiB'>
        <distances><sibling id='0' value='10'/><sibling id='1' value='21'/></distances>
        <cache level='1' associativity='direct' policy='writeback'>
          <size value='10' unit='KiB'/><line value='8' unit='B'/>
        </cache>
      </cell>
      <cell id='1' cpus='2,3' memory='32' unit='MiB'>
        <distances><sibling id='0' value='21'/><sibling id='1' value='10'/></distances>
        <cache level='1' associativity='direct' policy='writeback'>
          <size value='10' unit='KiB'/><line value='8' unit='B'/>
        </cache>
      </cell>
      <interconnects>
        <latency initiator='0' target='0' type='access' value='5'/>
        <latency initiator='1' target='1' type='access' value='7'/>
        <bandwidth initiator='0' target='0' type='access' value='204800' unit='KiB'/>
        <bandwidth initiator='1' target='1' type='access' value='204800' unit='KiB'/>
      </interconnects>
    </numa>
  </cpu>
  <clock offset='localtime'>
    <timer name='rtc' tickpolicy='catchup' track='guest'/><timer name='hpet' present='no'/>
  </clock>
  <pm><suspend-to-mem enabled='no'/><suspend-to-disk enabled='yes'/></pm>
  <devices>
    <interface type='user'><mac address='52:54:00:00:00:0a'/><model type='e1000e'/></interface>
    <memballoon model='none'/>
  </devices>
</domain>
"""


def sections(path: Path) -> dict[str, object]:
    tree = document_from_file(str(path)).tree
    return {name: getattr(tree, name) for name in SECTIONS}


# --- options read backwards ----------------------------------------------------------------------------------------


def chosen(all_sections: dict[str, dict[str, object]]) -> dict[str, object]:
    """What a command line alone has: the whole of these, and a part of those that QEMU tells the rest of."""
    found: dict[str, object] = {name: all_sections.get(name, {}) for name in ("smbios", "features", "clock")}
    found["cpu"] = all_sections.get("cpu", {}).get("features")
    found["machine"] = all_sections.get("machine", {}).get("properties")
    found["distances"] = all_sections.get("numa", {}).get("distances")
    return found


def read_backwards(guest: Guest) -> tuple[dict[str, object], dict[str, object]]:
    wanted = sections_from_guest(guest, Report())
    words = platform_of(guest, Tree(**wanted), printing=True).words
    return chosen(wanted), chosen(sections_from_options(options_from_words(words)))


def test_options_read_backwards_are_the_xml_s_sections() -> None:
    """Of every guest among the golden cases that can be read."""
    seen = []
    for path in sorted(CASES.glob("*/guest.xml")):
        try:
            wanted, said = read_backwards(guest_from_file(str(path)))
        except MdtoolError:
            continue  # the case is about that error
        assert said == wanted, path
        seen.append(wanted)
    assert len(seen) > 20
    assert any(wanted["machine"] for wanted in seen)
    wanted, said = read_backwards(guest_from_bytes(GUEST.encode(), "guest.xml"))
    assert said == wanted
    other = GUEST.replace("<entry name='serial'>007", "<entry name='serial'>008")
    assert read_backwards(guest_from_bytes(other.encode(), "guest.xml"))[1] != wanted  # the control


@pytest.mark.parametrize(
    ("words", "section", "said"),
    [
        ("-cpu host,+aes,-vmx,hv_spinlocks=0x1fff,phys-bits=40,check", "cpu",
         {"model": "host", "features": {"aes": True, "vmx": False, "hv-spinlocks": "0x1fff", "phys-bits": 40}}),
        ("-M pc,accel=kvm,usb=off,kernel-irqchip=split,smp.cpus=2 -machine hpet=off,vmport=auto,gic-version=3", "machine",
         {"properties": {"gic-version": "3", "hpet": False, "kernel_irqchip": "split"}}),
        ("-global driver=e1000,property=autonegotiation,value=off -global virtio-blk-pci.ioeventfd=off", "features",
         {"globals": {"e1000.autonegotiation": False}}),
        ("-global cfi.pflash01.secure=on -global migration.x-multifd=on -global e1000.romfile=/srv/x.rom -fw_cfg opt/a,string=1", "features",
         {"fw_cfg": {"opt/a": "1"}}),
        ("-smbios type=1,serial=a -smbios type=1,serial=b,sku=c -smbios type=17,loc_pfx=D", "smbios",
         {"type1": {"serial": "b", "sku": "c"}, "type17": {"loc_pfx": "D"}}),
        ("-rtc base=2020-01-01T00:00:00,clock=rt", "clock", {"timers": {"rtc": {"track": "realtime"}}}),
        ("-kernel /srv/vmlinuz -append a=1,b", "boot", {"kernel": True, "append": "a=1,b"}),
        ("-numa dist,src=0,dst=1,val=21 -numa node,nodeid=1,mem=1G", "numa",
         {"distances": [{"src": 0, "dst": 1, "val": 21}], "nodes": [{"id": 1, "memory": 1 << 30}]}),
        ("-object sev-guest,id=s,policy=0x3,kernel-hashes=on,session-file=/srv/secret", "features",
         {"launch_security": {"type": "sev", "policy": 3, "kernel-hashes": True}}),
        ("-S -m 64 -nographic", "machine", None),
    ],
)  # fmt: skip
def test_what_options_say(words: str, section: str, said: object) -> None:
    assert sections_from_options(options_from_words(words.split())).get(section) == said


@pytest.mark.parametrize(
    "words",
    [
        "-fw_cfg file=/srv/x",
        "-global e1000.x",
        "-global e1000=on",
        "-object sev-guest,id=s,policy=lax",
        "-global driver=e1000,value=1",
    ],
)
def test_options_that_qemu_would_refuse(words: str) -> None:
    with pytest.raises(InputError, match="not as QEMU takes it"):
        sections_from_options(options_from_words(words.split()), lambda _: "00")


@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["machine", "global", "object", "cpu", "numa", "m", "rtc", "smbios", "fw_cfg", "bios", "drive"]
            ),
            st.text("a.=,-+0 {}\"'x:", max_size=12)
            | st.sampled_from(
                ["type=11,value=a,value=b", "dist,src=0", "node,nodeid=x", "if=pflash,file=/c", "type=2,=,,"]
            ),
        ),
        max_size=6,
    )
)
def test_no_option_is_a_traceback(said: list[tuple[str, str]]) -> None:
    """Whatever it says: sections that a description can hold, or an error."""
    try:
        found = sections_from_options([Option(*one) for one in said], lambda _: "00")
    except MdtoolError:
        return
    assert found.keys() <= set(SECTIONS)


@pytest.mark.parametrize(
    ("words", "file"),
    [
        ("-drive if=pflash,file=/c,format=raw,readonly=on -drive if=pflash,file=/v", "/c"),
        ("-drive if=pflash,file=/c -drive if=pflash,unit=1,file=/v,readonly=on", None),
        ("-machine q35,pflash0=f -blockdev driver=raw,node-name=f,file=s,read-only=on "
         "-blockdev driver=file,node-name=s,filename=/c", "/c"),
        ("-machine q35,pflash0=f -blockdev driver=raw,node-name=f,file.driver=file,file.filename=/c,read-only=on", "/c"),
        ("-machine q35,pflash0=f -blockdev driver=file,node-name=f,filename=/c", None),
        ("-pflash /c", None),
    ],
)  # fmt: skip
def test_which_file_the_flash_is_read_from(words: str, file: str | None) -> None:
    """The hash is that of the first bank, where no guest writes to it."""
    asked: list[str] = []
    sections_from_options(options_from_words(words.split()), lambda path: asked.append(path) or "00")
    assert asked == ([file] if file else [])


# --- a guest that runs -----------------------------------------------------------------------------------------------


@dataclass
class Running:
    """A guest that mdtool launched: its folder, its monitor and QEMU's process."""

    folder: Path
    socket: Path
    pid: int


@pytest.fixture(scope="module")
def guest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    folder = tmp_path_factory.mktemp("told")
    (folder / "code.fd").write_bytes(b"firmware" * 16384)
    (folder / "vars.fd").write_bytes(bytes(65536))
    (folder / "guest.xml").write_text(GUEST.format(folder=folder).replace(UUID, str(uuid.uuid4())))
    assert main(["reconcile", str(folder / "guest.xml"), str(folder / "guest.yaml")]) == 0
    words = [sys.executable, "-m", "mdtool", "launch", "guest.xml", "guest.yaml", "--paused", "--qmp", "q"]
    with open(folder / "log", "w") as log:
        mdtool = subprocess.Popen(words, cwd=folder, stdout=log, stderr=log)
    try:
        until(lambda: "as described" in (folder / "log").read_text(), of=mdtool, told=(folder / "log").read_text)
        yield Running(folder, folder / "q", child_called("qemu-system", mdtool.pid))
    finally:
        mdtool.send_signal(signal.SIGTERM)
        mdtool.wait(PATIENCE)


def dumped(guest: Running, source: str, name: str) -> Path:
    out = guest.folder / f"{name}.yaml"
    assert main(["dump", source, "-o", str(out)]) == 0
    return out


def test_a_launched_guest_says_what_its_xml_says(guest: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """By its process, its socket, and its command line in a file: every section as a dump of the XML has it."""
    words = Path(f"/proc/{guest.pid}/cmdline").read_bytes().decode().split("\0")[:-1]
    (guest.folder / "line.sh").write_text(" ".join(f"'{word}'" for word in words))
    wanted = sections(dumped(guest, str(guest.folder / "guest.xml"), "xml"))
    assert wanted["firmware"] == {"kind": "pflash", "sha256": hashlib.sha256(b"firmware" * 16384).hexdigest()}
    for source, name in ((f"pid:{guest.pid}", "pid"), (str(guest.socket), "q"), (str(guest.folder / "line.sh"), "line")):
        capsys.readouterr()
        out = dumped(guest, source, name)
        assert capsys.readouterr().err == ""
        assert sections(out) == wanted, source
        assert str(guest.folder) not in out.read_text()
        assert main(["reconcile", str(guest.folder / "guest.xml"), str(out), "--dry-run"]) <= 1
        told = capsys.readouterr().out
        assert not re.search(rf"^[~±!] +({'|'.join(SECTIONS)}) ", told, re.MULTILINE), told


def test_a_printed_launch_is_a_command_line(guest: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """Its here-document, which QEMU reads with -readconfig, is read too."""
    files = [str(guest.folder / name) for name in ("guest.xml", "guest.yaml")]
    assert main(["launch", *files, "--print"]) == 0
    printed = capsys.readouterr().out
    assert "-readconfig /dev/stdin" in printed
    (guest.folder / "printed.sh").write_text(printed)
    out = dumped(guest, str(guest.folder / "printed.sh"), "printed")
    assert capsys.readouterr().err == ""
    assert sections(out) == sections(dumped(guest, files[0], "again"))


def test_what_the_xml_has_otherwise_is_a_change(guest: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """The control: another serial, distance, fw_cfg string and CPU switch are each told."""
    out = dumped(guest, f"pid:{guest.pid}", "changed")
    text = (guest.folder / "guest.xml").read_text()
    for old, new in (("007", "008"), ("value='21'", "value='31'"), ("a, b", "a, c"), ("require", "disable")):
        assert old in text
        text = text.replace(old, new)
    (guest.folder / "other.xml").write_text(text)
    capsys.readouterr()
    assert main(["reconcile", str(guest.folder / "other.xml"), str(out), "--dry-run"]) == 1
    told = capsys.readouterr().out
    for section in ("smbios", "numa", "features", "cpu"):
        assert re.search(rf"^~!? +{section} ", told, re.MULTILINE), (section, told)


def test_firmware_of_another_version_is_told_and_starts(guest: Running, capsys: pytest.CaptureFixture[str]) -> None:
    """verify says so; a reconcile keeps what is described, and a launch goes on."""
    out = dumped(guest, str(guest.folder / "guest.xml"), "firmware")
    real = hashlib.sha256(b"firmware" * 16384).hexdigest()
    out.write_text(out.read_text().replace(real, "0" * 64))
    assert main(["reconcile", str(guest.folder / "guest.xml"), str(out)]) == 0
    assert "0" * 64 in out.read_text()
    capsys.readouterr()
    assert main(["verify", str(out), str(guest.socket), "--json"]) == 1
    assert '"severity": "firmware"' in capsys.readouterr().out
    text = (guest.folder / "guest.xml").read_text()
    old, new = re.findall("<uuid>(.*)</uuid>", text)[0], str(uuid.uuid4())
    text = text.replace(old, new).replace("<name>told", "<name>again").replace("vars.fd", "vars2.fd")
    (guest.folder / "again.xml").write_text(text)
    (guest.folder / "vars2.fd").write_bytes(bytes(65536))
    again = guest.folder / "again.yaml"
    again.write_text(out.read_text().replace(old, new).replace("name: told", "name: again"))
    words = [sys.executable, "-m", "mdtool", "launch", "again.xml", "again.yaml", "--paused", "--qmp", "q2"]
    with open(guest.folder / "log2", "w") as log:
        process = subprocess.Popen(words, cwd=guest.folder, stdout=log, stderr=log)
    until(lambda: "as described" in (guest.folder / "log2").read_text(), of=process, told=(guest.folder / "log2").read_text)
    process.send_signal(signal.SIGTERM)
    process.wait(PATIENCE)


@pytest.fixture
def libvirts(libvirt: str, tmp_path: Path) -> Iterator[Path]:
    """The XML of a paused guest that libvirt runs; its strings have no comma, which libvirt 9 does not write twice."""
    name = f"mdtool-{uuid.uuid4().hex[:8]}"
    text = re.sub(r" *<(loader|nvram).*\n", "", GUEST).replace("a, b", "a b").replace("Acme, Inc.", "Acme Inc.")
    text = text.replace("told</name>", f"{name}</name>").replace("sse4_2", "sse4.2")
    (tmp_path / name).write_text(re.sub("<uuid>.*</uuid>", f"<uuid>{uuid.uuid4()}</uuid>", text))
    virsh = ["virsh", "-q"]
    subprocess.run([*virsh, "define", str(tmp_path / name)], check=True, timeout=PATIENCE)
    try:
        subprocess.run([*virsh, "start", "--paused", name], check=True, timeout=PATIENCE)
        path = tmp_path / f"{name}.xml"
        done = subprocess.run([*virsh, "dumpxml", "--inactive", name], check=True, timeout=PATIENCE, capture_output=True)
        path.write_bytes(done.stdout)
        yield path
    finally:
        for verb in ("destroy", "undefine"):
            subprocess.run([*virsh, verb, name], timeout=PATIENCE, check=False, capture_output=True)


def test_a_guest_of_libvirt_says_what_its_xml_says(libvirts: Path, capsys: pytest.CaptureFixture[str]) -> None:
    wanted, found = libvirts.with_suffix(".xml.yaml"), libvirts.with_suffix(".yaml")
    assert main(["dump", str(libvirts), "-o", str(wanted)]) == 0
    assert main(["dump", f"libvirt:{libvirts.stem}", "-o", str(found)]) == 0
    assert capsys.readouterr().err == ""
    assert sections(found) == sections(wanted)
    assert main(["reconcile", str(libvirts), str(found), "--dry-run"]) == 1  # what the XML set is not recorded yet
    assert "no changes" in capsys.readouterr().out


# --- out of sight ----------------------------------------------------------------------------------------------------

SAID = "-machine pc-i440fx-7.2 -m 16 -smbios type=1,serial=abc -fw_cfg opt/a,string=b"


def test_arguments_out_of_sight_are_a_line_and_no_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Behind a relay, behind TCP: another process listens there, or nobody knows which."""
    tcp = f"{SAID} -qmp tcp:127.0.0.1:%d,server=on,wait=off"
    with reserved_ports(1) as (port,), running(binary_of("x86_64"), tcp % port, tmp_path) as path:
        assert main(["dump", path]) == 0
        direct = capsys.readouterr()
        assert main(["dump", f"tcp:127.0.0.1:{port}"]) == 0
        by_tcp = capsys.readouterr()
        with serving(tmp_path, recording(path, [])) as relay:
            assert main(["dump", relay]) == 0
        behind = capsys.readouterr()
    for said in (behind, by_tcp):
        assert said.err.count("\n") == 1
        assert "SMBIOS, fw_cfg, NUMA distances and chosen CPU features" in said.err
        assert "serial: abc" not in said.out
    assert direct.err == ""
    assert "smbios: {type1: {serial: abc}}" in direct.out
    assert "fw_cfg: {opt/a: b}" in direct.out


def test_a_process_that_cannot_be_read_is_a_line_and_no_failure(tmp_path: Path) -> None:
    warned: list[str] = []
    with running(binary_of("x86_64"), SAID, tmp_path) as path, session_from_source(path) as session:
        tree = dump(session)
        assert completed(tree, session, warned.append).smbios == {"type1": {"serial": "abc"}}
        assert warned == []
        for pid, words in ((2**22 + 1, "No such file"), (os.getpid(), "is not a QEMU")):
            session.pid = pid
            assert completed(tree, session, warned.append) == tree
            assert words in warned.pop()
        other = "-machine none -uuid 3f1c0000-0000-4000-8000-00000000000d"
        with running(binary_of("x86_64"), other, tmp_path, "other") as theirs, session_from_source(theirs) as second:
            session.pid = second.pid
            assert completed(tree, session, warned.append) == tree
            assert "it is another guest's" in warned.pop()


def test_a_file_for_readconfig_that_is_gone_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = tmp_path / "machine.cfg"
    config.write_text('[machine]\n  type = "pc-q35-7.2"\n  vmport = "off"\n\n[fw_cfg]\n  name = "opt/c"\n  string = "d"\n')
    with running(binary_of("x86_64"), f"-m 16 -smbios type=1,serial=abc -readconfig {config}", tmp_path) as path:
        assert main(["dump", path]) == 0
        read = capsys.readouterr()
        config.unlink()
        assert main(["dump", path]) == 0
        gone = capsys.readouterr()
    assert read.err == ""
    assert "fw_cfg: {opt/c: d}" in read.out
    assert f"-readconfig {config} cannot be read" in gone.err
    assert "serial: abc" in gone.out
    assert "opt/c" not in gone.out


def test_the_monitor_may_stand_in_the_file(tmp_path: Path) -> None:
    config = tmp_path / "machine.cfg"
    monitor = f'[chardev "m"]\n  backend = "socket"\n  path = "{tmp_path}/second"\n  server = "on"\n  wait = "off"\n'
    config.write_text(f'{monitor}[mon]\n  chardev = "m"\n  mode = "control"\n[name]\n  guest = "filed"\n')
    with running(binary_of("x86_64"), f"-m 16 -pidfile {tmp_path}/pid -readconfig {config}", tmp_path, "first"):
        pid = int((tmp_path / "pid").read_text())
        with session_from_source(f"pid:{pid}") as session:
            assert session.execute("query-name") == {"name": "filed"}
            assert session.pid == pid


def test_files_are_known_by_what_is_in_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Not by their paths, and nothing of what they hold is told."""
    (tmp_path / "ignition").write_text("password: hunter2")
    (tmp_path / "bios.bin").write_bytes(b"\x90" * 65536)
    options = f"{SAID} -fw_cfg name=opt/file,file={tmp_path}/ignition -bios {tmp_path}/bios.bin"
    (tmp_path / "start.sh").write_text(f"qemu-system-x86_64 -nodefaults {options}")
    with running(binary_of("x86_64"), options, tmp_path) as path:
        for source in (path, str(tmp_path / "start.sh")):
            assert main(["dump", source, "-o", str(tmp_path / "out.yaml")]) == 0
            assert capsys.readouterr().err == ""
            text = (tmp_path / "out.yaml").read_text()
            tree = document_from_file(str(tmp_path / "out.yaml")).tree
            assert tree.features["fw_cfg_files"] == {"opt/file": hashlib.sha256(b"password: hunter2").hexdigest()}
            assert tree.firmware == {"kind": "bios", "sha256": hashlib.sha256(b"\x90" * 65536).hexdigest()}
            assert "hunter2" not in text
            assert str(tmp_path) not in text
            assert yaml_from_tree(tree) == text


def test_a_command_line_with_what_no_laptop_has(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A passed-through card, KVM's CPU, more memory than TCG addresses, a kernel and firmware that are not here."""
    line = (
        "qemu-system-x86_64 -nodefaults -machine pc-q35-7.2,accel=kvm,confidential-guest-support=sev0 -enable-kvm "
        "-cpu host,hv-time=on,hv_spinlocks=0x1fff,+invtsc -m 64,slots=2,maxmem=4096G -object sev-guest,id=sev0,policy=1 "
        "-kernel /no/vmlinuz -append quiet -bios /no/bios -fw_cfg name=opt/f,file=/no/file "
        "-device pcie-root-port,id=p1,chassis=1 -device vfio-pci,host=01:00.0,bus=p1,addr=0,x-vga=on "
        "-device vhost-vsock-pci,guest-cid=7,id=vs0,addr=9 -device qemu-xhci -device usb-host,vendorid=1,productid=2"
    )
    (tmp_path / "start.sh").write_text(line)
    assert main(["dump", str(tmp_path / "start.sh"), "-o", str(tmp_path / "out.yaml")]) == 0
    assert capsys.readouterr().err == ""
    tree = document_from_file(str(tmp_path / "out.yaml")).tree
    nodes = {place.node.driver: place for place in tree.places}
    assert nodes["vfio-pci"].address == ("p1", "00.0")
    assert nodes["vfio-pci"].node.properties == {"x-vga": "on"}
    assert nodes["vfio-pci"].node.pins == nodes["vfio-pci"].node.pci == {}  # nobody knows them before it was there
    assert nodes["vfio-pci"].name == "vfio-pci@p1/00.0"
    assert nodes["vhost-vsock-pci"].name == "vs0"
    assert "usb-host" in nodes
    assert tree.cpu["model"] == "host"
    assert tree.cpu["features"] == {"hv-time": True, "hv-spinlocks": "0x1fff", "invtsc": True}
    assert tree.memory == {"size": 64 << 20, "slots": 2, "max": 4096 << 30}
    assert tree.boot == {"kernel": True, "append": "quiet"}
    assert tree.features == {"launch_security": {"type": "sev", "policy": 1}}


def test_a_qemu_is_known_by_its_words() -> None:
    loader = ["/lib64/ld-linux-x86-64.so.2", "--library-path", "/x", "--argv0", "qemu-system-arm"]
    assert program_in(["/usr/bin/qemu-system-x86_64", "-S"]) == 0
    assert program_in([*loader, "/usr/bin/qemu-system-aarch64"]) == 5
    assert program_in(["/usr/bin/python3", "-m", "pytest", "tests/qemu"]) is None
    assert program_in(["socat", "UNIX-LISTEN:/run/qemu", "UNIX-CONNECT:/run/qemu-system-x86_64"]) is None
    assert program_in([]) is None


def test_a_dump_of_a_monitor_loads_nothing_of_guest_xml() -> None:
    """The table of elements costs half as much time as all the rest."""
    code = "import sys, mdtool.cli.dump, mdtool.qemu.arguments; print([m for m in sys.modules if m.startswith('mdtool.guest')])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=PATIENCE, check=True)
    assert done.stdout.strip() == "[]"


# --- the file --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", MACHINES)
def test_a_file_that_a_launch_wrote_is_read_back(name: str) -> None:
    """As options that say the same, whatever the order."""
    config = prepared(MACHINES[name](), "file").handover.config
    assert config
    options = options_from_config(config, "machine.cfg")
    again = prepared(["qemu-system-x86_64", *(word for option in options for word in option.words)], "file").handover
    assert again.config == config
    assert again.options == ()
    assert {option.position.line for option in options if option.position} == {
        number for number, line in enumerate(config.split("\n"), 1) if line.startswith("[")
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ('name = "x"\n', 1),
        ('[machine]\n  type="pc"\n', 2),
        ("[machine]\n  type = pc\n", 2),
        ("# fine\n\n[machine\n", 3),
        ("[machine]\n  # not at the start of its line\n", 2),
        ('[machine]\n  type = "pc', 2),
    ],
)
def test_what_a_file_may_not_hold(text: str, line: int, tmp_path: Path) -> None:
    """A real QEMU refuses it as well, except for the last one, of which it makes a name with a line break."""
    with pytest.raises(InputError, match="not a line of a file for -readconfig") as caught:
        options_from_config(text, "machine.cfg")
    assert caught.value.at is not None
    assert caught.value.at.line == line
    if text.endswith("\n"):
        (tmp_path / "machine.cfg").write_text(text)
        words = [binary_of("x86_64"), "-readconfig", str(tmp_path / "machine.cfg"), "-display", "none", "-S"]
        done = subprocess.run(words, capture_output=True, timeout=PATIENCE, check=False, stdin=subprocess.DEVNULL)
        assert done.returncode != 0


def test_comments_blank_lines_and_groups_that_say_nothing() -> None:
    text = '# a comment\n\n[smbios]\n  type = "1"\n[memory]\n  size = "64M"\n[accel]\n[object "o"]\n  qom-type = "rng-builtin"\n'
    said = [(option.name, option.value) for option in options_from_config(text, "x")]
    assert said == [("m", "64M"), ("object", "rng-builtin,id=o")]


def test_a_launchs_own_file_needs_no_parser_afterwards_and_nobody_elses_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    others = '[object "s"]\n  qom-type = "secret"\n  data = "hunter2"\n'
    parsed = options_from_config(others, "x")
    assert not list(tmp_path.glob("mdtool/config/*"))
    machine = prepared(pc(), "file")
    with started(machine, directory=tmp_path):
        pass
    (tmp_path / "own").write_text(machine.handover.config)
    (tmp_path / "others").write_text(others)
    code = (
        "import sys; from mdtool.commandline.config import options_from_config as read\n"
        "for name in ('own', 'others'):\n"
        "    print([tuple(option.words) for option in read(open(name).read(), 'x', 3)], 'lark' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    own = [option.words for option in options_from_config(machine.handover.config, "x")]
    assert done.stdout.splitlines() == [f"{own} False", f"{[option.words for option in parsed]} True"], done.stderr
