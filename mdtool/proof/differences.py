"""What differs between two fingerprints: which device, which field at which offset, what it was and what it is."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mdtool.compare import ADDRESS, FIRMWARE, IDENTITY, PCI, PROPERTY, SEVERITIES
from mdtool.proof.acpi import pci_path
from mdtool.proof.fingerprint import Facts, Fingerprint
from mdtool.proof.pci import Function
from mdtool.proof.pcifields import Field, bits_to_text, fields
from mdtool.records import dataclass, replace

#: fields that a driver binds to
_IDS = frozenset(
    {"vendor", "device", "subsystem vendor", "subsystem device", "class", "revision", "header type"}
    | {"bridge subsystem vendor", "bridge subsystem device"}
)
_SECTION_SEVERITY = {"cpu": PROPERTY, "virtio": PROPERTY}  # the rest comes from the firmware
_IDENTITIES = frozenset({("smbios", "uuid"), ("fw_cfg", "uuid"), ("virtio", "mac"), ("smbios", "serial")})


@dataclass(frozen=True, slots=True)
class ViewChange:
    """One difference between what two machines show.

    ``section``   ``pci``, ``acpi``, ``smbios``, ``cpu``, ...
    ``subject``   what of it: a PCI path, an ACPI path, a table, a structure
    ``node``      the description's name of the device, or QEMU's id; "" where neither is known
    ``field``     ``pcie slot control``, ``_SUN``, ``serial``; "" where the whole subject is there on one side only
    ``offset``    in configuration space; None elsewhere
    ``old, new``  as text; None where that side has none
    ``detail``    the same in words, ``power indicator on -> off``; "" if there are none
    """

    section: str
    subject: str
    node: str
    field: str
    old: str | None
    new: str | None
    severity: str
    offset: int | None = None
    detail: str = ""

    def __str__(self) -> str:
        who = f"{self.node} ({self.section} {self.subject})" if self.node else f"{self.section} {self.subject}"
        if self.field == "":
            what = f"gone, was {self.old}" if self.new is None else f"new: {self.new}"
            return f"{who}: {what}" + (f" ({self.detail})" if self.detail else "")
        where = f" at {self.offset:#x}" if self.offset is not None else ""
        detail = f" ({self.detail})" if self.detail else ""
        return f"{who}: {self.field}{where}: {_said(self.old)} -> {_said(self.new)}{detail}"

    def data(self) -> dict[str, Any]:
        """For ``--json``; empty parts are left out."""
        rows = {name: getattr(self, name) for name in self.__slots__}
        return {name: value for name, value in rows.items() if value not in ("", None) or name in ("old", "new")}


def _said(value: str | None) -> str:
    return "nothing" if value is None else value or "''"


def compare(old: Fingerprint, new: Fingerprint, names: Mapping[str, str] | None = None) -> list[ViewChange]:
    """Everything that a guest would see differently, the worst first.

    ``names`` gives the description's node names by PCI path (``node_names``); QEMU's ids serve where it is silent.  The
    versions of QEMU are no difference.
    """
    known = {function.path: function.id for one in (new, old) for function in one.functions if function.id}
    known.update(names or {})
    found: list[ViewChange] = []
    for name in ("machine", "arch"):
        before, after = getattr(old, name), getattr(new, name)
        if before != after:
            field = "type" if name == "machine" else name
            found.append(ViewChange("machine", name, "", field, before, after, IDENTITY))
    found += _pci(old, new, known)
    for section in {**old.facts, **new.facts}:
        found += _facts(section, old.facts, new.facts, known)
    return sorted(found, key=lambda change: SEVERITIES.index(change.severity))


def _pci(old: Fingerprint, new: Fingerprint, names: Mapping[str, str]) -> Iterator[ViewChange]:
    pairs, gone, came = _matched(old.functions, new.functions)
    for function in gone:
        yield ViewChange("pci", function.path, names.get(function.path, ""), "", _who(function), None, IDENTITY)
    for function in came:
        yield ViewChange("pci", function.path, names.get(function.path, ""), "", None, _who(function), IDENTITY)
    for before, after in pairs:
        node = names.get(before.path, "") or before.id or after.id
        if before.path != after.path:
            yield ViewChange("pci", before.path, node, "address", before.path, after.path, ADDRESS)
        yield from _function(before, after, node)


def _who(function: Function) -> str:
    return "{:04x}:{:04x}".format(*function.identity[:2])


def _matched(
    old: Iterable[Function], new: Iterable[Function]
) -> tuple[list[tuple[Function, Function]], list[Function], list[Function]]:
    """Pairs of the same device, what is gone, what came.  By id, by path and kind, by kind alone, by path alone."""
    left, right = list(old), list(new)
    pairs: list[tuple[Function, Function]] = []
    keys = (
        lambda one: one.id or None,
        lambda one: (one.path, one.identity[:2]),
        lambda one: one.identity,
        lambda one: one.path,
    )
    for key in keys:
        there: dict[Any, list[Function]] = {}
        for function in right:
            there.setdefault(key(function), []).append(function)
        for function in list(left):
            candidates = there.get(key(function), []) if key(function) is not None else []
            if candidates and (key is not keys[0] or len(candidates) == 1):
                other = candidates.pop(0)
                pairs.append((function, other))
                left.remove(function)
                right.remove(other)
    order = {id(function): number for number, function in enumerate(old)}
    pairs.sort(key=lambda pair: order[id(pair[0])])
    return pairs, left, right


def _function(old: Function, new: Function, node: str) -> Iterator[ViewChange]:
    if len(old.config) != len(new.config):
        size = (str(len(old.config)), str(len(new.config)))
        yield ViewChange("pci", old.path, node, "configuration space", *size, PCI)
    length = min(len(old.config), len(new.config))
    differing = {at for at in range(length) if old.config[at] != new.config[at]}
    for one in [*fields(old.config), *fields(new.config), *_words(length)]:
        covered = differing.intersection(range(one.offset, one.offset + one.size))
        if not covered:
            continue
        differing -= covered
        before, after = one.value(old.config), one.value(new.config)
        yield ViewChange(
            "pci",
            old.path,
            node,
            one.name,
            one.text(old.config),
            one.text(new.config),
            PCI if one.name in _IDS else PROPERTY,
            one.offset,
            bits_to_text(one.name, before, after),
        )
    yield from _parts("pci", old.path, node, _bars(old), _bars(new), PROPERTY)
    yield from _parts("pci", old.path, node, _rom(old), _rom(new), FIRMWARE)


def _words(length: int) -> Iterator[Field]:
    """What no capability names, four bytes at a time."""
    return (Field(at, 4, f"config {at:#x}") for at in range(0, length, 4))


def _bars(function: Function) -> dict[str, str]:
    return {f"bar {bar.index}": str(bar).partition(" ")[2] for bar in function.bars}


def _rom(function: Function) -> dict[str, str]:
    return {"rom size": str(function.rom.size), "rom content": function.rom.sha256[:16]} if function.rom else {}


def _parts(
    section: str, subject: str, node: str, old: Mapping[str, str], new: Mapping[str, str], severity: str
) -> Iterator[ViewChange]:
    for name in {**old, **new}:
        before, after = old.get(name), new.get(name)
        if before != after:
            worst = IDENTITY if (section, name) in _IDENTITIES else severity
            short = _excerpts(before, after) if before and after else (_cut(before), _cut(after))
            if name == "sha256":
                short = before and before[:16], after and after[:16]
            yield ViewChange(section, subject, node, name, *short, worst)


def _facts(section: str, old: Facts, new: Facts, names: Mapping[str, str]) -> Iterator[ViewChange]:
    severity = _SECTION_SEVERITY.get(section, FIRMWARE)
    before, after = old.get(section, {}), new.get(section, {})
    for subject in {**before, **after}:
        node = _node(section, subject, before if subject in before else after, names)
        if subject not in after or subject not in before:
            said = [None if subject not in side else _summary(side[subject]) for side in (before, after)]
            yield ViewChange(section, subject, node, "", said[0], said[1], severity)
            continue
        one, two = before[subject], after[subject]
        flags = _flags_changed(one.get("names", ""), two.get("names", ""))
        for change in _parts(section, subject, node, _without_names(one), _without_names(two), severity):
            yield replace(change, detail=flags) if change.field in ("bits", "features") else change


def _node(section: str, subject: str, facts: Mapping[str, Mapping[str, str]], names: Mapping[str, str]) -> str:
    if section == "acpi":
        path = pci_path(subject, facts)
        return names.get(path, "") if path else ""
    return names.get(subject, "") if section == "virtio" else ""


def _summary(said: Mapping[str, str]) -> str:
    return _cut(", ".join(f"{name} {value}" for name, value in said.items() if name != "kind")) or "present"


LONGEST = 72


def _cut(text: str | None) -> str | None:
    return text if text is None or len(text) <= LONGEST else text[: LONGEST - 3] + "..."


def _excerpts(old: str, new: str) -> tuple[str, str]:
    """Two long texts around the first place where they part; short ones as they are.

    >>> _excerpts("a" * 90 + "1", "a" * 90 + "2")
    ('...aaaaaaaaaaaaaaaa1', '...aaaaaaaaaaaaaaaa2')
    """
    if max(len(old), len(new)) <= LONGEST:
        return old, new
    same = next((at for at, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), min(len(old), len(new)))
    start = max(0, same - 16)
    lead = "..." if start else ""
    return lead + (_cut(old[start:]) or ""), lead + (_cut(new[start:]) or "")


def _without_names(said: Mapping[str, str]) -> dict[str, str]:
    """A list of flags is the same as its number, and explains it."""
    return {name: value for name, value in said.items() if name != "names"}


def _flags_changed(old: str, new: str) -> str:
    """
    >>> _flags_changed("fpu vme", "fpu ht")
    '-vme +ht'
    """
    before, after = set(old.split()), set(new.split())
    return " ".join([f"-{flag}" for flag in sorted(before - after)] + [f"+{flag}" for flag in sorted(after - before)])
