"""What becomes of each option where nothing of the host may be touched: one row an option.

What has no row is as the command line has it where the machine shows it or where it is QEMU's own affair, and is gone
where it speaks of the host alone (the fates of ``commandline.table``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from mdtool.commandline.chardev import char_from_text
from mdtool.commandline.companion import MONITOR
from mdtool.commandline.option import Option, block_keys, text_from_bag
from mdtool.commandline.placeholder.backends import (
    DISK_SIZE,
    ROWS,
    SIZES,
    cpu_without_host,
    hub_of,
    option_from_bag,
    placeholder,
)
from mdtool.commandline.placeholder.drivers import VHOST_USER, names_behind, substitute_of, substituted
from mdtool.commandline.placeholder.flash import flash_size, flash_unit, may_be_empty, path_of, size_here, takes_kernel
from mdtool.commandline.placeholder.hostside import HostSide, OptionBag
from mdtool.commandline.table import GUEST, KEPT, OPTIONS
from mdtool.commandline.tcg import TCG_GIC, TCG_MEMORY
from mdtool.machine.machines import PREFERRED, family_of, needs_audiodev
from mdtool.machine.roles import role
from mdtool.machine.sizes import MIB, bytes_of
from mdtool.records import replace

SHORT_DRIVES: Mapping[str, Mapping[str, str]] = {
    **{f"hd{letter}": {"if": "", "index": str(n), "media": "disk"} for n, letter in enumerate("abcd")},
    "cdrom": {"if": "", "index": "2", "media": "cdrom"},
    "fda": {"if": "floppy", "index": "0"},
    "fdb": {"if": "floppy", "index": "1"},
    "sd": {"if": "sd"},
    "pflash": {"if": "pflash"},
    "mtdblock": {"if": "mtd"},
}
_KEPT_OF_DRIVE = ("if", "index", "bus", "unit", "media", "id", "readonly", "read-only", "serial", "cyls", "heads", "secs",
                  "trans", "addr", "werror", "rerror")  # fmt: skip
#: how the block nodes behind drives without an id are called
UNNAMED = "import-drive"
Rows = Iterator[Option]


def without_host(options: Sequence[Option], host: HostSide) -> list[Option]:
    """The options with a placeholder wherever there was a back end; what there was goes to ``host``."""
    names = {option.name for option in options}
    host.snapshot, host.has_spice = "snapshot" in names, "spice" in names
    note_flash(options, host)
    found = [Option("accel", "tcg"), Option("display", "none"), Option("monitor", "none")]
    if not {"net", "nic", "netdev", "nodefaults"} & names:
        found.append(Option("net", "nic"))  # the NIC that QEMU gives by default, without the network behind it
        host.nets["default"] = OptionBag(Option("net", "user"), {"type": "user"})
    drivers = {str(option.bag.get("driver")) for option in options if option.name == "device"}
    if "nographic" in names and not {"serial", "nodefaults"} & names and "isa-serial" not in drivers:
        nographic = next(option for option in options if option.name == "nographic")
        host.chars["serial0"] = OptionBag(Option("serial", "stdio", nographic.position), char_from_text("mon:stdio"))
    for option in options:
        found += without_host_one(option, host)
    machine = {key: value for option in options if option.name in ("machine", "M") for key, value in option.bag.items()}
    if not {"audio", "audiodev"} & names and needs_audiodev(str(machine.get("type")), host.version):
        found.append(Option("audio", "none"))
    return found + ([] if "numa" in names else list(_main_memory(options, machine, host.arch)))


def note_flash(options: Iterable[Option], host: HostSide) -> None:
    """Write down which block nodes the machine has for flash: their size is the guest's."""
    for option in (option for option in options if option.name == "machine"):
        for unit, bank in enumerate(("pflash0", "pflash1")):
            if bank in option.bag:
                host.flash[f"node:{option.bag[bank]}"] = OptionBag(option, {"unit": unit})


def without_host_one(option: Option, host: HostSide) -> list[Option]:
    """One option, as far as it can be decided by itself."""
    return list(_ROWS.get(option.name, _as_it_is)(option, host))


def _as_it_is(option: Option, host: HostSide) -> Rows:
    row = OPTIONS.get(option.name)
    if row is None or row.fate == KEPT:
        host.kept.append(option)
    if row is None or row.fate == GUEST:
        yield option


def on(value: Any) -> bool:
    return value in (True, "on", "true", "yes")


# --- disks ---------------------------------------------------------------------------------------------------------


def _drive(option: Option, host: HostSide) -> Rows:
    drive: dict[str, Any] = dict(SHORT_DRIVES.get(option.name, {}))
    drive |= {"file": option.value} if option.name in SHORT_DRIVES else option.bag
    if host.snapshot:
        drive.setdefault("snapshot", "on")
    if drive.get("if") == "pflash":
        yield from _flash(option, drive, host)
        return
    kept = {key: drive[key] for key in _KEPT_OF_DRIVE if drive.get(key)}
    size = size_here(drive, host) or SIZES.get(str(drive.get("if")), DISK_SIZE)
    null_file = {"driver": "null-co", "size": str(size), "read-zeroes": "on"} if has_medium(drive) else {}
    if "id" not in drive:  # QEMU gives it one, and derives a SCSI disk's name for the guest from it
        drive["id"] = f"{UNNAMED}{len(host.drives)}"
        null_file |= {"node-name": drive["id"]} if null_file else {}
    host.drives[str(drive["id"])] = OptionBag(option, drive)
    yield replace(option, name="drive", value=text_from_bag({**kept, **null_file}))


def has_medium(drive: Mapping[str, Any]) -> bool:
    """Whether a -drive has anything in it, as a CD drive need not.

    >>> has_medium({"media": "cdrom"}), has_medium({"driver": "nbd", "server.host": "a"})
    (False, True)
    """
    return bool(drive.get("file")) or any(key in drive for key in ("driver", "filename", "file.driver", "file.filename"))


def _flash(option: Option, drive: Mapping[str, Any], host: HostSide) -> Rows:
    unit = flash_unit(drive, host)
    host.flash[f"pflash{unit}"] = OptionBag(option, drive)
    kept = {"if": "pflash", "unit": str(unit), "driver": "null-co", "read-zeroes": "on"}
    readonly = {"readonly": "on"} if unit == 0 else {}
    yield replace(
        option, name="drive", value=text_from_bag({**kept, "size": str(flash_size(drive, unit, host)), **readonly})
    )


def _blockdev(option: Option, host: HostSide) -> Rows:
    bag = block_keys(option.bag)
    name = str(bag.get("node-name", ""))
    host.drives[name] = OptionBag(option, bag)
    size, read_only = size_here(bag, host) or DISK_SIZE, on(bag.get("read-only"))
    if (bank := host.flash.get(f"node:{name}")) is not None:
        unit = int(bank.bag["unit"])
        size, read_only = flash_size(bag, unit, host), unit == 0
    yield replace(placeholder("drive", name, size=size, read_only=read_only), position=option.position)


# --- networks ------------------------------------------------------------------------------------------------------


def _netdev(option: Option, host: HostSide) -> Rows:
    bag, id = option.bag, option.id or ""
    host.nets[id] = OptionBag(option, bag)
    if bag.get("type") == "vhost-user":  # with another back end QEMU cuts the NIC's queues down
        yield host.served("vhost-user", f"import-{id}")
        queues = {"queues": bag["queues"]} if "queues" in bag else {}
        yield option.with_bag({"type": "vhost-user", "id": id, "chardev": f"import-{id}", **queues})
        return
    yield replace(placeholder("netdev", id), position=option.position)


_OF_NIC = ("model", "mac", "macaddr", "addr", "vectors")


def _nic(option: Option, host: HostSide) -> Rows:
    bag = option.bag
    if bag.get("type") == "none":
        yield option
        return
    id = str(bag.get("id") or f"import-net{len(host.nets)}")
    host.nets[id] = OptionBag(option, {key: value for key, value in bag.items() if key not in _OF_NIC})
    kept: dict[str, Any] = {key: bag[key] for key in _OF_NIC if key in bag}
    yield replace(option, value=text_from_bag({"type": "hubport", "hubid": hub_of(id), "id": id, **kept}, "type"))


def _net(option: Option, host: HostSide) -> Rows:
    """-net: NICs and back ends that are all on one hub.  A NIC with a back end each is what people mean by it."""
    bag = option.bag
    if bag.get("type") == "nic":
        yield option.with_bag({key: value for key, value in bag.items() if key not in ("vlan", "name")})
    elif bag.get("type") != "none":
        id = f"hub{sum(key.startswith('hub') for key in host.nets)}"
        host.nets[id] = OptionBag(option, {key: value for key, value in bag.items() if key != "vlan"})
        yield replace(option, value="none")  # a back end alone takes the place of the NIC that QEMU gives by default
    else:
        yield option


# --- character devices ---------------------------------------------------------------------------------------------


def _chardev(option: Option, host: HostSide) -> Rows:
    if option.id == MONITOR:
        return
    host.chars[str(option.id)] = OptionBag(option, option.bag)
    yield replace(placeholder("chardev", str(option.id)), position=option.position)


def _port(option: Option, host: HostSide) -> Rows:
    number = sum(name.startswith(option.name) for name in host.chars)
    host.chars[f"{option.name}{number}"] = OptionBag(option, char_from_text(option.value or ""))
    yield replace(option, value="none" if option.value == "none" else "null")


def _debugcon(option: Option, host: HostSide) -> Rows:
    host.chars["debugcon"] = OptionBag(option, char_from_text(option.value or ""))
    yield replace(option, value="null")


# --- objects, sound, folders, TPMs ---------------------------------------------------------------------------------


def _object(option: Option, host: HostSide) -> Rows:
    bag = option.bag
    kind, id = str(bag.get("qom-type", "")), str(option.id)
    host.objects[id] = OptionBag(option, bag)
    made = next((make(option) for beginning, make in _OBJECTS.items() if kind.startswith(beginning)), None)
    if made is not None:
        yield replace(made, position=option.position)


def _ram(option: Option) -> Option:
    bag = option.bag
    size = bytes_of(bag.get("size", "64M"))
    said = bag.get("size") if size is None else size  # what is no size is QEMU's to refuse
    if on(bag.get("readonly")) and bag.get("qom-type") == "memory-backend-file":  # read-only memory is another region
        kept = {key: bag[key] for key in ("qom-type", "id", "rom") if key in bag}
        return option_from_bag("object", kept | {"size": said, "mem-path": "/dev/zero", "readonly": True})
    return placeholder("memdev", str(option.id), size=said, share=on(bag.get("share")))


#: object, by the beginning of its type -> the same without the host; what is not here is the host's alone
_OBJECTS: Mapping[str, Callable[[Option], Option]] = {
    "rng-": lambda option: placeholder("rng", str(option.id)),
    "memory-backend-": _ram,
    "cryptodev-": lambda option: placeholder("cryptodev", str(option.id)),
    "iothread": lambda option: option_from_bag("object", {"qom-type": "iothread", "id": option.id}),
    **dict.fromkeys(("throttle-group", "can-bus", "acpi-generic-", "tls-cipher-suites"), lambda option: option),
}


def _audiodev(option: Option, host: HostSide) -> Rows:
    host.audios[str(option.id)] = OptionBag(option, option.bag)
    yield replace(placeholder("audiodev", str(option.id)), position=option.position)


def _audio(option: Option, host: HostSide) -> Rows:
    bag = option.bag
    host.audios["audio"] = OptionBag(option, {key: value for key, value in bag.items() if key != "model"})
    yield replace(option, value=text_from_bag({"driver": "none", **{k: bag[k] for k in ("model",) if k in bag}}, "driver"))


def _fsdev(option: Option, host: HostSide) -> Rows:
    host.folders[str(option.id)] = OptionBag(option, option.bag)
    yield replace(placeholder("fsdev", str(option.id)), position=option.position)


def _virtfs(option: Option, host: HostSide) -> Rows:
    bag = option.bag
    id, tag = str(bag.get("id") or f"import-fs{len(host.folders)}"), str(bag.get("mount_tag"))
    host.folders[tag] = OptionBag(option, {k: v for k, v in bag.items() if k != "mount_tag"})
    yield option.with_bag({**placeholder("fsdev", id).bag, "mount_tag": tag})


def _tpmdev(option: Option, host: HostSide) -> Rows:
    id = str(option.id)
    host.tpms[id] = OptionBag(option, option.bag)
    yield host.served("tpm2", f"import-{id}")
    yield replace(option, value=text_from_bag({"type": "emulator", "id": id, "chardev": f"import-{id}"}, "type"))


# --- the machine, its CPU, memory and firmware ---------------------------------------------------------------------

#: machine properties that are KVM's, or name something of the host
_HOSTS_OF_MACHINE = frozenset({"accel", "kernel_irqchip", "kernel-irqchip", "memory-encryption",
                               "confidential-guest-support", "dump-guest-core", "mem-merge", "kvm-type",
                               "kvm_shadow_mem", "dtb", "kernel", "initrd", "append"})  # fmt: skip


def _machine(option: Option, _host: HostSide) -> Rows:
    bag = {key: value for key, value in option.bag.items() if key not in _HOSTS_OF_MACHINE}
    yield option.with_bag({**bag, "gic-version": TCG_GIC} if bag.get("gic-version") == "host" else bag)


def _cpu(option: Option, host: HostSide) -> Rows:
    text = cpu_without_host(option.value or "")
    if host.arch.startswith("ppc") and (option.value or "").partition(",")[0] == "host":
        return  # a POWER machine's own CPU is nearer to the host's than TCG's max
    yield replace(option, value=text)


def _memory(option: Option, _host: HostSide) -> Rows:
    bag = option.bag
    most = bytes_of(bag.get("maxmem"), MIB)
    yield option.with_bag({**bag, "maxmem": f"{TCG_MEMORY}b"}) if most is not None and most > TCG_MEMORY else option


def _main_memory(options: Sequence[Option], machine: Mapping[str, Any], arch: str) -> Rows:
    """The memory of ``-m`` under the name that the machine gives it, which the host does not need to have."""
    family = family_of(str(machine.get("type", PREFERRED.get(arch, ""))), arch)
    sizes = [bytes_of(option.bag.get("size"), MIB) for option in options if option.name == "m"]
    if family is None or family.ram is None or "memory-backend" in machine or not sizes or not sizes[-1]:
        return
    yield option_from_bag("object", ROWS["memdev"][1](family.ram, -(-sizes[-1] // 8192) * 8192))
    yield Option("machine", f"memory-backend={family.ram}")


def _name(option: Option, _host: HostSide) -> Rows:
    """How the guest is called, and not how its process and threads are."""
    bag = option.bag
    if "guest" in bag:
        yield option.with_bag({"guest": bag["guest"]})


def _nographic(option: Option, _host: HostSide) -> Rows:
    yield Option("machine", "graphics=off", option.position)


def _bios(option: Option, host: HostSide) -> Rows:
    if (found := _readable(option.value or "", host)) is not None or may_be_empty(host.arch):
        yield replace(option, value=os.devnull if found is None else found)


def _readable(name: str, host: HostSide) -> str | None:
    """A file that is here, or a name in QEMU's own folders or a word (``none``); None for a file that is not here."""
    return host.file(name) or (name if "/" not in name else None)


def _kernel(option: Option, host: HostSide) -> Rows:
    """Some boards do not start without, or put it where a property says; a PC's needs more beside it than this."""
    path = host.file(option.value or "")
    if path is not None and takes_kernel(host.arch):
        yield replace(option, value=path)


def _with_file(option: Option, host: HostSide) -> Rows:
    """An option that a file belongs to: without it, where that is not on this host."""
    if OPTIONS[option.name].fate == KEPT:
        host.kept.append(option)
    bag = option.bag
    paths = {key: host.file(str(bag[key])) for key in ("file", "data", "path") if key in bag}
    if None not in paths.values():
        yield option.with_bag(bag | paths)


# --- devices -------------------------------------------------------------------------------------------------------

#: properties that name a back end
BACKENDS = ("drive", "netdev", "chardev", "memdev", "rng", "fsdev", "tpmdev", "audiodev", "cryptodev", "iothread", "canbus",
            "canbus0", "canbus1")  # fmt: skip
#: the same of devices that have several, or call them otherwise
_ALSO_BACKENDS = frozenset({"drive0", "drive1", "hostmem", "pmrdev", "iothread-vq-mapping", "volatile-memdev",
                            "persistent-memdev", "volatile-dc-memdev", "lsa", "shmdev", "bmc"}
                           | {f"chardev{number}" for number in range(9)})  # fmt: skip


def _device(option: Option, host: HostSide) -> Rows:
    bag = option.bag
    host.devices.append(OptionBag(option, bag))
    driver = str(bag.get("driver"))
    hosts = {key for key in bag if key not in _ALSO_BACKENDS and key not in BACKENDS and role(driver, key) == "host"}
    kept = {key: value for key, value in bag.items() if key not in hosts}
    if "romfile" in kept and (rom := _readable(str(kept.pop("romfile")), host)) is not None:
        kept["romfile"] = rom
    if driver == "loader" and "file" in bag:
        kept["file"] = host.file(str(bag["file"])) or os.devnull
    if driver == "usb-mtp":
        kept["rootdir"] = "/"
    if driver in VHOST_USER and "chardev" in bag:
        yield host.served("vhost-user", f"import-{bag['chardev']}")
        kept["chardev"] = f"import-{bag['chardev']}"
    if other := substitute_of(driver, bag, host.arch):
        host.substituted[len(host.devices) - 1] = driver
        kept, behind = substituted(other, kept, f"import-behind{len(host.devices)}")
        yield from behind
    elif names_behind(driver) == "audiodev" and "audiodev" not in kept:  # QEMU opens the host's sound for it
        kept["audiodev"] = f"import-audiodev{len(host.devices)}"
        yield placeholder("audiodev", kept["audiodev"])
    yield option.with_bag(kept)


def _also(option: Option, host: HostSide) -> Rows:
    host.kept.append(option)
    yield option


_ROWS: Mapping[str, Callable[[Option, HostSide], Rows]] = {
    **dict.fromkeys(("drive", *SHORT_DRIVES), _drive),
    "blockdev": _blockdev,
    "netdev": _netdev,
    "nic": _nic,
    "net": _net,
    "chardev": _chardev,
    "serial": _port,
    "parallel": _port,
    "debugcon": _debugcon,
    "object": _object,
    "audiodev": _audiodev,
    "audio": _audio,
    "fsdev": _fsdev,
    "virtfs": _virtfs,
    "tpmdev": _tpmdev,
    "machine": _machine,
    "cpu": _cpu,
    "m": _memory,
    "bios": _bios,
    "kernel": _kernel,
    **dict.fromkeys(("fw_cfg", "smbios", "acpitable"), _with_file),
    "device": _device,
    "name": _name,
    "nographic": _nographic,
    **dict.fromkeys(("L", "g"), _also),
}
__all__ = ["BACKENDS", "SHORT_DRIVES", "has_medium", "on", "path_of", "without_host", "without_host_one"]
