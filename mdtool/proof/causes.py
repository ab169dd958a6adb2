"""Which property of the new QEMU gives an old view back: found by trying, never by guessing from version numbers.

A trial is the machine with some properties written as a person would write them, started and fingerprinted.  One that
undoes a difference and brings no other is its cause.  What is tried for a device: values that the old QEMU filled in
otherwise, then every switch that the device has, turned over, those first that QEMU itself keeps for compatibility.  For
what firmware hands to the guest: the switches of the machine and of its chipset.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from mdtool.errors import MdtoolError
from mdtool.machine.roles import role
from mdtool.machine.tree import BUILTIN, Tree, Value
from mdtool.machine.values import decimal, same
from mdtool.proof.cpuid import PROPERTIES
from mdtool.proof.differences import ViewChange, compare
from mdtool.proof.fingerprint import Fingerprint, fingerprint_from_argv
from mdtool.proof.firmware import without_firmware
from mdtool.proof.names import node_names
from mdtool.proof.probe import probed
from mdtool.proof.rewrite import with_properties
from mdtool.proof.standalone import argv_from_description
from mdtool.qemu.session import Session
from mdtool.records import dataclass, field, replace

MOST_TRIALS = 60  # for one difference; a start takes 0.3 s
AT_ONCE = 2 * (os.cpu_count() or 1)
CPU, SMBIOS, MACHINE, GLOBALS = "cpu", "smbios.type4", "machine", "features.globals"
#: the devices that carry a chipset's switches
CHIPSETS = ("ICH9-LPC", "PIIX4_PM", "mch", "i440FX", "gpex-pcihost")
#: fields of SMBIOS type 4 that have an option of their own
_PROCESSOR = {"family 2": "processor-family", "id": "processor-id"}
_DEVICES, _NO_PROPERTY = ("pci", "virtio"), ("", "rom content")  # what a ROM file holds is no property's doing
_PLATFORM = ("acpi", "smbios", "fw_cfg", "e820", "dtb")


@dataclass(frozen=True, slots=True)
class PropertyFix:
    """A property that gives the old view back.

    ``where`` is a node name, ``machine``, ``cpu`` (its features), ``smbios.type4`` or ``features.globals``.
    """

    where: str
    property: str
    value: Value

    def __str__(self) -> str:
        value = {True: "on", False: "off"}[self.value] if isinstance(self.value, bool) else self.value
        return f"{self.where}: {self.property}={value}"


Trial = tuple[PropertyFix, ...]
Keys = frozenset[tuple[object, ...]]


@dataclass(slots=True)
class Search:
    """One search; trials that several differences share run once.

    ``tree`` is the description, ``reference`` and ``dumped`` what the old and the new QEMU made of it, ``before`` the old
    fingerprint, ``baseline`` all changes without any fix, ``compat`` the names of QEMU's compatibility properties.
    """

    tree: Tree
    reference: Tree
    dumped: Tree
    before: Fingerprint
    binary: str
    root: Path | None
    compat: frozenset[str]
    baseline: Sequence[ViewChange]
    say: Callable[[str], None]
    results: dict[Trial, Keys | None] = field(default_factory=dict)
    switches: dict[str, list[tuple[str, Value]]] = field(default_factory=dict)

    def cause(self, changes: Sequence[ViewChange]) -> tuple[tuple[str, ...], Trial]:
        """The properties tried for a group of like changes, and the trial that undoes them all; () where none did."""
        first = changes[0]
        alike = [change for change in changes if self._driver(change.node) == self._driver(first.node)]
        trials = self._trials(first)[:MOST_TRIALS]
        if any(trial not in self.results for trial in trials):
            self.say(f"{first.node or first.subject}: {first.field}: {len(trials)} properties to try")
        for start in range(0, len(trials), AT_ONCE):
            some = trials[start : start + AT_ONCE]
            self._run(some)
            whole = [self._for_all(trial, changes) for trial in some if self._undoes(trial, [first])]
            self._run(whole)
            for trial in whole:
                if self._undoes(trial, alike):
                    return _names(trials[: start + len(some)]), trial
        return _names(trials), ()

    # --- what to try ---

    def _trials(self, change: ViewChange) -> list[Trial]:
        if change.section == "cpu":
            return list(_cpu(change))
        if change.section == "smbios" and change.subject.startswith("processor") and change.field in _PROCESSOR:
            value = str(int(change.old or "0", 16))
            return [(PropertyFix(SMBIOS, _PROCESSOR[change.field], value),)]
        if change.section in _DEVICES and change.field not in _NO_PROPERTY:
            return [*self._device(change.node), *(self._platform() if self._is_bridge(change.node) else ())]
        return list(self._platform()) if change.section in _PLATFORM and change.field != "sha256" else []

    def _device(self, name: str) -> Iterator[Trial]:
        place = self.reference.by_name.get(name)
        if place is None:
            return
        driver = place.node.driver
        builtin = name not in self.tree.by_name or place.node.origin == BUILTIN
        old = [(key, before) for other, key, before, _ in filled(self.reference, self.dumped) if other == name]
        known = {key for key, _ in old}
        if driver not in self.switches:
            self.switches[driver] = self._turned(driver, name)
        for key, value in old + [row for row in self.switches[driver] if row[0] not in known]:
            yield (PropertyFix(GLOBALS, f"{driver}.{key}", value) if builtin else PropertyFix(name, key, value),)

    def _platform(self) -> Iterator[Trial]:
        for driver in CHIPSETS:
            if driver not in self.switches:
                self.switches[driver] = self._turned(driver, "")
            for key, value in self.switches[driver]:
                yield (PropertyFix(GLOBALS, f"{driver}.{key}", value),)
        if MACHINE not in self.switches:
            self.switches[MACHINE] = self._turned(MACHINE, "")
        for key, value in self.switches[MACHINE]:
            yield (PropertyFix(MACHINE, key, value),)

    def _turned(self, driver: str, name: str) -> list[tuple[str, Value]]:
        """The guest-visible switches of a device (or of the machine), each with its other value."""
        argv = argv_from_description(self.tree, binary=self.binary, root=self.root).argv
        with probed(argv, root=self.root) as probe:
            path = "/machine" if driver == MACHINE else _qom_path(probe.session, driver, name)
            found = list(_booleans(probe.session, path)) if path is not None else []
        turned = [(key, not value) for key, value in found if role(driver, key) == "guest"]
        return sorted(turned, key=lambda row: (row[0] not in self.compat, not row[0].startswith("x-"), row[0]))

    def _is_bridge(self, name: str) -> bool:
        """What a chipset's ACPI does for hotplug shows in the ports below it."""
        return (self._driver(name) or "").endswith(("-port", "-bridge", "-downstream"))

    def _for_all(self, trial: Trial, changes: Sequence[ViewChange]) -> Trial:
        """The trial at every device that differs alike."""
        first, one = changes[0], trial[0]
        if one.where != first.node:
            return trial
        nodes = [change.node for change in changes if self._driver(change.node) == self._driver(first.node)]
        return tuple(replace(fix, where=node) for node in dict.fromkeys(nodes) for fix in trial)

    def _driver(self, name: str) -> str | None:
        place = self.reference.by_name.get(name)
        return place.node.driver if place is not None else None

    # --- trying ---

    def _run(self, trials: Iterable[Trial]) -> None:
        new = [trial for trial in dict.fromkeys(trials) if trial not in self.results]
        with ThreadPoolExecutor(AT_ONCE) as pool:  # each waits for its QEMU
            self.results.update(zip(new, pool.map(self._left, new), strict=True))

    def _left(self, trial: Trial) -> Keys | None:
        """The changes that are left with a trial; None where QEMU refuses it."""
        try:
            alone = argv_from_description(with_fixes(self.tree, trial), binary=self.binary, root=self.root)
            after = fingerprint_from_argv(alone.argv, root=self.root)
            after = without_firmware(after, alone.unread) if alone.unread else after
        except MdtoolError:
            return None
        return keys(compare(self.before, after, node_names(self.reference)))

    def _undoes(self, trial: Trial, changes: Iterable[ViewChange]) -> bool:
        left = self.results.get(trial)
        return left is not None and not left & keys(changes) and left <= keys(self.baseline)


def _names(trials: Iterable[Trial]) -> tuple[str, ...]:
    """What was tried: ``power_controller_present``, ``ICH9-LPC.smm-compat``, ``machine.hpet``."""
    fixes = (fix for trial in trials for fix in trial)
    return tuple(dict.fromkeys(f"machine.{fix.property}" if fix.where == MACHINE else fix.property for fix in fixes))


def keys(changes: Iterable[ViewChange]) -> Keys:
    return frozenset((one.section, one.subject, one.node, one.field, one.new) for one in changes)


def _cpu(change: ViewChange) -> Iterator[Trial]:
    """A CPU's flags turned back, by the detail ``+ht -aes``; or one of its numbers as it was."""
    if change.field == "bits":
        flags = [word for word in change.detail.split() if not word[1:].startswith("bit-")]
        if flags:
            yield tuple(PropertyFix(CPU, word[1:], word[0] == "-") for word in flags)
    elif change.field in PROPERTIES and change.old is not None:
        yield (PropertyFix(CPU, change.field, change.old if (old := decimal(change.old)) is None else old),)


def filled(old: Tree, new: Tree) -> Iterator[tuple[str, str, Value, Value]]:
    """(node, property, old, new) of guest-visible values that one QEMU fills in otherwise than the other."""
    for name, place in old.by_name.items():
        other = new.by_name.get(name)
        if other is None:
            continue
        before = {**place.node.pins, **place.node.properties}
        after = {**other.node.pins, **other.node.properties}
        for key in sorted(before.keys() & after.keys()):
            if not same(before[key], after[key]):
                yield name, key, before[key], after[key]


def with_fixes(tree: Tree, fixes: Iterable[PropertyFix]) -> Tree:
    """``tree`` with each fix written where a person would write it."""
    for fix in fixes:
        said = {fix.property: fix.value}
        if fix.where == CPU:
            tree = replace(tree, cpu={**tree.cpu, "features": {**tree.cpu.get("features", {}), **said}})
        elif fix.where == SMBIOS:
            tree = replace(tree, smbios={**tree.smbios, "type4": {**tree.smbios.get("type4", {}), **said}})
        elif fix.where == MACHINE:
            tree = replace(tree, machine={**tree.machine, "properties": {**tree.machine.get("properties", {}), **said}})
        elif fix.where == GLOBALS:
            tree = replace(tree, features={**tree.features, "globals": {**tree.features.get("globals", {}), **said}})
        else:
            tree = with_properties(tree, fix.where, said)
    return tree


def _qom_path(session: Session, driver: str, name: str) -> str | None:
    """Where a device is in QEMU: a user's by its id, a built-in among the unattached."""
    for path, wanted in ((f"/machine/peripheral/{name}", name), ("/machine/unattached", ""), ("/machine/q35", "")):
        if wanted:
            if any(row["name"] == name for row in session.execute("qom-list", {"path": "/machine/peripheral"})):
                return path
        elif any(row["name"] == path.rpartition("/")[2] for row in session.execute("qom-list", {"path": "/machine"})):
            rows = session.execute("qom-list", {"path": path})
            found = next((row["name"] for row in rows if row["type"] == f"child<{driver}>"), None)
            if found is not None:
                return f"{path}/{found}"
    return None


def _booleans(session: Session, path: str) -> Iterator[tuple[str, bool]]:
    for row in session.execute("qom-list", {"path": path}):
        if row["type"] == "bool" and row["name"] not in ("realized", "hotplugged", "hotpluggable"):
            yield row["name"], bool(session.execute("qom-get", {"path": path, "property": row["name"]}))
