"""PCI as the guest has it: the answer of query-pci held against a description.

QEMU answers from configuration space: what stands where is what a guest finds there.  It follows the bus numbers that
firmware gave to bridges, so that nothing behind a bridge without one is in the answer.  Those numbers are the firmware's
affair and in no description: a root bus is known by what is on it, and everything else by the way to it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from mdtool.compare import (
    ADDRESS,
    ENUMERATED,
    IDENTITY,
    Compared,
    Difference,
    Omitted,
    View,
    comparison,
    is_pci,
    pci_differences,
    ways,
    worst_first,
)
from mdtool.machine.tree import BUILTIN, Bus, Node, Tree
from mdtool.qemu.session import Refused, Session
from mdtool.records import dataclass, field, replace

Answer = Mapping[str, Any]


@dataclass
class _Seen:
    """What a walk over both found."""

    pairs: list[tuple[str, Node, Answer]] = field(default_factory=list)
    missing: list[tuple[Bus, Node]] = field(default_factory=list)
    extra: list[tuple[Bus, tuple[str, ...], Answer]] = field(default_factory=list)
    closed: list[Node] = field(default_factory=list)  # bridges without a bus number
    hidden: int = 0  # functions behind those


def verified(description: Tree, session: Session, *, is_rehearsal: bool = False) -> tuple[Tree, list[Difference], Compared]:
    """The machine behind a session as it is, what it has otherwise than the description, in all views, and how much
    was compared.

    What two views show is reported once.
    """
    from mdtool.qemu.arguments import completed
    from mdtool.qemu.dump import dump

    machine = dump(session)
    if not is_rehearsal:  # whose arguments leave out what it needs nothing of: a kernel, Hyper-V, the host's CPU
        machine = completed(machine, session, lambda _: None)
    found, compared = comparison(description, machine)
    try:
        answer = session.execute("query-pci")
    except Refused as error:  # a machine without PCI has the command; a QEMU built without PCI has not
        view = View(ENUMERATED, "nothing", (Omitted("all of it", str(error.what)),))
        return machine, found, replace(compared, enumerated=view)
    more, view = enumeration(description, machine, answer)
    said = {(difference.node, difference.property) for difference in found}
    found += [difference for difference in more if (difference.node, difference.property) not in said]
    return machine, worst_first(found), replace(compared, enumerated=view)


def enumeration(description: Tree, machine: Tree, answer: Sequence[Answer]) -> tuple[list[Difference], View]:
    """What ``answer`` (of query-pci) has otherwise than the description, and how much of it was compared.

    ``machine`` is the dump of the same machine: it has the names of what the description does not know.
    """
    names = {id(place.node): place.name for place in description.places}
    roots = [bus for bus in description.buses if is_pci(bus)]
    seen = _Seen()
    unknown: list[Bus] = []
    found = _roots(roots, answer, description)
    for bus in roots:
        if bus.name in found:
            _walk(bus, (bus.name, "0"), found[bus.name]["devices"], names, seen)
        else:
            unknown.append(bus)
    free = {place.node.id for place in description.places if place.bus is None and place.node.address is None}
    chosen = [one for one in seen.extra if one[2]["qdev_id"] and one[2]["qdev_id"] in free]
    seen.extra = [one for one in seen.extra if one not in chosen]
    differences = list(_differences(seen, names, description, machine))
    for name, node, device in seen.pairs:
        differences += pci_differences(name, node, facts_from_answer(device))
    omitted = [] if roots or answer else [Omitted("all of it", "the machine has no PCI")]
    if seen.closed:
        bridges = ", ".join(names[id(node)] for node in seen.closed)
        why = f"no firmware has numbered {bridges} yet"
        omitted.append(Omitted(f"{seen.hidden} functions behind {len(seen.closed)} bridges", why))
    if chosen:
        who = ", ".join(device["qdev_id"] for _, _, device in chosen)
        why = "the description leaves it to QEMU; a dump has it"
        omitted.append(Omitted(f"place of {len(chosen)} functions ({who})", why))
    for bus in unknown:
        omitted.append(Omitted(f"{len(list(_functions(bus)))} functions on {bus.name}", "query-pci has no such root bus"))
    return differences, View(ENUMERATED, f"place of {len(seen.pairs)} functions", tuple(omitted))


def _roots(roots: Sequence[Bus], answer: Sequence[Answer], tree: Tree) -> dict[str, Answer]:
    """The root bus of the answer for each described one: the one that has most of its devices; where that decides nothing
    by its number, if that is a property, and then by the places that are taken on it.

    Not by the number alone: the hosts of a pseries machine all have bus 0, and a pxb's bridge has its id for QEMU only.
    """
    numbers = {place.name: {**place.node.pins, **place.node.properties}.get("bus_nr") for place in tree.places}

    def likeness(bus: Bus, listed: Answer) -> tuple[int, bool, int]:
        here = {(_place(node, {}), node.id or "") for node in bus.devices}
        there = {(_at(device), device["qdev_id"]) for device in listed["devices"]}
        same_number = numbers.get(bus.name, 0) == listed["bus"]
        return len(here & there), same_number, len({place for place, _ in here} & {place for place, _ in there})

    pairs = sorted(
        ((likeness(bus, listed), bus.name, index) for bus in roots for index, listed in enumerate(answer)), reverse=True
    )
    found: dict[str, int] = {}
    for alike, name, index in pairs:
        if any(alike) and name not in found and index not in found.values():
            found[name] = index
    return {name: answer[index] for name, index in found.items()}


def _walk(bus: Bus, way: tuple[str, ...], listed: Iterable[Answer], names: Mapping[int, str], seen: _Seen) -> None:
    by_place = {_at(device): device for device in listed}
    for node in bus.devices:
        device = by_place.pop(_place(node, by_place), None)
        if device is None:
            seen.missing.append((bus, node))
            continue
        seen.pairs.append((names[id(node)], node, device))
        bridge = device.get("pci_bridge")
        behind = next((one for one in node.buses if is_pci(one)), None)
        if bridge is None or behind is None:
            continue
        if bridge["bus"]["secondary"]:
            _walk(behind, (*way, _at(device), "0"), bridge.get("devices", ()), names, seen)
        elif inside := list(_functions(behind)):
            seen.closed.append(node)
            seen.hidden += len(inside)
    seen.extra += [(bus, (*way, _at(device)), device) for device in by_place.values()]


def _at(device: Answer) -> str:
    """
    >>> _at({"slot": 31, "function": 2})
    '1f.2'
    """
    return f"{device['slot']:02x}.{device['function']}"


def _place(node: Node, listed: Mapping[str, Answer]) -> str:
    """Where a node is; one without a described address is where its id is, and "" where that is nowhere."""
    if node.address is not None:
        slot, _, function = node.address.partition(".")
        return f"{int(slot, 16):02x}.{int(function or '0', 16)}"
    return next((place for place, device in listed.items() if node.id and device["qdev_id"] == node.id), "")


def facts_from_answer(device: Answer) -> dict[str, Any]:
    """What query-pci says of a device, in the words of ``pci_facts``.

    >>> bar = {"bar": 4, "type": "memory", "size": 16384}
    >>> facts_from_answer({"class_info": {"class": 255}, "id": {"vendor": 6900, "device": 4164}, "regions": [bar]})
    {'class': 'Class 00ff', 'id': '1af4:1044', 'bar4': 'mem 16384'}
    """
    ids, kind = device["id"], device["class_info"]
    found: dict[str, Any] = {"class": kind.get("desc") or f"Class {kind['class']:04x}"}
    found["id"] = f"{ids['vendor']:04x}:{ids['device']:04x}"
    if "subsystem" in ids:
        found["sub"] = f"{ids['subsystem-vendor']:04x}:{ids['subsystem']:04x}"
    for region in device["regions"]:
        if region["bar"] == _ROM:
            found["rom"] = region["size"]
        else:
            found[f"bar{region['bar']}"] = f"{'i/o' if region['type'] == 'io' else 'mem'} {region['size']}"
    return found


_ROM = 6  # QEMU's number for the option ROM's BAR


def _functions(bus: Bus) -> Iterator[Node]:
    for node in bus.devices:
        yield node
        for behind in node.buses:
            if is_pci(behind):
                yield from _functions(behind)


def _differences(seen: _Seen, names: Mapping[int, str], description: Tree, machine: Tree) -> Iterator[Difference]:
    """A function that is gone from one place and stands at another has moved; the id says that it is the same."""
    whole = any(place.node.origin == BUILTIN for place in description.places)
    known = {way: name for name, way in ways(machine).items()}
    by_id = {device["qdev_id"]: (bus, way, device) for bus, way, device in seen.extra if device["qdev_id"]}
    moved: set[tuple[str, ...]] = set()
    for bus, node in seen.missing:
        name = names[id(node)]
        here = f"{bus.name} {node.address}" if node.address is not None else bus.name
        if node.id in by_id:
            there, way, _ = by_id[node.id]
            moved.add(way)
            yield Difference(name, "address", here, f"{there.name} {way[-1]}", ADDRESS, node.position)
        else:
            yield Difference(name, "", f"{node.driver} at {here}", None, IDENTITY, node.position)
    for bus, way, device in seen.extra:
        name = known.get(way, device["qdev_id"] or f"{bus.name}/{way[-1]}")
        place = machine.by_name.get(name)
        if way in moved or (not whole and place is not None and place.node.origin == BUILTIN):
            continue
        ids = "{vendor:04x}:{device:04x}".format(**device["id"])
        yield Difference(name, "", None, f"{place.node.driver if place else ids} at {bus.name} {way[-1]}", IDENTITY)
