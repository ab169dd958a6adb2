"""A QEMU command line from a file, started with nothing of the host behind it: to dump what it would make.

Devices stay as they are; every back end becomes a null one, and what is only for the host (monitors, displays, daemons)
goes.  What cannot be had without the host (a passed-through device) is an error that names it.
"""

from __future__ import annotations

import json
import os
import re
import signal
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mdtool.commandline.option import Option, options_from_words, words_from_options
from mdtool.commandline.process import expanded, sha256_of
from mdtool.commandline.script import command_from_source
from mdtool.commandline.sections import Flash, bytes_of, flash_of, sections_from_options
from mdtool.errors import InputError, Report, Warned
from mdtool.guest.platform.machine import TCG_GIC
from mdtool.guest.platform.memory import TCG_MEMORY
from mdtool.launch.rehearse_backends import STAND_INS
from mdtool.machine.document import tree_with
from mdtool.machine.roles import role
from mdtool.machine.tree import Tree
from mdtool.qemu.arguments import with_sections
from mdtool.qemu.dump import dump
from mdtool.qemu.process import MONITOR, QemuProcess
from mdtool.qemu.read import Way

_DISKS = {"hda": 0, "hdb": 1, "hdc": 2, "hdd": 3, "cdrom": 2, "fda": 0, "fdb": 1}
#: a drive's keys that the guest sees, or that say where it goes
# fmt: off
_OF_DRIVE = frozenset({
    "if", "id", "index", "bus", "unit", "media", "serial", "readonly", "read-only", "werror", "rerror",
    "cyls", "heads", "secs", "trans", "addr",
})
# fmt: on
_OF_NIC = frozenset({"model", "mac", "macaddr", "id", "name", "addr", "vectors"})
#: devices that are nothing without the host's own
_HOSTS = re.compile(r"vfio-.*|scsi-(block|generic)|vhost-.*|.*-vf-pci|virtio-input-host.*|pci-assign")
# fmt: off
_HOST_KEYS = frozenset({
    "fd", "fds", "vhostfd", "vhostfds", "vhost", "vhostforce", "iothread", "log",
    "hostbus", "hostaddr", "hostport", "hostdevice", "vendorid", "productid",
})
#: what a stand-in has of the device whose place it keeps
_PLACE = frozenset({
    "id", "bus", "addr", "multifunction", "channel", "scsi-id", "lun", "drive", "devno", "memdev", "chardev",
})
# fmt: on
_FLASH = 540672  # bytes; the size of OVMF_VARS_4M.fd, for a flash file that is not there


def _gone(option: Option) -> Option | None:
    return None


def _size(flash: str | None) -> int:
    return os.path.getsize(flash) if flash is not None and os.path.isfile(flash) else _FLASH


def _drive(option: Option) -> Option:
    bag = option.bag
    kept = {key: value for key, value in bag.items() if key in _OF_DRIVE}
    if kept.get("if") == "pflash":
        kept["size"] = _size(bag.get("file"))
    return option.with_bag({**kept, "driver": "null-co", "read-zeroes": "on"})


def _disk(option: Option) -> Option:
    kind = {"cdrom": "ide", "fda": "floppy", "fdb": "floppy"}.get(option.name, "ide")
    media = ",media=cdrom" if option.name == "cdrom" else ""
    return Option("drive", f"if={kind},index={_DISKS[option.name]}{media},driver=null-co", option.position)


def _blockdev(option: Option) -> Option:
    bag = option.bag
    text = {"driver": "null-co", "read-zeroes": True, "node-name": bag.get("node-name", bag.get("id"))}
    if str(bag.get("read-only")).lower() in ("true", "on"):
        text["read-only"] = True
    return Option("blockdev", json.dumps(text), option.position)


def _null(**fixed: str) -> Callable[[Option], Option]:
    """Another back end under the same id."""

    def replaced(option: Option) -> Option:
        return option.with_bag({**fixed, "id": option.bag["id"]})

    return replaced


def _nic(option: Option) -> Option | None:
    bag = option.bag
    kind = bag.get("type")
    if kind in ("none", "nic"):
        return option.with_bag({key: value for key, value in bag.items() if key != "netdev"})
    if option.name == "net":
        return None
    return option.with_bag({"type": "user", "restrict": "on", **{k: v for k, v in bag.items() if k in _OF_NIC}})


def _object(option: Option) -> Option | None:
    bag = option.bag
    kind = str(bag.get("qom-type"))
    if kind.startswith("memory-backend"):
        kept = {key: value for key, value in bag.items() if key in ("id", "size", "share")}
        return option.with_bag({"qom-type": "memory-backend-ram", **kept})
    if kind.startswith("rng-"):
        return option.with_bag({"qom-type": "rng-builtin", "id": bag["id"]})
    return option if kind == "cryptodev-backend-builtin" else None


def _device(option: Option) -> Option:
    bag = option.bag
    driver = str(bag.get("driver"))
    if _HOSTS.fullmatch(driver) or "tpmdev" in bag:
        remedy = "start that QEMU and dump its monitor"
        what = f"-device {driver} is nothing without the host's device"
        raise InputError(what, at=option.position, remedy=remedy, rule="host-device")
    return option.with_bag({key: value for key, value in bag.items() if key not in _HOST_KEYS})


#: what KVM or encryption alone has, or the host's firmware
_OF_KVM = frozenset({"accel", "kernel_irqchip", "kernel-irqchip", "memory-encryption", "confidential-guest-support"})


def _machine(option: Option) -> Option:
    bag = {key: value for key, value in option.bag.items() if key not in _OF_KVM}
    return option.with_bag({**bag, "gic-version": TCG_GIC} if bag.get("gic-version") == "host" else bag)


def _cpu(option: Option) -> Option:
    """TCG has none of Hyper-V's enlightenments, and refuses some."""
    model, *switches = re.sub(r"^host\b", "max", option.value or "").split(",")
    return Option("cpu", ",".join([model, *(s for s in switches if not s.startswith(("hv-", "hv_")))]), option.position)


def _memory(option: Option) -> Option:
    bag = option.bag
    most = bytes_of(bag.get("maxmem"))
    return option.with_bag({**bag, "maxmem": f"{TCG_MEMORY}b"}) if most is not None and most > TCG_MEMORY else option


def _file(option: Option) -> Option | None:
    """A file that is not there says nothing to a rehearsal; a bare name is for QEMU's own folders."""
    path = option.bag.get("file", option.value if option.name == "bios" else None)
    return option if path is None or "/" not in path or os.path.isfile(path) else None


# fmt: off
#: options that say nothing of the machine
_HOSTS_ALONE = (
    "S", "daemonize", "pidfile", "monitor", "mon", "qmp", "qmp-pretty", "incoming", "display", "vnc", "spice",
    "nographic", "curses", "sdl", "gtk", "full-screen", "sandbox", "chroot", "runas", "user", "run-with", "D",
    "d", "trace", "enable-kvm", "accel", "loadvm", "snapshot", "gdb", "s", "add-fd", "mem-path",
    "mem-prealloc", "no-shutdown", "realtime", "overcommit", "kernel", "initrd", "append", "dtb", "shim",
)
# fmt: on
#: what becomes of an option in a rehearsal; one that has no row stays
ROWS: Mapping[str, Callable[[Option], Option | None]] = {
    **dict.fromkeys(_HOSTS_ALONE, _gone),
    **dict.fromkeys(_DISKS, _disk),
    "drive": _drive,
    "blockdev": _blockdev,
    "netdev": lambda option: option.with_bag({"type": "hubport", "id": option.bag["id"], "hubid": option.bag["id"]}),
    "net": _nic,
    "nic": _nic,
    "chardev": lambda option: None if option.id == MONITOR else _null(backend="null")(option),
    "serial": lambda option: Option("serial", option.value if option.value == "none" else "null"),
    "parallel": lambda option: Option("parallel", option.value if option.value == "none" else "null"),
    "debugcon": lambda option: Option("debugcon", "null"),
    "fsdev": _null(fsdriver="synth"),
    "audiodev": _null(driver="none"),
    "object": _object,
    "device": _device,
    "machine": _machine,
    "cpu": _cpu,
    "m": _memory,
    **dict.fromkeys(("bios", "fw_cfg", "smbios", "acpitable"), _file),
}


def options_from_file(path: str, warn: Warned) -> tuple[str, list[Option], str]:
    """The program, its options and the folder that their files are relative to, from a script or a file with nothing else.

    What the script leaves to a run, and files for -readconfig that cannot be read, are warned of.  Raises InputError with
    line and column.
    """
    report = Report()
    try:
        command = command_from_source(path, report)
    except InputError as error:
        if error.rule != "script-qemu":
            raise
        what = "neither a guest XML nor a QEMU command line"
        raise InputError(what, at=error.at, expected="<domain ...> or qemu-system-...", rule="source") from None
    for warning in report.warnings:
        warn(f"{warning.at}: {warning.what}" if warning.at else warning.what)
    program, *words = (word.text for word in command.words)
    stdin = command.stdin.text if command.stdin is not None else None
    return program, list(expanded(options_from_words(words), warn, stdin=stdin)), command.folder or os.getcwd()


def null_options(options: Iterable[Option]) -> list[Option]:
    """The options with null back ends; raises InputError (or Errors) for what cannot be had."""
    report = Report()
    found: list[Option] = []
    given = list(options)
    for option in given:
        with report.step():
            row = ROWS.get(option.name)
            changed = row(option) if row else option
            if changed is not None:
                found.append(changed)
    report.done()
    return _sized(_hubs(found), flash_of(given).values())


def _hubs(options: Iterable[Option]) -> list[Option]:
    """Each netdev on a hub of its own, which is a number."""
    found: list[Option] = []
    for number, option in enumerate(options):
        bag: dict[str, Any] = option.bag if option.name == "netdev" else {}
        found.append(option.with_bag({**bag, "hubid": number}) if bag else option)
    return found


def _sized(options: Iterable[Option], flash: Iterable[Flash]) -> list[Option]:
    """Flash of the right size, which the guest sees."""
    sizes = {bank.node: _size(bank.file) for bank in flash if bank.node is not None}
    return [
        option.with_bag({**option.bag, "size": sizes[option.id]})
        if option.name == "blockdev" and option.id in sizes
        else option
        for option in options
    ]


def _stood_in(options: Iterable[Option]) -> tuple[list[Option], dict[str, Option]]:
    """The options with another device where one is nothing without the host's, and by its id what it stands in for."""
    found: list[Option] = []
    behind: dict[str, Option] = {}
    for option in options:
        bag = option.bag if option.name == "device" else {}
        other = STAND_INS.get(str(bag.get("driver")))
        if other is not None:
            id = str(bag.get("id", f"stand-in{len(behind)}"))
            behind[id] = option
            option = option.with_bag({"driver": other, **{key: bag[key] for key in bag if key in _PLACE}, "id": id})
        found.append(option)
    return found, behind


def _as_given(tree: Tree, behind: Mapping[str, Option]) -> Tree:
    """The tree with the devices that others stood in for; what QEMU would make of them nobody knows."""
    changes: dict[str, dict[str, Any]] = {}
    for id, option in behind.items():
        bag = option.bag
        driver = str(bag["driver"])
        said = {key: value for key, value in bag.items() if key not in (*_PLACE, "driver") and role(driver, key) == "guest"}
        nothing: dict[str, Any] = {"pins": {}, "effective": {}, "pci": {}}
        changes[id] = {"driver": driver, "id": bag.get("id"), "properties": said, **nothing}
    return tree_with(tree, {id: change for id, change in changes.items() if id in tree.by_name})


def dumped_commandline(
    path: str,
    *,
    way: Way | None = None,
    warn: Warned = lambda _: None,
    binary: Callable[[str], str | None] = lambda _: None,
) -> Tree:
    """The machine that a file's QEMU command line makes, with what only the options tell.

    ``binary`` takes the program's name and may name another one.
    """
    program, given, folder = options_from_file(path, warn)
    options, behind = _stood_in(given)
    words = [binary(program) or program, *words_from_options(null_options(options)), "-display", "none", "-accel", "tcg"]
    with QemuProcess(words, death_signal=signal.SIGKILL) as qemu:
        tree = dump(qemu.session, way=way, warn=warn)
    return with_sections(
        _as_given(tree, behind), sections_from_options(given, lambda file: sha256_of(None, os.path.join(folder, file)))
    )
