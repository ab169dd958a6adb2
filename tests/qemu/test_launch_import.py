"""``mdtool import``: a script's QEMU becomes guest XML and description, and its guest notices nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdtool.document import tree_from_file
from mdtool.errors import InputError, QemuError
from mdtool.launch.device import handover
from mdtool.launch.importer import imported, options_from_source, without_host, words_from_script, words_from_source
from mdtool.launch.rehearse import prepared_rehearsal, rehearsal
from mdtool.launch.run import Prepared
from mdtool.proof.migration import refusal, save_state
from mdtool.qemu.dump import dump
from mdtool.tree import Tree

PC = r"""#!/bin/sh
# an old friend
IMG=/srv/images
NAME=web
exec qemu-system-x86_64 -enable-kvm -m 512 -smp 2 -name "$NAME" \
    -hda $IMG/web.qcow2 -cdrom "/srv/iso/debian 12.iso" \
    -drive file=${IMG}/data,,1.img,if=virtio,format=raw,cache=none \
    -device virtio-net-pci,netdev=n0,mac=52:54:00:01:02:03 -netdev user,id=n0 \
    -nic tap,model=e1000,ifname=tap7,script=no \
    -usb -device usb-tablet \
    -serial mon:stdio -vga std -vnc :3     # remote
"""
Q35 = r"""qemu-system-x86_64 -nodefaults -machine q35,accel=kvm:tcg -cpu qemu64,+x2apic,svm=off -m size=1G -smp 2,sockets=2 \
 -device pcie-root-port,id=rp0,chassis=1,addr=4.0,multifunction=on -device pcie-root-port,id=rp1,chassis=2,addr=4.1 \
 -device pcie-root-port,id=rp2,chassis=3,addr=4.2 \
 -netdev bridge,id=n0,br=virbr0 -device virtio-net-pci,netdev=n0,bus=rp0,mac=52:54:00:00:00:01 \
 -blockdev '{"driver":"qcow2","node-name":"d0","file":{"driver":"file","filename":"/srv/d0.qcow2"}}' \
 -device virtio-blk-pci,drive=d0,bus=rp1,bootindex=1 -device virtio-scsi-pci,id=scsi0,bus=rp2 \
 -drive file=/srv/d1.raw,if=none,id=d1,format=raw -device scsi-hd,drive=d1,serial=ABC -device ide-cd,bus=ide.1 \
 -object rng-random,id=r0,filename=/dev/urandom -device virtio-rng-pci,rng=r0 \
 -audiodev none,id=quiet -device ich9-intel-hda -device hda-duplex,audiodev=quiet -device qemu-xhci,id=xhci -device usb-tablet,bus=xhci.0 -device usb-kbd \
 -device virtio-serial-pci -chardev socket,id=ga,path=/tmp/ga.sock,server=on,wait=off \
 -device virtserialport,chardev=ga,name=org.qemu.guest_agent.0 \
 -chardev pty,id=s0 -device isa-serial,chardev=s0 -device qxl-vga -device edu -display none -spice port=5930
"""
VIRT = (
    "qemu-system-aarch64 -M virt-7.2 -cpu cortex-a57 -m 256 -nographic -device virtio-net-pci,netdev=n -netdev user,id=n"
    " -drive file=/a.img,format=raw,if=virtio"
)
SCRIPTS = {"pc": PC, "q35": Q35, "virt": VIRT, "bare": "qemu-system-x86_64 disk.img"}


@pytest.mark.parametrize("name", sorted(SCRIPTS))
def test_the_imported_guest_is_the_same_machine(name: str, tmp_path: Path) -> None:
    """Its dump is the script's machine, and the state of the script's QEMU loads into it."""
    script, xml, description = (tmp_path / f"g{end}" for end in (".sh", ".xml", ".yaml"))
    script.write_text(SCRIPTS[name])
    command = [sys.executable, "-m", "mdtool", "import", script, "--xml", xml, "-o", description]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    words = words_from_source(str(script))
    options, _ = without_host(options_from_source(words))
    state = tmp_path / "state"
    with rehearsal(Prepared(Tree(), words[0].text, tuple(options), handover(options))) as qemu:
        before = dump(qemu.session)
        save_state(qemu.session, state)
    dry = subprocess.run(
        [sys.executable, "-m", "mdtool", "reconcile", xml, description, "--dry-run"],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert dry.returncode == 0, dry.stdout
    prepared = prepared_rehearsal(xml, tree_from_file(description))
    assert refusal(prepared, state, before) is None


def test_the_xml_has_the_host_side() -> None:
    made = imported(words_from_script(PC, "start.sh"), "web")
    for part in (
        "<name>web</name>",
        '<source file="/srv/images/data,1.img"/>',
        '<source file="/srv/iso/debian 12.iso"/>',
        "type='raw' cache=\"none\"",
        "<target dev=\"tap7\" managed='no'/>",
        "<mac address='52:54:00:01:02:03'/>",
        "<serial type='stdio'>",
        "port='5903'",
        "<domain type='kvm'>",
    ):
        assert part in made.xml


def test_what_the_xml_cannot_say_is_said() -> None:
    made = imported(words_from_script(Q35, "start.sh"), "web")
    assert [str(w) for w in made.warnings if "edu" in str(w)] == [
        "warning: import0 (edu): the XML has no words for it; it stays in the description [import]"
    ]
    assert next(p.node for p in made.tree.places if p.node.driver == "edu").origin == "hand"


def test_a_running_qemu_is_imported_by_its_pid(tmp_path: Path) -> None:
    with rehearsal(prepared_rehearsal(Path(__file__).parents[2] / "samples" / "web01" / "guest.xml", via="device")) as qemu:
        words = words_from_source(f"pid:{qemu.pid}")
    assert words[0].text.endswith("qemu-system-x86_64")
    assert os.sep in words[0].text and "-device" in [word.text for word in words]


@pytest.mark.parametrize(
    ("text", "place", "what"),
    [
        ("#!/bin/sh\nqemu-system-x86_64 \\\n  -hda $DISK\n", "s.sh:3:8", "$DISK is set outside of the script"),
        ("qemu-system-x86_64 -hda $(pick-a-disk)\n", "s.sh:1:25", "not a command line that can be read"),
        ("ls -l\n", "s.sh:1:1", "no QEMU command line in it"),
        ("qemu-system-x86_64 -m 64 -hda\n", "s.sh:1:26", "-hda lacks its argument"),
        ("qemu-system-x86_64 -hda 'a\n", "s.sh:1:25", "not a command line that can be read"),
    ],
)
def test_what_cannot_be_read_is_told_at_its_place(text: str, place: str, what: str) -> None:
    with pytest.raises(InputError) as caught:
        options_from_source(words_from_script(text, "s.sh"))
    assert str(caught.value.at) == place
    assert what in caught.value.what


def test_a_refused_option_is_told_at_its_place() -> None:
    script = "qemu-system-x86_64 -m 64 \\\n  -device e1000,nonsense=1\n"
    with pytest.raises(QemuError) as caught:
        imported(words_from_script(script, "s.sh"), "web")
    assert str(caught.value.at) == "s.sh:2:11" and "nonsense" in caught.value.what
