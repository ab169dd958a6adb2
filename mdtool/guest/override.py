"""``<qemu:override>`` and ``-set``: properties that a person sets on libvirt's devices, by the device's alias.

<qemu:device alias='net0'><qemu:frontend>
  <qemu:property name='vectors' type='unsigned' value='2'/>      type='remove' takes one away
</qemu:frontend></qemu:device>
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise

from mdtool.errors import InputError, Report, choices
from mdtool.guest.engine import with_host_side
from mdtool.guest.model import QEMU_NS, Guest, Wanted
from mdtool.guest.xml import Element
from mdtool.machine.tree import Value
from mdtool.machine.values import integer
from mdtool.records import replace

_TYPES: Mapping[str, Callable[[str], Value]] = {
    "string": str,
    "signed": integer,
    "unsigned": integer,
    "bool": lambda text: {"true": True, "false": False}[text],
    "remove": lambda _: None,
}


def overridden(guest: Guest, wanted: Sequence[Wanted], report: Report) -> list[Wanted]:
    """The devices, which have their ids, with what the XML overrides; what fits none is an error in ``report``."""
    wanted = _set(guest, wanted)
    found = {device.get("@alias") or "": device for device in _inside([guest.domain], "override", "device")}
    if not found:
        return list(wanted)
    known = {one.id for one in wanted if one.driver}
    for alias, device in found.items():
        if alias not in known:
            what = f"<qemu:override>: no device has the alias '{alias}'"
            report.error(InputError(what, at=device.position, expected=choices(map(str, known - {None})), rule="override"))
    return [_with(one, found[one.id], report) if one.driver and one.id in found else one for one in wanted]


def _set(guest: Guest, wanted: Sequence[Wanted]) -> list[Wanted]:
    """The devices with what ``-set device.ID.PROPERTY=VALUE`` says: QEMU itself finds no device that came as JSON."""
    found: dict[str, dict[str, Value]] = {}
    for flag, argument in pairwise(guest.arguments):
        match = re.fullmatch(r"device\.(.+)\.([^.=]+)=(.*)", argument.get("@value") or "", re.DOTALL)
        if (flag.get("@value") or "").lstrip("-") != "set" or match is None:
            continue
        if match[1] not in {one.id for one in wanted if one.driver}:
            what = f"-set: no device has the id '{match[1]}'"
            raise InputError(what, at=argument.position, rule="override")
        from mdtool.commandline.sections import value_of  # few guests have one

        found.setdefault(match[1], {})[match[2]] = value_of(match[3])
    return [
        with_host_side(replace(one, properties={**one.properties, **found[one.id]}))
        if one.driver and one.id in found
        else one
        for one in wanted
    ]


def _with(one: Wanted, device: Element, report: Report) -> Wanted:
    properties = {**one.properties, **one.facts.get("host", {})}
    for change in _inside([device], "frontend", "property"):
        name, kind, text = change.get("@name") or "", change.get("@type") or "", change.get("@value") or ""
        if kind == "remove":
            properties.pop(name, None)
            continue
        try:
            properties[name] = _TYPES[kind](text)
        except (KeyError, ValueError):
            expected = choices(_TYPES) if kind not in _TYPES else f"a value of type {kind}"
            what = f"<qemu:override>: property '{name}' cannot be '{text}' of type '{kind}'"
            report.error(InputError(what, at=change.position, expected=expected, rule="override"))
    facts = {name: fact for name, fact in one.facts.items() if name != "host"}
    return with_host_side(replace(one, properties=properties, facts=facts))


def _inside(elements: Sequence[Element], *tags: str) -> Iterator[Element]:
    """Elements by a path of tags of QEMU's namespace."""
    for element in elements:
        for child in element:
            if child.tag == QEMU_NS + tags[0]:
                if len(tags) == 1:
                    yield child
                else:
                    yield from _inside([child], *tags[1:])
