"""Every option of QEMU, and where a comparison has what a guest sees of it: one table, which docs/proof.md shows."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mdtool.commandline.option import options_from_words
from mdtool.commandline.sections import sections_from_commandline
from mdtool.commandline.table import GONE, OPTIONS
from mdtool.compare import comparison, noticed
from mdtool.machine.tree import SOURCES, Tree
from mdtool.qemu.arguments import with_sections
from mdtool.qemu.dump import dump
from mdtool.records import replace
from tests.conftest import require
from tests.support import started

#: a difference is seen in the machine that an option makes: option -> the node or section that is named
SHOWN = {
    "-device virtio-rng-pci,id=rng": "rng",
    "-global ICH9-LPC.disable_s3=1": "ICH9-LPC@pcie.0/1f.0",
    "-set device.net0.mac=52:54:00:00:00:09": "net0",
    "-m 256": "memory",
    "-smp 2": "cpu",
    "-cpu Nehalem": "cpu",
    "-machine i8042=off": "machine",
    "-uuid 4dea22b3-1d52-4d8f-a2a8-6f0b5d9f1c01": "guest",
    "-boot menu=on": "boot",
    "-no-hpet": "machine",
    "-no-acpi": "machine",
    "-nographic": "machine",
    "-usb": "ich9-usb-uhci1@pcie.0/1d.0",
    "-usbdevice tablet": "usb-tablet",
    "-vga std": "VGA",
    "-nic hubport,hubid=0,model=e1000": "e1000",
    "-net nic,model=rtl8139": "rtl8139",
    "-audio none,model=ac97": "AC97",
    "-virtfs local,path=.,mount_tag=a,security_model=none": "virtio-9p-pci",
    "-hda null-co://": "ide-hd@ide.0/0",
    "-hdb null-co://": "ide-hd@ide.1/0",
    "-hdc null-co://": "ide-hd@ide.2/0",
    "-hdd null-co://": "ide-hd@ide.3/0",
    "-drive if=virtio,file=null-co://": "virtio-blk-pci",
    "-fda null-co://": "isa-fdc",
    "-fdb null-co://": "floppy",
    "-serial null": "isa-serial",
    "-parallel null": "isa-parallel",
    "-debugcon null": "isa-debugcon",
}
#: what makes another machine in the same way, on boards that have the place, or is one of the options above
ALSO_SHOWN = "cdrom sd mtdblock pflash nodefaults no-user-config readconfig"
#: a difference is seen in the arguments of the process; FILE is some file
SAID = """
-smbios type=1,serial=S2
-fw_cfg name=opt/a,string=x
-fw_cfg name=opt/a,file=FILE
-acpitable data=FILE
-option-rom FILE
-bios FILE
-dtb FILE
-kernel FILE
-append quiet
-prom-env auto-boot?=false
-numa dist,src=0,dst=1,val=21
-rtc base=localtime
-rtc clock=vm
-rtc driftfix=slew
-icount shift=7
-seed 5
-semihosting
-semihosting-config enable=on,arg=a
-g 800x600x32
-old-param
-win2k-hack
-no-fd-bootchk
-object acpi-generic-initiator,id=a,pci-dev=b,node=1
-object sev-guest,id=a,policy=1
"""
#: why no comparison has anything of the others
UNSEEN = {
    "what is behind a device: the host's": "blockdev snapshot iscsi netdev chardev audiodev fsdev tpmdev mem-path"
    " mem-prealloc add-fd display vnc spice sdl full-screen curses k rotate portrait alt-grab ctrl-grab",
    "what a guest finds there as on a disk": "initrd shim",
    "a name, which guests of s390x and pseries can read: reported": "name",
    "where the host's package of firmware is": "L",
    "how the host runs it; what it makes of the CPU is compared": "accel enable-kvm no-kvm overcommit tb-size xen-domid"
    " xen-attach xen-domid-restrict action no-reboot no-shutdown watchdog-action realtime async-teardown",
    "how QEMU is watched and governed": "monitor mon qmp qmp-pretty daemonize pidfile D d trace dfilter msg echr compat"
    " enable-sync-profile runas chroot run-with sandbox gdb s singlestep writeconfig dump-vmstate audio-help plugin"
    " jitdump perfmap enable-fips only-migratable nodefconfig S preconfig",
    "a state, and no machine": "incoming loadvm",
}


def said() -> list[str]:
    return SAID.replace("FILE", __file__).strip().splitlines()


def names(samples: object) -> list[str]:
    return [str(sample).partition(" ")[0].removeprefix("-") for sample in samples]  # type: ignore[attr-defined]


def table() -> str:
    rows = {
        "yes: in the machine": [*names(SHOWN), *ALSO_SHOWN.split()],
        "yes: in the arguments of the process; `-rtc base=DATE` is not compared": dict.fromkeys(names(said())),
        **{f"no: {why}": options.split() for why, options in UNSEEN.items()},
    }
    lines = ["| option | `verify`, `launch`, `diff` |", "|---|---|"]
    return "\n".join([*lines, *(f"| {', '.join(f'`-{one}`' for one in rows[why])} | {why} |" for why in rows)]) + "\n"


def test_every_option_has_one_row() -> None:
    """tests/qemu/test_launch_import.py holds the options against what QEMUs print."""
    rows = [*names(SHOWN), *ALSO_SHOWN.split(), *dict.fromkeys(names(said()))]
    rows += [name for options in UNSEEN.values() for name in options.split()]
    assert sorted(rows) == sorted(name for name, row in OPTIONS.items() if row.fate != GONE)


def test_what_machines_show_is_compared(tmp_path: Path) -> None:
    """All of them in one machine: each must be among what differs."""
    qemu = require("qemu-system-x86_64")
    plain = f"{qemu} -nodefaults -M pc-q35-7.2 -display none -device virtio-net-pci,id=net0,mac=52:54:00:00:00:01 -S"
    with started(plain.split(), tmp_path) as session:
        good = dump(session)
    usage = subprocess.run([qemu, "-help"], capture_output=True, text=True, check=True).stdout
    shown = {one: node for one, node in SHOWN.items() if one.split()[0] in usage}  # newer ones drop some
    with started([*plain.split(), *" ".join(shown).split()], tmp_path) as session:
        found = noticed(comparison(good, dump(session))[0])
    named = {word for one in found for word in (one.node, *str(one.have).split()[:1])}
    assert [sample for sample, node in shown.items() if node not in named] == []


@pytest.mark.parametrize("sample", said())
def test_what_arguments_say_is_compared(sample: str) -> None:
    """What one side lacks, and what it has otherwise."""

    def tree(words: str) -> Tree:
        sections = sections_from_commandline(options_from_words(words.split()), lambda path: path)
        return replace(with_sections(Tree(), sections), source=SOURCES)

    assert comparison(tree(sample), tree(sample))[0] == []
    for one, other in ((tree(sample), tree("")), (tree(""), tree(sample))):
        assert noticed(comparison(one, other)[0]), sample


def test_a_date_is_not_compared() -> None:
    def tree(words: str) -> Tree:
        return replace(with_sections(Tree(), sections_from_commandline(options_from_words(words.split()))), source=SOURCES)

    dated, plain = tree("-rtc base=2020-01-01 -rtc clock=vm"), tree("-rtc clock=vm")
    for one, other in ((dated, plain), (plain, dated)):
        found, compared = comparison(one, other)
        assert not found and [name for name, _ in compared.unknown_facts] == ["clock.base"]
    assert not comparison(dated, dated)[1].unknown_facts
