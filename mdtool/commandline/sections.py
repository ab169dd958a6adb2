"""The sections again, from a QEMU command line: ``platform_argv`` read backwards.

    sections_from_options(options_from_words(["-smbios", "type=1,manufacturer=Acme"]))["smbios"]
    -> {"type1": {"manufacturer": "Acme"}}

Only what no monitor command reports, in the form that the guest XML gives it: chosen machine properties and CPU features,
SMBIOS, fw_cfg, NUMA distances and ACPI's HMAT, the kernel's command line, the clock, globals, and options that no other
key has.  Of a file there is the hash of its contents, never its path or what is in it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mdtool.commandline.option import Option, bag_from_text, block_keys, split, text_from_bag
from mdtool.commandline.table import OPTIONS
from mdtool.errors import InputError
from mdtool.limits import MAX_DIGITS
from mdtool.machine.roles import NOT_THE_GUESTS, ON_OFF_AUTO, is_told, role
from mdtool.machine.sizes import MIB, bytes_of
from mdtool.machine.values import integer
from mdtool.records import NamedTuple

Section = dict[str, Any]
#: a file as QEMU names it -> the SHA-256 of what is in it, None where that cannot be read
Hashed = Callable[[str], str | None]

_ON, _OFF = frozenset({"on", "yes", "true"}), frozenset({"off", "no", "false"})


def sections_from_options(options: Iterable[Option], hashed: Hashed = lambda _: None) -> dict[str, Section]:
    """What a command line says of the guest's platform; absent where it says nothing.

    ``numa.nodes`` holds a node's number and its properties, in the order of the options.  Raises InputError.
    """
    said = list(options)
    sections: Section = {}
    for option in said:
        try:
            if row := _ROWS.get(option.name):
                sections = joined(sections, row(option, hashed))
        except (LookupError, ValueError, TypeError, AttributeError):  # QEMU would refuse it, or never saw it
            what = f"-{option.name} {option.value}: not as QEMU takes it"
            raise InputError(what, at=option.position, rule="options-syntax") from None
    code = flash_of(said).get("0")
    if code and code.file and code.is_fixed and (hash := hashed(code.file)):
        sections["firmware"] = {"kind": "pflash", "sha256": hash}
    return {name: section for name, section in sections.items() if section}


def sections_from_commandline(options: Iterable[Option], hashed: Hashed = lambda _: None) -> dict[str, Section]:
    """``sections_from_options`` of all options of a process, which say something of the clock also where none is about it.

    A date is when this QEMU was started, and says nothing about the next start: there is no base then.
    """
    said = list(options)
    bases = ["utc", *(option.bag["base"] for option in said if option.name == "rtc" and "base" in option.bag)]
    sections = sections_from_options(said, hashed)
    clock = {key: value for key, value in sections.get("clock", {}).items() if key != "base"}
    if clock := ({"base": bases[-1]} if bases[-1] in _BASES else {}) | clock:
        sections["clock"] = clock
    return sections


def joined(one: Mapping[str, Any], two: Mapping[str, Any]) -> Section:
    """What is given twice: lists are joined, of anything else the later counts."""
    found = {**one, **two}
    for key in one.keys() & two.keys():
        if isinstance(one[key], dict) and isinstance(two[key], dict):
            found[key] = joined(one[key], two[key])
        elif isinstance(one[key], list) and isinstance(two[key], list):
            found[key] = [*one[key], *two[key]]
    return found


def value_of(text: Any) -> Any:
    """A switch or a decimal number as such; anything else as it is.

    >>> value_of("on"), value_of("40"), value_of("0x1fff")
    (True, 40, '0x1fff')
    """
    if not isinstance(text, str):
        return text
    if text in _ON or text in _OFF:
        return text in _ON
    return int(text) if len(text) <= MAX_DIGITS and re.fullmatch(r"-?(0|[1-9][0-9]*)", text) else text


# --- the machine ---------------------------------------------------------------------------------------------------

_TOLD = ("smp.", "memory.", "boot.", "sgx-epc.")
#: a machine's defaults
_UNCHOSEN = {"acpi": ("on", "auto"), "smm": ("auto",), "vmport": ("auto",), "hpet": ("on",), "graphics": ("on",),
             "gic-version": ("max",)}  # fmt: skip
_ALSO_CALLED = {"kernel-irqchip": "kernel_irqchip"}


#: what the machine takes in the place of an option
_AS_OPTIONS = {"firmware": "bios", "kernel": "kernel", "append": "append", "dtb": "dtb"}


def _machine(option: Option, hashed: Hashed) -> Section:
    found: Section = {}
    sections: Section = {}
    for name, text in option.bag.items():
        name = _ALSO_CALLED.get(name, name)
        if other := _AS_OPTIONS.get(name):
            sections = joined(sections, _ROWS[other](Option(other, text), hashed))
        elif name not in NOT_THE_GUESTS and not name.startswith(_TOLD) and text not in _UNCHOSEN.get(name, ()):
            switch = isinstance(text, str) and text in _ON | _OFF and name not in ON_OFF_AUTO
            found[name] = text in _ON if switch else text
    return sections | ({"machine": {"properties": dict(sorted(found.items()))}} if found else {})


def of_the_machine(option: Option) -> dict[str, Any]:
    """What of -accel the machine takes as well: ``kernel-irqchip=split``."""
    return {name: value for name, value in option.bag.items() if name == "kernel-irqchip"}


def _accel(option: Option, hashed: Hashed) -> Section:
    return _machine(Option("machine", text_from_bag(of_the_machine(option))), hashed)


def _global(option: Option, _: Hashed) -> Section:
    """``driver.property=value``, or the three as keys; how a guest migrates it does not see, and flash tells what it is."""
    bag = option.bag
    name, value = f"{bag['driver']}.{bag['property']}", value_of(bag.get("value", ""))
    is_guests = role(bag["driver"], bag["property"]) == "guest" and is_told(bag["property"], value)
    is_guests = is_guests and bag["driver"] != "migration" and name != "cfi.pflash01.secure"
    return {"features": {"globals": {name: value}}} if is_guests else {}


#: -object sev-guest and the like -> <launchSecurity>'s name of it and what the guest attests to
_SECURITY: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "sev-guest": ("sev", ("policy", "kernel-hashes")),
    "sev-snp-guest": ("sev-snp", ("policy", "kernel-hashes", "guest-visible-workarounds", "host-data")),
    "tdx-guest": ("tdx", ("attributes", "mrconfigid", "mrowner", "mrownerconfig")),
    "s390-pv-guest": ("s390-pv", ()),
}
#: objects that are in the guest's tables
IN_TABLES = frozenset({"acpi-generic-initiator", "acpi-generic-port"})


def _object(option: Option, _: Hashed) -> Section:
    bag = option.bag
    if bag.get("qom-type") in IN_TABLES:
        return {"features": {"options": {"object": [{key: value_of(bag[key]) for key in bag if key != "id"}]}}}
    kind, keys = _SECURITY.get(str(bag.get("qom-type")), ("", ()))
    if not kind:
        return {}
    found = {key: value_of(bag[key]) for key in keys if key in bag}
    found |= {key: integer(str(found[key])) for key in ("policy", "attributes") if key in found}
    return {"features": {"launch_security": {"type": kind, **found}}}


# --- CPU, memory, clock --------------------------------------------------------------------------------------------

#: how QEMU is to go about it, and not what the guest has
_ABOUT_THE_HOST = frozenset({"check", "enforce"})
_TEXTS = frozenset({"vendor", "model-id", "hv-vendor-id"})


def _cpu(option: Option, _: Hashed) -> Section:
    """``Haswell,aes=off,+x2apic,hv_spinlocks=0x1fff``; the model only where a rehearsal has another in its place."""
    model, *switches = split(option.value or "")
    features = {}
    for text in switches:
        name, equals, value = text.partition("=")
        if not equals:
            value = "off" if name.startswith("-") else "on"
        name = name.removeprefix("+").removeprefix("-").replace("_", "-")
        if name and name not in _ABOUT_THE_HOST:
            features[name] = value if name in _TEXTS else value_of(value)
    return {"cpu": ({"model": model} if model == "host" else {}) | ({"features": features} if features else {})}


def _numa(option: Option, _: Hashed) -> Section:
    bag = dict(option.bag)
    kind = bag.pop("type", None)
    if kind == "dist":
        return {"numa": {"distances": [{key: value_of(bag.get(key)) for key in ("src", "dst", "val")}]}}
    if kind == "node":
        return {"numa": {"nodes": [_node(bag)]}}
    if kind == "hmat-lb" and "target" in bag:
        return {"numa": {"nodes": [{"id": value_of(bag.pop("target")), "links": [_row(bag)]}]}}
    if kind == "hmat-cache" and "node-id" in bag:
        return {"numa": {"nodes": [{"id": value_of(bag.pop("node-id")), "caches": [_row(bag)]}]}}
    return {}


def _node(bag: Mapping[str, Any]) -> Section:
    """``-numa node``; without a number it is the next one."""
    found: Section = {"id": value_of(bag["nodeid"])} if "nodeid" in bag else {}
    if "memdev" in bag:
        found["memdev"] = bag["memdev"]
    elif (size := bytes_of(bag.get("mem"), MIB)) is not None:
        found["memory"] = size
    return found | ({"initiator": value_of(bag["initiator"])} if "initiator" in bag else {})


def _memory(option: Option, _: Hashed) -> Section:
    """What there may be at most: a rehearsal may have less, and no monitor shows it where there are no slots."""
    most = bytes_of(option.bag.get("maxmem"), MIB)
    return {"memory": {"max": most}} if (most or 0) > (bytes_of(option.bag.get("size"), MIB) or 0) else {}


def _row(bag: Mapping[str, Any]) -> Section:
    return {key: value_of(value) for key, value in bag.items()}


#: -rtc clock= -> <timer name='rtc' track=>
TRACKS = {"host": "wall", "vm": "guest", "rt": "realtime"}


_BASES = ("utc", "localtime")


def _rtc(option: Option, _: Hashed) -> Section:
    bag = option.bag
    base = bag.get("base")
    rtc = {"track": TRACKS.get(bag.get("clock", "")), "tickpolicy": "catchup" if bag.get("driftfix") == "slew" else None}
    timer = {key: value for key, value in rtc.items() if value is not None}
    return {"clock": ({"base": base} if base in _BASES else {}) | ({"timers": {"rtc": timer}} if timer else {})}


# --- firmware ------------------------------------------------------------------------------------------------------

#: SMBIOS structures of which there may be several, an option each; of the others QEMU has one, and options add to it
_SEVERAL = frozenset({"2", "8", "9", "41"})


def _smbios(option: Option, hashed: Hashed) -> Section:
    bag = dict(option.bag)
    kind = bag.pop("type", None)
    files = [bag.pop(key) for key in ("file", "path") if key in bag]
    found: Section = {"files": hashes} if (hashes := [hash for file in files if (hash := hashed(file))]) else {}
    if kind == "11":
        values = bag.get("value", [])
        found["type11"] = values if isinstance(values, list) else [values]
    elif kind is not None:
        found[f"type{kind}"] = [bag] if kind in _SEVERAL else bag
    return {"smbios": {key: value for key, value in found.items() if value}}


def _fw_cfg(option: Option, hashed: Hashed) -> Section:
    bag = option.bag
    if "string" in bag:
        return {"features": {"fw_cfg": {bag["name"]: bag["string"]}}}
    hash = hashed(bag["file"]) if "file" in bag else None
    return {"features": {"fw_cfg_files": {bag["name"]: hash}}} if hash else {}


def _acpi_table(option: Option, hashed: Hashed) -> Section:
    """The header's fields that are chosen, and what is in the files."""
    header = dict(option.bag)
    files = [file for key in ("file", "data") for file in str(header.pop(key, "")).split(":") if file]
    hashes = [hash for file in files if (hash := hashed(file))]
    return {"features": {"acpi_tables": [{**header, "sha256": hashes}]}} if hashes else {}


def _option_rom(option: Option, hashed: Hashed) -> Section:
    """``NAME`` or ``romfile=NAME,bootindex=N``."""
    bag = bag_from_text(option.value or "", "romfile")
    hash = hashed(str(bag.pop("romfile", "")))
    return {"features": {"option_roms": [{**bag, "sha256": hash}]}} if hash else {}


def _dtb(option: Option, hashed: Hashed) -> Section:
    hash = hashed(option.value or "")
    return {"features": {"options": {"dtb": hash}}} if hash else {}


#: keys of options that are the host's: a channel to it, a record of what happened
_OF_THE_HOST = frozenset({"chardev", "rr", "rrfile", "rrsnapshot"})


def _as_said(option: Option, _: Hashed) -> Section:
    """An option that a guest notices and no key of another section has: ``{"options": {"icount": "shift=7"}}``."""
    said: Any = True if option.value is None else option.value
    if OPTIONS[option.name].keyed:
        said = text_from_bag({key: value for key, value in option.bag.items() if key not in _OF_THE_HOST})
    return {"features": {"options": {option.name: said}}} if said else {}


def _bios(option: Option, hashed: Hashed) -> Section:
    hash = hashed(option.value or "")
    return {"firmware": {"kind": "bios", **({"sha256": hash} if hash else {})}}


class Flash(NamedTuple):
    """A bank of flash: the block node that the machine names, the file behind it, and whether no guest writes to it."""

    node: str | None
    file: str | None
    is_fixed: bool


def flash_of(options: Iterable[Option]) -> dict[str, Flash]:
    """The banks by number, ``{"0": Flash("code", "/usr/share/OVMF/OVMF_CODE.fd", True)}``."""
    nodes: dict[str, Section] = {}
    banks: dict[str, Section] = {}
    for option in options:
        bag = option.bag if option.name in ("drive", "blockdev", "machine") else {}
        if option.name == "blockdev":
            nodes[str(option.id)] = block_keys(bag)
        elif option.name == "drive" and bag.get("if") == "pflash":
            banks.setdefault(bag.get("unit", bag.get("index", str(len(banks)))), block_keys(bag))
        elif option.name == "machine":
            banks |= {name[-1]: {"node": bag[name]} for name in ("pflash0", "pflash1") if name in bag}
    return {bank: _behind(bag, nodes) for bank, bag in banks.items()}


def _behind(bag: Section, nodes: Mapping[str, Section]) -> Flash:
    node = nodes.get(bag.get("node", ""), bag)
    is_fixed = value_of(node.get("read-only", node.get("readonly"))) is True
    for _ in (*nodes, None):  # each names the one below it, or holds it
        below = node.get("file")
        node = below if isinstance(below, dict) else nodes.get(str(below), node)
    path = node.get("filename", node.get("file"))
    return Flash(bag.get("node"), path if isinstance(path, str) else None, is_fixed)


_ROWS: Mapping[str, Callable[[Option, Hashed], Section]] = {
    "machine": _machine,
    "accel": _accel,
    "global": _global,
    "object": _object,
    "cpu": _cpu,
    "numa": _numa,
    "m": _memory,
    "rtc": _rtc,
    "smbios": _smbios,
    "fw_cfg": _fw_cfg,
    "bios": _bios,
    "acpitable": _acpi_table,
    "option-rom": _option_rom,
    "dtb": _dtb,
    "prom-env": lambda option, _: {"features": {"prom_env": [option.value]}},
    "kernel": lambda _, __: {"boot": {"kernel": True}},
    "append": lambda option, _: {"boot": {"append": option.value}},
    **dict.fromkeys(("no-fd-bootchk", "win2k-hack", "icount", "seed", "old-param", "g"), _as_said),
    **dict.fromkeys(("semihosting", "semihosting-config"), _as_said),
}
#: the options that say something of the platform
READ = frozenset(_ROWS)
