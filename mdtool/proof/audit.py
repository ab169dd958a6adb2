"""One description on two QEMU binaries: what an upgrade changes for the guest, before anyone upgrades.

audit       both machines started paused and empty, fingerprinted, dumped, migrated into each other
causes      (mdtool.proof.causes) which property of the new QEMU gives the old view back
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mdtool.compare import IDENTITY, PROPERTY, SEVERITIES
from mdtool.errors import QemuError
from mdtool.machine.tree import Tree, Value
from mdtool.machine.values import natural
from mdtool.proof.causes import PropertyFix, Search, filled
from mdtool.proof.differences import ViewChange, compare
from mdtool.proof.fingerprint import Fingerprint, fingerprint_from_probe
from mdtool.proof.firmware import without_firmware
from mdtool.proof.migration import blamed
from mdtool.proof.names import node_names
from mdtool.proof.probe import probed
from mdtool.proof.rewrite import without_property
from mdtool.proof.standalone import Standalone, argv_from_description
from mdtool.proof.stream import Loaded, MachineCommand, loads
from mdtool.qemu.dump import dump
from mdtool.qemu.session import Refused
from mdtool.records import dataclass, replace
from mdtool.text import pattern

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Qemu:
    """A QEMU binary, and the folder that it lives in where that is not this system."""

    binary: str
    root: Path | None = None

    def __str__(self) -> str:
        return f"{self.binary} in {self.root}" if self.root else self.binary


@dataclass(frozen=True, slots=True)
class MachineType:
    """What a binary says of a machine type.

    ``known``       whether it has it at all
    ``deprecated``  whether it says that it will go
    ``next``        its later versions of the same kind, oldest first
    ``compat``      its compatibility switches: (QOM type, property, value); () if QEMU does not report them (before 9.1)
    """

    name: str
    known: bool
    deprecated: bool = False
    next: tuple[str, ...] = ()
    compat: tuple[tuple[str, str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class ChangeGroup:
    """Changes that are the same at several devices, and what is known of their cause.

    ``fixes``  the properties that were seen to undo them, one a device; () where none did
    ``tried``  the properties that were tried; () if there is nothing to try
    """

    changes: tuple[ViewChange, ...]
    fixes: tuple[PropertyFix, ...] = ()
    tried: tuple[str, ...] = ()

    @property
    def severity(self) -> str:
        return self.changes[0].severity

    def __str__(self) -> str:
        first = self.changes[0]
        others = [change.node or change.subject for change in self.changes[1:]]
        shown = ", ".join(others[:4]) + (f" and {len(others) - 4} more" if len(others) > 4 else "")
        return f"{first}" + (f"; also {shown}" if others else "")

    def data(self) -> dict[str, Any]:
        return {
            "severity": self.severity,
            "changes": [change.data() for change in self.changes],
            "fixes": [{"where": fix.where, "property": fix.property, "value": fix.value} for fix in self.fixes],
            "tried": list(self.tried),
        }


@dataclass(frozen=True, slots=True)
class Audit:
    """What an upgrade from ``old`` to ``new`` changes.

    ``findings``   what a guest sees differently, the worst first
    ``filled``     (node, property, old, new) that QEMU itself fills in otherwise, visible or not
    ``forward``    whether the old state loads into the new QEMU; ``backward`` the reverse; None where not tried
    ``unread``     what was not looked at
    """

    old: Qemu
    new: Qemu
    versions: tuple[str, str]
    type: MachineType
    findings: tuple[ChangeGroup, ...] = ()
    filled: tuple[tuple[str, str, Value, Value], ...] = ()
    forward: Loaded | None = None
    backward: Loaded | None = None
    unread: tuple[str, ...] = ()

    @property
    def clean(self) -> bool:
        """Nothing differs, the state loads both ways, and the machine type is there."""
        states = [loaded.ok for loaded in (self.forward, self.backward) if loaded is not None]
        return self.type.known and not self.findings and all(states)

    @property
    def fixes(self) -> list[PropertyFix]:
        return [fix for finding in self.findings for fix in finding.fixes]

    def data(self) -> dict[str, Any]:
        """For ``--json``."""
        return {
            "old": {"qemu": str(self.old), "version": self.versions[0]},
            "new": {"qemu": str(self.new), "version": self.versions[1]},
            "machine": {
                "type": self.type.name,
                "known": self.type.known,
                "deprecated": self.type.deprecated,
                "next": list(self.type.next),
            },
            "findings": [finding.data() for finding in self.findings],
            "filled": [{"node": n, "property": p, "old": o, "new": v} for n, p, o, v in self.filled],
            "migration": {
                name: {"loads": loaded.ok, "said": loaded.said} if loaded is not None else None
                for name, loaded in (("forward", self.forward), ("backward", self.backward))
            },
            "unread": list(self.unread),
        }


def audit(
    tree: Tree, old: Qemu, new: Qemu, *, causes: bool = True, migration: bool = True, say: Say = lambda _: None
) -> Audit:
    """The description ``tree`` on both binaries.

    ``causes`` looks for the responsible properties (some seconds), ``migration`` tries the state both ways.  Raises
    QemuError where the machine does not start on ``old``; that it does not on ``new`` is a result.
    """
    before = _seen(tree, old)
    unread = [f"{what}: QEMU {before.version} does not have it" for what in before.lacks]
    kind = machine_type(str(tree.machine["type"]), new)
    if not kind.known:
        return Audit(old, new, (before.version, _reported_version(new)), kind)
    try:
        after = _seen(tree, new)
    except QemuError as error:
        refused = ViewChange("machine", str(tree.machine["type"]), "", "start", "yes", "no", IDENTITY, detail=_words(error))
        return Audit(
            old, new, (before.version, _reported_version(new)), kind, (ChangeGroup((refused,)),), unread=tuple(unread)
        )
    found = [ViewChange("property", what, "", "", "described", None, PROPERTY) for what in after.lacks]
    found += compare(before.fingerprint, after.fingerprint, node_names(before.dumped))
    findings = [ChangeGroup(tuple(group)) for group in grouped(found)]
    if causes:
        compat = frozenset(name for _, name, _ in kind.compat)
        search = Search(
            after.tree, before.dumped, after.dumped, before.fingerprint, new.binary, new.root, compat, found, say
        )
        findings = [_explained(finding, search) for finding in findings]
    forward = backward = None
    if migration:
        one, other = MachineCommand(before.alone.argv, old.root), MachineCommand(after.alone.argv, new.root)
        forward, backward = (_blaming(loads(*way), before.dumped) for way in ((one, other), (other, one)))
    return Audit(
        old,
        new,
        (before.version, after.version),
        kind,
        tuple(findings),
        tuple(filled(before.dumped, after.dumped)),
        forward,
        backward,
        (*unread, *after.fingerprint.unread, *_not_there(after.alone)),
    )


@dataclass(frozen=True, slots=True)
class Seen:
    """A description on one QEMU.

    ``tree`` is the description without the properties that this QEMU does not have (``lacks``), ``dumped`` what QEMU made
    of it.
    """

    fingerprint: Fingerprint
    dumped: Tree
    tree: Tree
    alone: Standalone
    lacks: tuple[str, ...] = ()

    @property
    def version(self) -> str:
        return self.fingerprint.qemu


def _seen(tree: Tree, qemu: Qemu) -> Seen:
    """Start the machine and look; where QEMU does not have a described property, again without it.

    What restores an old view on a new QEMU is often a switch that the old one never needed.
    """
    lacks: list[str] = []
    while True:
        alone = argv_from_description(tree, binary=qemu.binary, root=qemu.root)
        try:
            with probed(alone.argv, root=qemu.root) as probe:
                dumped = dump(probe.session)  # first: reading the fingerprint changes the machine
                found = fingerprint_from_probe(probe)
                found = without_firmware(found, alone.unread) if alone.unread else found
                return Seen(found, dumped, tree, alone, tuple(lacks))
        except QemuError as error:
            missing = _NOT_FOUND.search(error.what)
            smaller = without(tree, missing["type"], missing["name"] or missing["option"]) if missing else tree
            if missing is None or smaller == tree:
                raise
            lacks.append(f"{missing['type']}.{missing['name']}" if missing["name"] else str(missing["option"]))
            tree = smaller


_NOT_FOUND = pattern(r"Property '(?P<type>[^']+)\.(?P<name>[^'.]+)' not found|Invalid parameter '(?P<option>[^']+)'")


def _blaming(loaded: Loaded, tree: Tree) -> Loaded:
    """With the node that QEMU's words are about."""
    node = blamed(loaded.said, tree)
    return replace(loaded, said=f"{loaded.said} ({node})") if node is not None else loaded


def without(tree: Tree, type_: str | None, name: str) -> Tree:
    """``tree`` without the property ``name`` of a QOM type (None: of an option)."""
    if type_ is None:
        processor = {key: value for key, value in tree.smbios.get("type4", {}).items() if key != name}
        rest = {key: value for key, value in tree.smbios.items() if key != "type4"}
        return replace(tree, smbios={**rest, "type4": processor} if processor else rest)
    if type_.endswith("-machine"):
        kept = {key: value for key, value in tree.machine.get("properties", {}).items() if key != name}
        return replace(tree, machine={**tree.machine, "properties": kept})
    if type_.endswith("-cpu"):
        kept = {key: value for key, value in tree.cpu.get("features", {}).items() if key != name}
        return replace(tree, cpu={**tree.cpu, "features": kept})
    if f"{type_}.{name}" in tree.features.get("globals", {}):
        kept = {key: value for key, value in tree.features["globals"].items() if key != f"{type_}.{name}"}
        return replace(tree, features={**tree.features, "globals": kept})
    family = type_.removesuffix("-device")  # a virtio proxy passes on what it does not have itself
    for place in tree.places:
        if place.node.driver.startswith(family) and name in place.node.properties:
            tree = without_property(tree, place.name, name)
    return tree


def _words(error: QemuError) -> str:
    """QEMU's message, with a device by its id and not by all of its arguments."""
    return re.sub(r'-device \{.*?"id": "([^"]+)".*?\}: ', r"\1: ", error.what).removeprefix("QEMU does not start: ")


def _explained(finding: ChangeGroup, search: Search) -> ChangeGroup:
    tried, fixes = search.cause(finding.changes)
    return replace(finding, fixes=fixes, tried=tried)


def _not_there(alone: Standalone) -> Iterator[str]:
    for name, driver in alone.substitutes.items():
        yield f"{name}: {driver} stood in: the described device needs a host"
    for name, why in alone.left_out.items():
        yield f"{name}: left out: {why}"


def grouped(changes: Iterable[ViewChange]) -> list[list[ViewChange]]:
    """Changes that are the same but for the device, together, in the order of the first of each."""
    groups: dict[tuple[object, ...], list[ViewChange]] = {}
    for change in changes:
        groups.setdefault(what_differs(change), []).append(change)
    return sorted(groups.values(), key=lambda group: SEVERITIES.index(group[0].severity))


def what_differs(change: ViewChange) -> tuple[object, ...]:
    """What is equal for changes that are the same but for the device, of one guest or of several."""
    where = () if change.field and change.section in ("pci", "acpi", "virtio", "smbios", "dtb") else (change.subject,)
    return (change.section, change.field, change.offset, change.old, change.new, change.severity, *where)


# --- machine types ---------------------------------------------------------------------------------------------------

_VERSION = pattern(r"-(\d+)\.(\d+)(?:\.\d+)?$")


def machine_type(name: str, qemu: Qemu) -> MachineType:
    """What ``qemu`` says of the machine type ``name``."""
    with probed([qemu.binary, "-machine", "none", "-nodefaults", "-display", "none"], root=qemu.root) as probe:
        try:
            machines = probe.session.execute("query-machines", {"compat-props": True})
        except Refused:  # before 9.1
            machines = probe.session.execute("query-machines")
    return machine_type_from_answer(name, machines)


def machine_type_from_answer(name: str, machines: Sequence[Mapping[str, Any]]) -> MachineType:
    """
    >>> answer = [{"name": "pc-q35-7.2", "deprecated": True}, {"name": "pc-q35-9.0"}, {"name": "pc-q35-10.0"}]
    >>> machine_type_from_answer("pc-q35-7.2", answer).next
    ('pc-q35-9.0', 'pc-q35-10.0')
    """
    found = next((one for one in machines if name in (one["name"], one.get("alias"))), None)
    family = _VERSION.sub("", name)
    relatives = [one["name"] for one in machines if _VERSION.sub("", one["name"]) == family]
    later = [other for other in sorted(relatives, key=natural) if natural(other) > natural(name)]
    if found is None:
        return MachineType(name, False, next=tuple(later))
    compat = tuple((row["qom-type"], row["property"], row["value"]) for row in found.get("compat-props", ()))
    return MachineType(name, True, bool(found.get("deprecated", False)), tuple(later), compat)


def _reported_version(qemu: Qemu) -> str:
    with probed([qemu.binary, "-machine", "none", "-nodefaults", "-display", "none"], root=qemu.root) as probe:
        return ".".join(map(str, probe.session.version))


def reasons(audit: Audit) -> list[tuple[PropertyFix, str]]:
    """Each fix with the comment that ``--fix`` writes beside it."""
    return [
        (fix, f"as QEMU {audit.versions[0]} had it: {_why(finding, fix)}")
        for finding in audit.findings
        for fix in finding.fixes
    ]


def _why(finding: ChangeGroup, fix: PropertyFix) -> str:
    change = next((one for one in finding.changes if one.node == fix.where), finding.changes[0])
    where = f" at {change.offset:#x}" if change.offset is not None else ""
    return f"{change.field}{where} is {change.old}, and {change.new} without this"
