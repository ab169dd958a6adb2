"""What ``<qemu:commandline>`` says: its options, and what they make of the description's sections.

QEMU takes the last ``-cpu``, and of ``-smp``, ``-m`` and ``-machine`` the last value of each key.  What they say of the
guest is part of its description.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from mdtool.commandline.option import Option, split
from mdtool.commandline.sections import sections_from_options
from mdtool.commandline.sizes import MIB, bytes_of
from mdtool.errors import InputError
from mdtool.guest.model import Guest
from mdtool.guest.xml import Element

QEMU_NS = "{http://libvirt.org/schemas/domain/qemu/1.0}"
#: options that the description carries as a whole, so that it, and not the XML's words, is what reaches QEMU
DESCRIBED = frozenset({"cpu", "smp", "m"})

Sections = dict[str, dict[str, Any]]


def groups(guest: Guest) -> Iterator[list[Element]]:
    """The arguments, each option with its value where it has one."""
    holder = next((child for child in guest.domain if child.tag == f"{QEMU_NS}commandline"), None)
    group: list[Element] = []
    for argument in holder or ():
        if argument.tag != f"{QEMU_NS}arg":
            continue
        if group and (text_of(argument).startswith("-") or len(group) == 2):
            yield group
            group = []
        group.append(argument)
    if group:
        yield group


def text_of(argument: Element) -> str:
    return argument.get("@value") or ""


def option_of(group: Sequence[Element]) -> Option | None:
    """A group as an option; None for an argument that is none."""
    name, *values = map(text_of, group)
    if not name.startswith("-"):
        return None
    return Option(name.lstrip("-"), values[0] if values else None, group[-1].position)


def with_commandline(guest: Guest, sections: Sections) -> Sections:
    """The sections with what the options say of CPUs, memory and the machine.  Raises InputError for what QEMU refuses."""
    found = sections
    for group in groups(guest):
        option = option_of(group)
        make = _ROWS.get(option.name) if option is not None else None
        if option is None or make is None or option.value is None:
            continue
        try:
            found = make(found, option)
        except (LookupError, ValueError, TypeError, AttributeError):
            what = f"-{option.name} {option.value}: not as QEMU takes it"
            raise InputError(what, at=option.position, rule="options-syntax") from None
    return found


def _cpu(sections: Sections, option: Option) -> Sections:
    """The model, and features in the place of all others."""
    model = split(option.value or "")[0]
    features = sections_from_options([option]).get("cpu", {}).get("features")
    kept = {name: value for name, value in sections.get("cpu", {}).items() if name not in ("model", "features")}
    return {**sections, "cpu": {"model": model, **({"features": features} if features else {}), **kept}}


_LEVELS = ("sockets", "dies", "clusters", "cores", "threads")


def _smp(sections: Sections, option: Option) -> Sections:
    cpu = dict(sections.get("cpu", {}))
    bag = {name: int(str(value), 0) for name, value in option.bag.items()}
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
        memory["slots"] = int(bag["slots"], 0)
    objects = {  # the RAM of the whole machine grows with it
        name: {**facts, "size": memory["size"]} if facts.get("size") == before else facts
        for name, facts in sections.get("objects", {}).items()
    }
    order = ("size", "slots", "max")
    found = {**sections, "memory": {name: memory[name] for name in order if name in memory}}
    return {**found, "objects": objects} if objects else found


def _machine(sections: Sections, option: Option) -> Sections:
    said = sections_from_options([option]).get("machine", {}).get("properties", {})
    if not said:
        return sections
    machine = sections.get("machine", {})
    properties = {**machine.get("properties", {}), **said}
    return {**sections, "machine": {**machine, "properties": dict(sorted(properties.items()))}}


_ROWS = {"cpu": _cpu, "smp": _smp, "m": _memory, "machine": _machine, "M": _machine}
