"""What ``<qemu:commandline>`` says: its options, and their effect on the description's sections.

QEMU takes the last ``-cpu``, and of ``-smp``, ``-m``, ``-machine``, ``-rtc`` and ``-boot`` the last value of each key.
What they say of the guest is part of its description: all that a running QEMU's arguments are read for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mdtool.commandline.option import Option, split
from mdtool.commandline.sections import IN_TABLES, READ, flash_of, joined, sections_from_options, value_of
from mdtool.commandline.table import OPTIONS
from mdtool.errors import InputError
from mdtool.guest.model import Guest
from mdtool.guest.xml import Element
from mdtool.machine.sizes import MIB, bytes_of
from mdtool.machine.values import integer

Sections = dict[str, dict[str, Any]]


def groups(guest: Guest) -> Iterator[list[Element]]:
    """The arguments, each option with its value where it has one."""
    group: list[Element] = []
    for argument in guest.arguments:
        if group and (text_of(argument).startswith("-") or len(group) == 2):
            yield group
            group = []
        group.append(argument)
    if group:
        yield group


def text_of(argument: Element) -> str:
    return argument.get("@value") or ""


def option_of(group: Sequence[Element]) -> Option | None:
    """A group as an option; None for an argument that is no option."""
    name, *values = map(text_of, group)
    if not name.startswith("-"):
        return None
    name = name.lstrip("-")
    return Option("machine" if name == "M" else name, values[0] if values else None, group[-1].position)


def with_commandline(guest: Guest, sections: Sections) -> Sections:
    """The sections with what the options say of the guest.  Raises InputError for what QEMU refuses."""
    found, options = sections, [option for group in groups(guest) if (option := option_of(group)) is not None]
    for option in options:
        if option.name not in _ROWS.keys() | READ or (option.value is None and OPTIONS[option.name].argument):
            continue
        try:
            found = _ROWS.get(option.name, _read)(found, option)
        except (LookupError, ValueError, TypeError, AttributeError):
            what = f"-{option.name} {option.value}: not as QEMU takes it"
            raise InputError(what, at=option.position, rule="options-syntax") from None
    if "0" in flash_of(options):
        secure = {"secure": True} if any(map(_is_secure, options)) else {}
        found = {**found, "firmware": {**found.get("firmware", {}), "kind": "pflash", **secure}}
    return found


def undescribed(option: Option) -> Option | None:
    """What the description does not carry of an option: that reaches QEMU in the XML's words; None where it carries all.

    >>> undescribed(Option("fw_cfg", "opt/a,string=b")), undescribed(Option("smbios", "type=11,value=a,path=/b")).value
    (None, 'type=11,path=/b')
    """
    row = _CARRIED.get(option.name)
    return row(option) if row is not None and option.value is not None else option


def _is_secure(option: Option) -> bool:
    """Whether flash can be written to in SMM alone."""
    bag = option.bag if option.name == "global" else {}
    return (bag.get("driver"), bag.get("property"), bag.get("value")) == ("cfi.pflash01", "secure", "on")


def _read(sections: Sections, option: Option) -> Sections:
    """What a running QEMU's arguments are read for, by the same reader."""
    return joined(sections, sections_from_options([option]))


def _cpu(sections: Sections, option: Option) -> Sections:
    """The model, and features in the place of all others."""
    model = split(option.value or "")[0]
    features = sections_from_options([option]).get("cpu", {}).get("features")
    kept = {name: value for name, value in sections.get("cpu", {}).items() if name not in ("model", "features")}
    return {**sections, "cpu": {"model": model, **({"features": features} if features else {}), **kept}}


_LEVELS = ("sockets", "dies", "clusters", "cores", "threads")


def _smp(sections: Sections, option: Option) -> Sections:
    cpu = dict(sections.get("cpu", {}))
    bag = {name: integer(str(value)) for name, value in option.bag.items()}
    topology = {**cpu.get("topology", {}), **{level: bag[level] for level in _LEVELS if level in bag}}
    product = 1
    for count in topology.values():
        product *= count
    cpu["vcpus"] = bag.get("cpus", cpu.get("vcpus", 1))
    most = bag.get("maxcpus", cpu.get("maxcpus", cpu["vcpus"]))
    if product != most and not set(bag) & set(_LEVELS):  # the topology was mdtool's choice, for another number
        topology = {"sockets": most, "cores": 1, "threads": 1}
    cpu |= {"topology": topology}
    cpu.pop("maxcpus", None)
    if most != cpu["vcpus"]:
        cpu["maxcpus"] = most
    order = ("model", "features", "vcpus", "maxcpus", "topology")
    return {**sections, "cpu": {name: cpu[name] for name in order if name in cpu}}


def _memory(sections: Sections, option: Option) -> Sections:
    bag, memory = option.bag, dict(sections.get("memory", {}))
    before = memory.get("size")
    if (size := bytes_of(bag.get("size"), MIB)) is not None:
        memory["size"] = size
    if (most := bytes_of(bag.get("maxmem"), MIB)) is not None:
        memory["max"] = most
    if "slots" in bag:
        memory["slots"] = integer(bag["slots"])
    objects = {  # the RAM of the whole machine grows with it
        name: {**facts, "size": memory["size"]} if facts.get("size") == before else facts
        for name, facts in sections.get("objects", {}).items()
    }
    order = ("size", "slots", "max")
    found = {**sections, "memory": {name: memory[name] for name in order if name in memory}}
    return {**found, "objects": objects} if objects else found


def _machine(sections: Sections, option: Option) -> Sections:
    given = sections_from_options([option]).get("machine", {}).get("properties", {})
    if not given:
        return sections
    machine = sections.get("machine", {})
    properties = {**machine.get("properties", {}), **given}
    return {**sections, "machine": {**machine, "properties": dict(sorted(properties.items()))}}


def _rtc(sections: Sections, option: Option) -> Sections:
    """A date is when the guest is started: it is no part of a description."""
    given = sections_from_options([option]).get("clock", {})
    clock = dict(sections.get("clock", {}))
    if "base" in option.bag:
        clock.pop("base", None)
        clock.pop("offset", None)
    timers = dict(clock.get("timers", {}))
    if rtc := {**timers.get("rtc", {}), **given.get("timers", {}).get("rtc", {})}:
        timers["rtc"] = rtc
    base = {"base": given["base"]} if "base" in given else {}
    return {**sections, "clock": {**base, **clock, **({"timers": timers} if timers else {})}}


#: keys of -boot that the description has; the others name files of the host
_BOOT = frozenset({"order", "once", "menu", "splash-time", "reboot-timeout", "strict"})


def _boot(sections: Sections, option: Option) -> Sections:
    given = {key: text if key in ("order", "once") else value_of(text) for key, text in option.bag.items() if key in _BOOT}
    return {**sections, "boot": {**sections.get("boot", {}), **given}}


def _numa(sections: Sections, option: Option) -> Sections:
    """Distances and ACPI's HMAT of the cells that the XML has."""
    given, numa = sections_from_options([option]).get("numa", {}), dict(sections.get("numa", {}))
    rows = {row["id"]: row for row in given.get("nodes", ()) if option.bag.get("type") != "node"}
    if not numa.get("nodes"):
        return sections
    numa["nodes"] = [
        {
            **node,
            **{key: [*node.get(key, ()), *row[key]] for row in (rows.get(node["id"], {}),) for key in row if key != "id"},
        }
        for node in numa["nodes"]
    ]
    if "distances" in given:
        numa["distances"] = [*numa.get("distances", ()), *given["distances"]]
    return {**sections, "numa": numa}


_ROWS = {
    "cpu": _cpu,
    "smp": _smp,
    "m": _memory,
    "machine": _machine,
    "rtc": _rtc,
    "boot": _boot,
    "numa": _numa,
}


# --- what the description carries as a whole, so that it, and not the XML's words, is what reaches QEMU ----------------


def _without(option: Option, keys: frozenset[str]) -> Option | None:
    left = {key: value for key, value in option.bag.items() if key not in keys}
    return option.with_bag(left) if left else None


def _date(option: Option) -> Option | None:
    return None if option.bag.get("base", "utc") in ("utc", "localtime") else option


def _file_of(option: Option) -> Option | None:
    """``-smbios``: the file that it names; ``type`` says what of."""
    bag = option.bag
    if not bag.keys() & {"file", "path"}:
        return None
    return option.with_bag({key: bag[key] for key in ("type", "file", "path") if key in bag})


def _unless_read(option: Option) -> Option | None:
    return None if sections_from_options([option]) else option


_CARRIED: Mapping[str, Callable[[Option], Option | None]] = {
    "cpu": lambda _: None,
    "smp": lambda _: None,
    "m": lambda _: None,
    "rtc": _date,
    "set": lambda option: None if str(option.value).startswith("device.") else option,
    "boot": lambda option: _without(option, _BOOT),
    "smbios": _file_of,
    "fw_cfg": _unless_read,
    "object": lambda option: None if option.bag.get("qom-type") in IN_TABLES else option,
    "global": _unless_read,
}
