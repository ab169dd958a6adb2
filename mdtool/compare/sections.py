"""The sections of two machines: CPU, memory, NUMA, boot, SMBIOS, clock and the machine's own properties."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from mdtool.compare import knowledge
from mdtool.compare.model import HOST, PROPERTY, SECTION_SEVERITY, Difference
from mdtool.machine.drivers import same_cpu_model
from mdtool.machine.roles import NOT_THE_GUESTS
from mdtool.machine.tree import ARGUMENTS, SECTIONS, Properties, Tree, Value
from mdtool.machine.values import number, same
from mdtool.records import dataclass

#: keys that say how a description came to be
_ABOUT_THE_DUMP = frozenset({"machine.qemu"})
#: a fact that is not compared, and why
Unknown = tuple[str, str]
Findings = Iterator[Difference | Unknown | None]


@dataclass(frozen=True, slots=True)
class MachinePair:
    """Two machines and what each of them could know; ``alike``: what one has and the other lacks is a difference."""

    description: Tree
    machine: Tree
    alike: bool

    @property
    def shows_cpu(self) -> bool:
        """Whether both have what the guest sees of its CPU."""
        return all(any(place.node.effective for place in tree.places) for tree in (self.description, self.machine))

    def _sources(self, *, described: bool) -> frozenset[str]:
        return knowledge.sources_of(self.description if described else self.machine)

    def absence(self, path: str, value: Value, *, described: bool) -> str | None:
        """None where the side without ``path`` could have known it, so that it is not set; else why it is not compared.

        ``described``: it is the description that lacks it.
        """
        sources = self._sources(described=described)
        if not described and not self.alike and (why := self._unshown(path)) is not None:
            return why
        if self.alike or knowledge.is_known(sources, path):
            return None
        if path == "firmware.kind" and value == "pflash" and "monitor" in sources:
            return None
        return knowledge.why_not(sources, path, described=described)

    def _unshown(self, path: str) -> str | None:
        """Why a monitor does not report for this machine what it reports for others; None if it does."""
        if path.startswith("cpu.topology") and not self.machine.cpu.get("topology"):
            return "a board with CPUs of its own: QEMU does not say how they are arranged"
        nodes = self.description.numa.get("nodes", ()) if path == "numa.nodes" else ()
        names = [str(node.get("memdev", "ram-node0")) for node in nodes]
        is_own = bool(names) and not any(re.fullmatch(r"ram-node\d+", name) for name in names)
        if is_own and sum("cpus" in node for node in nodes) < 2 and ARGUMENTS not in self.machine.source:
            return "all CPUs are on one node, and no monitor tells of the others"
        return None


def sections(pair: MachinePair) -> Findings:
    """Differences, what is not compared, and a None for each fact that is the same."""
    for section in SECTIONS:
        want, have = getattr(pair.description, section), getattr(pair.machine, section)
        if section == "machine":
            want, have = ({key: value for key, value in side.items() if key != "properties"} for side in (want, have))
        if section == "numa" and "nodes" in want and "nodes" in have and not pair.alike:
            shown = _with_shown_nodes(want)
            if len(have["nodes"]) == len(shown["nodes"]) < len(want["nodes"]):
                yield "numa.nodes", "QEMU tells nothing of nodes without CPUs and memory"
                want = shown
        yield from _values(pair, section, "", want, have)
    yield from _machine(pair)


def _with_shown_nodes(numa: Any) -> Any:
    """The section with the NUMA nodes that a monitor tells of: those with CPUs or memory."""
    return {**numa, "nodes": [node for node in numa["nodes"] if node.get("cpus") or number(node.get("memory"), 0)]}


def _values(pair: MachinePair, section: str, path: str, want: Properties, have: Properties) -> Findings:
    for key in {**want, **have}:
        name = f"{path}.{key}" if path else key
        full = f"{section}.{name}"
        if full == "cpu.features":
            yield from _values(pair, section, name, _features(want.get(key)), _features(have.get(key)))
        elif key in want and key in have:
            yield from _both(pair, section, name, want[key], have[key])
        elif full not in _ABOUT_THE_DUMP:
            yield from _one(pair, section, name, (want if key in want else have)[key], described=key not in want)


def _features(values: Any) -> dict[str, Value]:
    """CPU features by the name that QEMU shows.

    >>> _features({"sse4.1": True, "hv_relaxed": True})
    {'sse4-1': True, 'hv-relaxed': True}
    """
    return {name.replace("_", "-").replace(".", "-"): value for name, value in (values or {}).items()}


def _both(pair: MachinePair, section: str, name: str, want: Any, have: Any) -> Findings:
    if isinstance(want, Mapping) and isinstance(have, Mapping):
        yield from _values(pair, section, name, want, have)
    elif _are_rows(want, have):
        for number, (one, two) in enumerate(zip(want, have, strict=True)):
            yield from _values(pair, section, f"{name}[{number}]", one, two)
    elif (section, name.rpartition(".")[2]) == ("numa", "memory") and (not have or not want):
        yield f"{section}.{name}", "-numa node,mem= of old machine types: QEMU does not tell how much"
    elif same(want, have) or ((section, name) == ("cpu", "model") and same_cpu_model(str(want), str(have))):
        yield None
    else:
        yield Difference(section, name, want, have, _severity(section, name))


def _one(pair: MachinePair, section: str, name: str, value: Any, *, described: bool) -> Findings:
    """A fact that one side has; ``described``: the machine has it, and the description does not."""
    full = f"{section}.{name}"
    shown = full.startswith("cpu.features.") and pair.shows_cpu and not pair.alike and not _is_hidden(full)
    met = full.startswith("features.globals.") and _is_met(pair.description if described else pair.machine, name, value)
    if shown or met or knowledge.says_nothing(full, value):
        yield None  # a feature that one side does not list shows in what the CPU offers
        return
    if isinstance(value, Mapping) and value:
        for key, inner in value.items():
            yield from _one(pair, section, f"{name}.{key}", inner, described=described)
    elif (why := pair.absence(full, value, described=described)) is not None:
        yield full, why
    elif value not in (None, [], (), {}):
        severity = HOST if section == "objects" else _severity(section, name)
        want, have = (None, value) if described else (value, None)
        yield Difference(section, name, want, have, severity)


#: features of x86 CPUs that are in model-specific registers or in other words of CPUID than QEMU shows; besides them
#: those of VMX, Hyper-V, switches of compatibility, and all that say which attack a CPU is no victim of
_IN_NO_WORD = frozenset({
    "kvm", "vmware-cpuid-freq", "pmu", "rsba", "rrsba", "ibrs-all", "skip-l1dfl-vmentry", "tsx-ctrl", "fb-clear",
    "split-lock-detect", "lbr-fmt",
})  # fmt: skip


def _is_hidden(path: str) -> bool:
    """Whether QEMU shows a feature of an x86 CPU nowhere among what the CPU offers."""
    name = path.removeprefix("cpu.features.")
    return name.startswith(("hv-", "vmx-", "x-")) or name.endswith("-no") or name in _IN_NO_WORD


def _is_met(tree: Tree, name: str, value: Value) -> bool:
    """Whether each device of a driver has what ``globals.DRIVER.PROPERTY`` would set, without it."""
    driver, _, wanted = name.removeprefix("globals.").rpartition(".")
    nodes = [place.node for place in tree.places if place.node.driver == driver]
    have = [{**node.pins, **node.properties}.get(wanted) for node in nodes]
    places = [number(f"0x{node.address}", -2) for node in nodes]
    return bool(nodes) and all(
        same(one, value) or (one is None and number(value, -1) == place) for one, place in zip(have, places, strict=True)
    )


def _severity(section: str, name: str) -> str:
    return SECTION_SEVERITY.get((section, name)) or SECTION_SEVERITY.get((section, ""), PROPERTY)


def _are_rows(one: Any, other: Any) -> bool:
    return (
        isinstance(one, list)
        and isinstance(other, list)
        and len(one) == len(other)
        and all(isinstance(item, Mapping) for item in (*one, *other))
    )


# --- the machine's own properties ----------------------------------------------------------------------------------


def _machine(pair: MachinePair) -> Findings:
    sides = (pair.description, pair.machine)
    chosen = [{_name(key): value for key, value in side.machine.get("properties", {}).items()} for side in sides]
    pinned = [{_name(key): value for key, value in side.machine_pins.items()} for side in sides]
    want, have = ({**pins, **own} for pins, own in zip(pinned, chosen, strict=True))
    for name in {**want, **have}:
        path = f"properties.{name}"
        if name in NOT_THE_GUESTS:  # usb makes devices, which are in the tree
            continue
        if name in want and name in have:
            if knowledge.same_on_the_machine(name, want[name], have[name]):
                yield None
            else:
                yield Difference("machine", path, want[name], have[name], PROPERTY)
            continue
        described = name not in want
        value = (have if described else want)[name]
        if knowledge.is_usual(name, value, str(sides[0].machine.get("type", ""))):
            continue
        side, pins = (sides[0], pinned[0]) if described else (sides[1], pinned[1])
        both = name in chosen[0] or name in chosen[1]
        if _is_unset(pair, side, pins, name, chosen=both):
            yield Difference("machine", path, None if described else value, value if described else None, PROPERTY)
        else:
            yield f"machine.{path}", _why(side, described=described)


def _is_unset(pair: MachinePair, side: Tree, pins: Properties, name: str, *, chosen: bool) -> bool:
    """Whether the side without a machine property could have known it."""
    if pair.alike:
        return chosen
    if pins:  # a QEMU was asked for all that it has: this one it does not have, or never shows
        return ARGUMENTS in side.source and chosen
    return name in knowledge.MACHINE_UNSET and bool(knowledge.sources_of(side))


def _why(side: Tree, *, described: bool) -> str:
    if side.machine_pins:
        version = side.machine.get("qemu")
        return f"QEMU {version} does not show it" if version else "QEMU does not show it"
    return knowledge.why_not(knowledge.sources_of(side), described=described)


def _name(name: str) -> str:
    return name.replace("_", "-")
