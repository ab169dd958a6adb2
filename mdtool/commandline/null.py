"""The same machine without its host: every back end becomes a null one, and what there was is remembered.

A row an option.  What has no row is as the script has it; what speaks of the host alone goes.
"""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from mdtool.commandline.option import Option, bag_from_text, text_from_bag
from mdtool.commandline.table import HOST, KEPT, OPTIONS, OURS
from mdtool.launch.backends import null
from mdtool.launch.backends.base import Process
from mdtool.launch.rehearse_backends import DISK_SIZE, STAND_INS, stand_in_properties
from mdtool.machine.roles import role
from mdtool.machine.values import nested

SHORT_DRIVES: Mapping[str, Mapping[str, str]] = {
    **{f"hd{letter}": {"if": "", "index": str(n), "media": "disk"} for n, letter in enumerate("abcd")},
    "cdrom": {"if": "", "index": "2", "media": "cdrom"},
    "fda": {"if": "floppy", "index": "0"},
    "fdb": {"if": "floppy", "index": "1"},
    "sd": {"if": "sd"},
    "pflash": {"if": "pflash"},
    "mtdblock": {"if": "mtd"},
}
_KEPT_OF_DRIVE = ("if", "index", "bus", "unit", "media", "id", "readonly", "read-only")
#: bytes; of flash files that are not there (Debian's OVMF 4M), and of ARM's virt, whose banks are of one size
_FLASH, _VIRT_FLASH = (3653632, 540672), 64 << 20
_SD_SIZE = 1 << 30


@dataclass(frozen=True)
class Given:
    """A back end as the script has it."""

    option: Option
    bag: Mapping[str, Any]


@dataclass
class Host:
    """The host side, by the name that a device's property gives it.

    ``files``  what a script says of the machine's files: bios, pflash0, kernel, ...
    ``said``   the last option of each name
    ``devices``  each -device with its keys
    """

    runtime: Path
    drives: dict[str, Given] = field(default_factory=dict)
    nets: dict[str, Given] = field(default_factory=dict)
    chars: dict[str, Given] = field(default_factory=dict)
    objects: dict[str, Given] = field(default_factory=dict)
    folders: dict[str, Given] = field(default_factory=dict)
    tpms: dict[str, Given] = field(default_factory=dict)
    audios: dict[str, Given] = field(default_factory=dict)
    flash: dict[str, Given] = field(default_factory=dict)
    devices: list[Given] = field(default_factory=list)
    kept: list[Option] = field(default_factory=list)
    processes: list[Process] = field(default_factory=list)
    stand_ins: dict[int, str] = field(default_factory=dict)  # place in ``devices`` -> the driver that the script names
    arch: str = ""
    snapshot: bool = False
    has_spice: bool = False
    watchdog: str = "reset"
    hubs: int = 0

    def served(self, kind: str, id: str) -> Option:
        """A chardev to a process of our own that answers and does nothing."""
        path = self.runtime / f"{id}.null"
        self.processes.append(Process((sys.executable, null.__file__, kind, str(path)), path))
        return Option("chardev", f"socket,id={id},path={path}")


Rows = Iterator[Option]


def without_host(options: Sequence[Option], host: Host) -> list[Option]:
    """The options with a null back end wherever there was one; what there was goes to ``host``."""
    names = {option.name for option in options}
    host.snapshot, host.has_spice = "snapshot" in names, "spice" in names
    for option in (option for option in options if option.name == "machine"):
        for unit, bank in enumerate(("pflash0", "pflash1")):
            if bank in option.bag:
                host.flash[f"node:{option.bag[bank]}"] = Given(option, {"unit": unit})
    found = [Option("accel", "tcg"), Option("display", "none"), Option("monitor", "none")]
    if not {"net", "nic", "netdev", "nodefaults"} & names:
        found.append(Option("net", "nic"))  # the NIC that QEMU gives by default, without the network behind it
        host.nets["default"] = Given(Option("net", "user"), {"type": "user"})
    if "nographic" in names and "serial" not in names:
        options = [*options, Option("serial", "stdio", next(o.position for o in options if o.name == "nographic"))]
    for option in options:
        found += _NULL.get(option.name, _as_it_is)(option, host)
    return found


def _as_it_is(option: Option, host: Host) -> Rows:
    row = OPTIONS.get(option.name)
    if row is None or row.fate == KEPT:
        host.kept.append(option)
    if row is None or (row.fate not in (HOST, KEPT, OURS)):
        yield option


def on(value: Any) -> bool:
    return value in (True, "on", "true", "yes")


# --- disks ---------------------------------------------------------------------------------------------------------


def _drive(option: Option, host: Host) -> Rows:
    drive: dict[str, Any] = dict(SHORT_DRIVES.get(option.name, {}))
    drive |= {"file": option.value} if option.name in SHORT_DRIVES else option.bag
    if host.snapshot:
        drive.setdefault("snapshot", "on")
    if drive.get("if") == "pflash":
        yield from _flash(option, drive, host)
        return
    drive.setdefault("id", f"import-drive{len(host.drives)}")
    host.drives[drive["id"]] = Given(option, drive)
    kept = {key: drive[key] for key in _KEPT_OF_DRIVE if drive.get(key)}
    size = _SD_SIZE if drive.get("if") == "sd" else DISK_SIZE
    null_file = {"driver": "null-co", "size": str(size), "read-zeroes": "on"} if has_medium(drive) else {}
    yield replace(option, name="drive", value=text_from_bag({**kept, **null_file}))


def has_medium(drive: Mapping[str, Any]) -> bool:
    """Whether a -drive has anything in it, as a CD drive need not.

    >>> has_medium({"media": "cdrom"}), has_medium({"driver": "nbd", "server.host": "a"})
    (False, True)
    """
    return bool(drive.get("file")) or any(key in drive for key in ("driver", "filename", "file.driver", "file.filename"))


def _flash(option: Option, drive: Mapping[str, Any], host: Host) -> Rows:
    unit = int(drive.get("unit", drive.get("index", len(host.flash))))
    host.flash[f"pflash{unit}"] = Given(option, drive)
    kept = {"if": "pflash", "unit": str(unit), "driver": "null-co", "read-zeroes": "on"}
    readonly = {"readonly": "on"} if unit == 0 else {}
    size = flash_size(str(drive.get("file", "")), unit, host)
    yield replace(option, name="drive", value=text_from_bag({**kept, "size": str(size), **readonly}))


def flash_size(path: str, unit: int, host: Host) -> int:
    if host.arch in ("aarch64", "arm"):
        return _VIRT_FLASH
    return os.path.getsize(path) if os.path.isfile(path) else _FLASH[min(unit, 1)]


def _blockdev(option: Option, host: Host) -> Rows:
    bag = option.bag if option.is_json else nested(option.bag, ".")
    name = str(bag.get("node-name", ""))
    host.drives[name] = Given(option, bag)
    bare = {"driver": "null-co", "node-name": name, "size": DISK_SIZE, "read-zeroes": True}
    if (bank := host.flash.get(f"node:{name}")) is not None:
        unit = int(bank.bag["unit"])
        bare["size"] = flash_size(str(path_of(bag, host) or ""), unit, host)
        bag = {**bag, "read-only": unit == 0}
    yield replace(option, value=json.dumps(bare | ({"read-only": True} if on(bag.get("read-only")) else {})))


def path_of(bag: Mapping[str, Any], host: Host) -> str | None:
    """The file at the end of a chain of -blockdev."""
    below = bag.get("file")
    if isinstance(below, Mapping):
        return path_of(below, host)
    if isinstance(below, str) and below in host.drives:
        return path_of(host.drives[below].bag, host)
    return bag.get("filename") or (below if isinstance(below, str) else None)


# --- networks ------------------------------------------------------------------------------------------------------


def _hub(host: Host) -> str:
    host.hubs += 1
    return str(500 + host.hubs)


def _netdev(option: Option, host: Host) -> Rows:
    id = option.id or ""
    host.nets[id] = Given(option, option.bag)
    yield replace(option, value=f"hubport,id={id.replace(',', ',,')},hubid={_hub(host)}")


def _nic(option: Option, host: Host) -> Rows:
    bag = option.bag
    if bag.get("type") == "none":
        yield option
        return
    id = str(bag.get("id") or f"import-net{len(host.nets)}")
    host.nets[id] = Given(
        option, {key: value for key, value in bag.items() if key not in ("model", "mac", "addr", "vectors")}
    )
    kept: dict[str, Any] = {key: bag[key] for key in ("model", "mac", "addr", "vectors") if key in bag}
    yield replace(option, value=text_from_bag({"type": "hubport", "hubid": _hub(host), "id": id, **kept}, "type"))


def _net(option: Option, host: Host) -> Rows:
    """-net: NICs and back ends that are all on one hub.  A NIC with a back end each is what people mean by it."""
    bag = option.bag
    if bag.get("type") == "nic":
        yield option.with_bag({key: value for key, value in bag.items() if key not in ("vlan", "name")})
    elif bag.get("type") != "none":
        id = f"hub{sum(key.startswith('hub') for key in host.nets)}"
        host.nets[id] = Given(option, {key: value for key, value in bag.items() if key != "vlan"})
    else:
        yield option


# --- character devices ---------------------------------------------------------------------------------------------


def _chardev(option: Option, host: Host) -> Rows:
    host.chars[str(option.id)] = Given(option, option.bag)
    yield replace(option, value=f"null,id={option.id}")


def _port(option: Option, host: Host) -> Rows:
    number = sum(name.startswith(option.name) for name in host.chars)
    host.chars[f"{option.name}{number}"] = Given(option, char_from_text(option.value or ""))
    yield replace(option, value="none" if option.value == "none" else "null")


def _debugcon(option: Option, host: Host) -> Rows:
    host.chars["debugcon"] = Given(option, char_from_text(option.value or ""))
    yield replace(option, value="null")


def char_from_text(text: str) -> dict[str, Any]:
    """The chardev behind ``-serial``, in the words of -chardev.

    >>> char_from_text("mon:telnet:127.0.0.1:4444,server,nowait")["port"]
    '4444'
    """
    kind, _, rest = text.removeprefix("mon:").partition(":")
    if text.startswith("mon:"):
        return {**char_from_text(text[4:]), "mux": "on"}
    if text.startswith("/dev/"):
        return {"backend": "parallel" if text.startswith("/dev/parport") else "serial", "path": text}
    if kind in ("unix", "tcp", "telnet", "websocket"):
        bag = bag_from_text(rest, "path")
        address = str(bag.pop("path", ""))
        host, _, port = address.rpartition(":")
        place = {"path": address} if kind == "unix" else {"host": host.strip("[]"), "port": port}
        return {"backend": "socket", **place, **({kind: "on"} if kind in ("telnet", "websocket") else {}), **bag}
    if kind == "udp":
        remote, _, local = rest.partition("@")
        names = (("host", "port"), ("localaddr", "localport"))
        return {"backend": "udp"} | {
            name: value
            for (host_name, port_name), place in zip(names, (remote, local), strict=True)
            for name, value in zip((host_name, port_name), place.rpartition(":")[::2], strict=True)
            if value
        }
    if kind == "chardev":
        return {"backend": "chardev", "name": rest}
    if kind == "vc":
        return {"backend": "vc"}
    return {"backend": kind, **({"path": rest} if rest else {})}


# --- the rest ------------------------------------------------------------------------------------------------------


def _object(option: Option, host: Host) -> Rows:
    bag = option.bag
    kind = str(bag.get("qom-type", ""))
    host.objects[str(option.id)] = Given(option, bag)
    for prefix, make in _OBJECTS.items():
        if kind.startswith(prefix):
            made = make(bag)
            if made is not None:
                yield replace(option, value=json.dumps(made) if option.is_json else text_from_bag(made, "qom-type"))
            return


def _ram(bag: Mapping[str, Any]) -> Mapping[str, Any]:
    kept = {key: bag[key] for key in ("id", "size", "share") if key in bag}
    return {"qom-type": "memory-backend-ram", **kept}


#: object -> the same without the host, by the beginning of its type; what is not here is the host's alone
_OBJECTS: Mapping[str, Callable[[Mapping[str, Any]], Mapping[str, Any] | None]] = {
    "rng-": lambda bag: {"qom-type": "rng-builtin", "id": bag.get("id")},
    "memory-backend-": _ram,
    "cryptodev-": lambda bag: {"qom-type": "cryptodev-backend-builtin", "id": bag.get("id")},
    "iothread": lambda bag: {"qom-type": "iothread", "id": bag.get("id")},
    "can-bus": lambda bag: bag,
    "acpi-generic-": lambda bag: bag,
}


def _audiodev(option: Option, host: Host) -> Rows:
    host.audios[str(option.id)] = Given(option, option.bag)
    yield replace(option, value=f"none,id={option.id}")


def _audio(option: Option, host: Host) -> Rows:
    bag = option.bag
    host.audios["audio"] = Given(option, {key: value for key, value in bag.items() if key != "model"})
    yield replace(option, value=text_from_bag({"driver": "none", **{k: bag[k] for k in ("model",) if k in bag}}, "driver"))


def _fsdev(option: Option, host: Host) -> Rows:
    host.folders[str(option.id)] = Given(option, option.bag)
    yield replace(option, value=f"local,id={option.id},security_model=none,path=/,readonly=on")


def _virtfs(option: Option, host: Host) -> Rows:
    bag = option.bag
    id = str(bag.get("id") or f"import-fs{len(host.folders)}")
    host.folders[str(bag.get("mount_tag"))] = Given(option, {k: v for k, v in bag.items() if k != "mount_tag"})
    yield replace(option, value=f"local,path=/,security_model=none,readonly=on,mount_tag={bag.get('mount_tag')},id={id}")


def _tpmdev(option: Option, host: Host) -> Rows:
    id = str(option.id)
    host.tpms[id] = Given(option, option.bag)
    yield host.served("tpm2", f"import-{id}")
    yield replace(option, value=f"emulator,id={id},chardev=import-{id}")


def _machine(option: Option, host: Host) -> Rows:
    bag = {key: value for key, value in option.bag.items() if key not in _HOSTS_OF_MACHINE}
    yield option.with_bag(bag)


#: machine properties that a rehearsal must not have
_HOSTS_OF_MACHINE = frozenset({"accel", "kernel_irqchip", "kernel-irqchip", "memory-encryption",
                               "confidential-guest-support",
                               "dump-guest-core", "mem-merge", "kvm-type", "kvm_shadow_mem", "dtb", "kernel", "initrd",
                               "append"})  # fmt: skip


def _cpu(option: Option, host: Host) -> Rows:
    """The host's own CPU, and what only KVM has, are not to be had under TCG."""
    model, *features = (option.value or "").split(",")
    kept = [
        feature for feature in features if not re.match(r"[+-]?(hv[-_]|kvm|migratable|host-|xen-|pmu|tsc-freq)", feature)
    ]
    yield replace(option, value=",".join([re.sub(r"^host$", "max", model), *kept]))


def _device(option: Option, host: Host) -> Rows:
    bag = option.bag
    host.devices.append(Given(option, bag))
    driver = str(bag.get("driver"))
    hosts = {key for key in bag if key not in BACKENDS and role(driver, key) == "host"}
    hosts |= {key for key in ("romfile",) if bag.get(key)}
    kept = {key: value for key, value in bag.items() if key not in hosts}
    if driver in _SERVED and "chardev" in bag:
        yield host.served("vhost-user", f"import-{bag['chardev']}")
        kept["chardev"] = f"import-{bag['chardev']}"
    if driver in STAND_INS:
        other = STAND_INS[driver]
        kept = {"driver": other, **({"id": bag["id"]} if "id" in bag else {}), **stand_in_properties(other, kept)}
        host.stand_ins[len(host.devices) - 1] = driver
    yield option.with_bag(kept)


_SERVED = frozenset(
    {"vhost-user-fs-pci", "vhost-user-fs-device", "vhost-user-blk-pci", "vhost-user-blk", "vhost-user-scsi-pci"}
)
#: properties that name a back end
BACKENDS = ("drive", "netdev", "chardev", "memdev", "rng", "fsdev", "tpmdev", "audiodev", "cryptodev", "iothread", "canbus",
            "canbus0", "canbus1")  # fmt: skip


def _nographic(option: Option, _host: Host) -> Rows:
    yield Option("machine", "graphics=off", option.position)


def _also(option: Option, host: Host) -> Rows:
    host.kept.append(option)
    yield option


_NULL: Mapping[str, Callable[[Option, Host], Rows]] = {
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
    "device": _device,
    "nographic": _nographic,
    "L": _also,
}
