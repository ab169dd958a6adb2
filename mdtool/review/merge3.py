"""Two branches' descriptions into one, node by node.

What only one side changed is taken from that side, property by property.  What both added stays, both of it: where the
two new devices took the same address or the same id, the second one gets a free one, since no guest has seen it yet.
Nothing that existed moves.  What both changed differently is a conflict, and is marked in the text with both sides.
"""

from __future__ import annotations

import difflib
import re
import subprocess
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from mdtool.errors import MdtoolError
from mdtool.machine.buses.kinds import EXCLUSIVE, PCI_BUSES
from mdtool.machine.buses.limits import usb_ports, usb_speeds
from mdtool.machine.buses.pci import is_port
from mdtool.machine.buses.providers import buses_of
from mdtool.machine.document import Document, document_from_known_text, document_from_text
from mdtool.machine.edit import rewritten
from mdtool.machine.pci import pci_facts
from mdtool.machine.tree import SECTIONS, Bus, Node, Place, Retired, Tree, Value
from mdtool.machine.values import decimal, natural, number, same
from mdtool.machine.writer import canonical, yaml_from_tree
from mdtool.reconcile.assemble import Parts, assembled, parts_of
from mdtool.records import dataclass, field, replace
from mdtool.review.check import checked
from mdtool.review.show import shown

Side = Literal["ours", "theirs"]
_ABSENT: Any = object()


@dataclass(frozen=True, slots=True)
class MergedText:
    """``text`` with conflict markers where ``conflicts`` (in words) are; ``notes`` say what was moved or renamed."""

    text: str
    conflicts: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


# --- texts -----------------------------------------------------------------------------------------------------------


def merged_text(base: str, ours: str, theirs: str, file: str = "guest.yaml", size: int = 7) -> MergedText:
    """Merge three texts; what is no description, or a broken one, is merged line by line as git would.

    ``size`` is the length of conflict markers.  ``base`` is empty where both sides added the file.
    """
    try:
        documents = [document_from_known_text(text, file) for text in (base or ours, ours, theirs)]
    except MdtoolError:
        text, clean = by_lines(base, ours, theirs, size)
        return MergedText(text, () if clean else ("not three descriptions: merged line by line",))
    root, mine, yours = (document.tree for document in documents)
    if not base:
        root = Tree(machine=mine.machine)
    elif canonical(yours) == canonical(root):
        return MergedText(ours)
    elif canonical(mine) == canonical(root):
        return MergedText(theirs)
    merges = {side: _Merge(root, mine, yours, side) for side in ("ours", "theirs")}
    trees = {side: canonical(merge.tree()) for side, merge in merges.items()}
    start = _start(*documents)
    texts = {side: _settled(rewritten(start, tree), tree, file) for side, tree in trees.items()}
    conflicts = [*merges["ours"].conflicts]
    text = texts["ours"]
    if conflicts:
        text = marked(texts["ours"], texts["theirs"], size)
    else:
        conflicts += _new_errors(text, documents[1:], file)
    return MergedText(text, tuple(conflicts), tuple(merges["ours"].notes))


def _start(base: Document, ours: Document, theirs: Document) -> Document:
    """The text to begin with: both sides' comments where their lines merge, ours where they do not."""
    text, clean = by_lines(base.text[: base.end], ours.text[: ours.end], theirs.text[: theirs.end])
    if clean:
        try:
            return document_from_text(text, ours.file)
        except MdtoolError:
            pass  # lines merged into nonsense
    return ours


def _settled(text: str, tree: Tree, file: str) -> str:
    """``text`` where it says ``tree``; a new one where editing it in place did not work out."""
    try:
        if canonical(document_from_text(text, file).tree) == tree:
            return text
    except MdtoolError:
        pass
    return yaml_from_tree(tree)


def by_lines(base: str, ours: str, theirs: str, size: int = 7) -> tuple[str, bool]:
    """The result of ``git merge-file``, and whether it is without conflicts."""
    merged, clean = bytes_by_lines(base.encode(), ours.encode(), theirs.encode(), size)
    return merged.decode(), clean


def bytes_by_lines(base: bytes, ours: bytes, theirs: bytes, size: int = 7) -> tuple[bytes, bool]:
    """The same of files in any character set; all of both sides between markers where git does not merge them."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder, name) for name in ("ours", "base", "theirs")]
        for path, data in zip(paths, (ours, base, theirs), strict=True):
            path.write_bytes(data)
        labels = [word for name in ("ours", "base", "theirs") for word in ("-L", name)]
        try:
            command = ["git", "merge-file", "-p", f"--marker-size={size}", *labels, *map(str, paths)]
            done = subprocess.run(command, capture_output=True, check=False)
        except OSError:
            pass
        else:
            if 0 <= done.returncode < 128:  # how many conflicts there are
                return done.stdout, done.returncode == 0
    parts = [b"<" * size + b" ours\n", ours, b"=" * size + b"\n", theirs, b">" * size + b" theirs\n"]
    return b"".join(part if part.endswith(b"\n") or not part else part + b"\n" for part in parts), False


def marked(ours: str, theirs: str, size: int = 7) -> str:
    """One text of two, with the lines in which they differ marked as git marks a conflict."""
    left, right = ours.splitlines(keepends=True), theirs.splitlines(keepends=True)
    lines: list[str] = []
    for tag, a, b, c, d in difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes():
        if tag == "equal":
            lines += left[a:b]
        else:
            lines += [f"{'<' * size} ours\n", *left[a:b], f"{'=' * size}\n", *right[c:d], f"{'>' * size} theirs\n"]
    return "".join(lines)


def sides_of(text: str) -> tuple[str, str]:
    """Ours and theirs of a text with conflict markers.

    >>> sides_of("a\\n<<<<<<< ours\\nb\\n||||||| base\\nc\\n=======\\nd\\n>>>>>>> theirs\\n")
    ('a\\nb\\n', 'a\\nd\\n')
    """
    ours, theirs, here = "", "", "both"
    for line in text.splitlines(keepends=True):
        if found := re.match(r"(<|\||=|>)\1{6,}(?= |$)", line):
            here = {"<": "ours", "|": "base", "=": "theirs", ">": "both"}[found[1]]
            continue
        ours += line if here in ("ours", "both") else ""
        theirs += line if here in ("theirs", "both") else ""
    return ours, theirs


def _new_errors(text: str, sides: Iterable[Document], file: str) -> list[str]:
    """What is wrong with the whole and was not with either half: two devices with one bootindex."""
    before = {(e.rule, e.what) for side in sides for e in checked(side).errors}
    after = checked(document_from_text(text, file)).errors
    return [str(error) for error in after if (error.rule, error.what) not in before]


# --- trees -----------------------------------------------------------------------------------------------------------


@dataclass
class _Merge:
    """One merge; ``prefer`` says whose value stands where both changed one."""

    base: Tree
    ours: Tree
    theirs: Tree
    prefer: Side
    conflicts: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def tree(self) -> Tree:
        theirs, base, ours = self._told_apart(), self.base, self.ours
        sections: dict[str, Any] = {
            name: self._bag(name, getattr(base, name), getattr(ours, name), getattr(theirs, name)) for name in SECTIONS
        }
        for name in ("applied", "machine_pins"):
            sections[name] = self._bag("", *(getattr(side, name) for side in (base, ours, theirs)), quiet=True)
        sections["source"] = self._three("", base.source, ours.source, theirs.source, quiet=True)
        parts = self._nodes(*(parts_of(tree) for tree in (base, ours, theirs)))
        tree = assembled(parts, Tree(**sections))
        return replace(tree, retired=self._retired(tree, theirs))

    # --- names ---

    def _told_apart(self) -> Tree:
        """Theirs, with other ids for the new devices whose ids ours gave to other new devices."""
        mine = {p.name: p for p in self.ours.places if p.name not in self.base.by_name}
        renames: dict[str, str] = {}
        taken = {place.node.id for tree in (self.base, self.ours, self.theirs) for place in tree.places}
        for place in self.theirs.places:
            other = mine.get(place.name)
            if other is None or place.node.id is None or place.name in self.base.by_name or _same_device(place, other):
                continue
            new = _next_name(place.node.id, taken)
            taken.add(new)
            renames[place.node.id] = new
            self.notes.append(
                f"{place.node.id} of theirs ({place.node.driver}) is now {new}: ours has another {place.node.id}"
            )
        return _renamed(self.theirs, renames) if renames else self.theirs

    # --- values ---

    def _three(self, what: str, base: Value, ours: Value, theirs: Value, *, quiet: bool = False) -> Value:
        """One value out of three; ``quiet`` values are the machine's own, and the preferred side's stands."""
        if _equal(ours, theirs) or _equal(theirs, base):
            return ours
        if _equal(ours, base):
            return theirs
        if not quiet:
            self.conflicts.append(f"{what}: ours {_said(ours)}, theirs {_said(theirs)}, before {_said(base)}")
        return ours if self.prefer == "ours" else theirs

    def _bag(
        self,
        what: str,
        base: Mapping[str, Value],
        ours: Mapping[str, Value],
        theirs: Mapping[str, Value],
        *,
        quiet: bool = False,
    ) -> dict[str, Value]:
        found: dict[str, Value] = {}
        for name in {**ours, **theirs}:
            values = [bag.get(name, _ABSENT) for bag in (base, ours, theirs)]
            here = f"{what}.{name}" if what else name
            if all(isinstance(value, Mapping) for value in values[1:]):
                was = values[0] if isinstance(values[0], Mapping) else {}
                value: Value = self._bag(here, was, values[1], values[2], quiet=quiet)
            else:
                value = self._three(here, *values, quiet=quiet)
            if value is not _ABSENT:
                found[name] = value
        return found

    # --- nodes ---

    def _nodes(self, base: Parts, ours: Parts, theirs: Parts) -> Parts:
        parts = Parts()
        for bus, owner in {**theirs.owners, **ours.owners}.items():
            if owner is None:
                parts.buses[bus] = ours.buses.get(bus) or theirs.buses[bus]
                parts.owners[bus] = None
        where: str | None
        for name in [*ours.nodes, *(n for n in theirs.nodes if n not in ours.nodes)]:
            found = self._one(name, base.nodes.get(name), ours.nodes.get(name), theirs.nodes.get(name), ours, theirs)
            if found is not None:
                where, node = found
                had, one, two = (side.provided(name) for side in (base, ours, theirs))
                sides = [bus for bus, there in ((one, name in ours.nodes), (two, name in theirs.nodes)) if there]
                provided = [b for b in dict.fromkeys([*one, *two]) if b not in had or all(b in side for side in sides)]
                buses = tuple(ours.buses.get(b) or theirs.buses[b] for b in provided)
                if where is not None and where not in parts.buses:
                    self._bus(parts, where, name, (ours, theirs, base))
                parts.put(name, where, replace(node, buses=buses))
        self._places(parts, base, ours, theirs)
        return parts

    def _one(
        self, name: str, base: Any, ours: Any, theirs: Any, left: Parts, right: Parts
    ) -> tuple[str | None, Node] | None:
        """A node out of three; each is (bus, node) or None where that side does not have it."""
        if ours is None or theirs is None:
            there = ours or theirs
            if base is None:
                return there  # type: ignore[no-any-return]  # one side added it
            changed = _differs(base, there)
            if not changed:
                return None  # one side removed it, and the other left it alone
            side = "theirs" if ours is None else "ours"
            self.conflicts.append(f"{name}: removed on one side, changed on the other ({side})")
            return there if self.prefer == side else None
        was = base or (None, Node(""))
        bus, address = self._place(name, was, ours, theirs, base is None)
        one, two, old = ours[1], theirs[1], was[1]
        driver = self._three(f"{name}.driver", old.driver or _ABSENT, one.driver, two.driver)
        bags = {
            key: self._bag(
                "" if key != "properties" else name, *(getattr(n, key) for n in (old, one, two)), quiet=key != "properties"
            )
            for key in ("properties", "pins", "applied", "effective")
        }
        origin = self._three(f"{name}.origin", old.origin, one.origin, two.origin)
        node = replace(one, driver=driver, address=address, origin=origin, **bags)
        return bus, replace(node, pci=self._pci(node, old, one, two))

    def _pci(self, node: Node, base: Node, ours: Node, theirs: Node) -> Mapping[str, Value]:
        """The PCI facts that were read with the properties that the node now has; none if neither side had just these."""
        fits = [side for side in (base, ours, theirs) if pci_facts(replace(node, pci=side.pci))]
        if ours in fits and theirs in fits:
            found: Mapping[str, Value] = self._three("", base.pci, ours.pci, theirs.pci, quiet=True)
            return found
        return next((side.pci for side in (ours, theirs, base) if side in fits), {})

    def _place(self, name: str, base: Any, ours: Any, theirs: Any, is_new: bool) -> tuple[str | None, str | None]:
        """Bus and address, which change together; two sides that added one device at two places: ours."""
        places = [(bus, node.address) for bus, node in (base, ours, theirs)]
        if is_new:
            return places[1]
        found: tuple[str | None, str | None] = self._three(f"{name}: its place", *places)
        return found

    def _bus(self, parts: Parts, bus: str, name: str, sides: tuple[Parts, ...]) -> None:
        """A port that one side removed stays where the other side put something behind it."""
        owner = next((side.owners[bus] for side in sides if bus in side.owners), None)
        holder = next((side for side in sides if owner in side.nodes), None)
        if owner is None or holder is None:
            return
        up, node = holder.nodes[owner]
        if up is not None and up not in parts.buses:
            self._bus(parts, up, name, sides)
        parts.put(owner, up, replace(node, buses=tuple(holder.buses[b] for b in holder.provided(owner))))
        self.notes.append(f"{owner} stays: {name} is behind it")

    # --- addresses ---

    def _places(self, parts: Parts, base: Parts, ours: Parts, theirs: Parts) -> None:
        """New devices move out of the way of what was there before, and theirs out of the way of ours."""
        seen: dict[tuple[str, str], str] = {}
        age = {name: 0 if name in base.nodes else 1 if name in ours.nodes else 2 for name in parts.nodes}
        for name in sorted(parts.nodes, key=lambda n: age[n]):
            bus, node = parts.nodes[name]
            if bus is None or node.address is None or parts.buses[bus].type not in EXCLUSIVE:
                continue
            first = seen.setdefault((bus, node.address), name)
            if first == name:
                continue
            if age[name] == 0:
                self.conflicts.append(f"{name} and {first}: both were moved to {bus} {node.address}")
                loser = name if self.prefer == "ours" else first
                parts.nodes[loser] = (
                    base.nodes[loser][0],
                    replace(parts.nodes[loser][1], address=base.nodes[loser][1].address),
                )
                continue
            place = _free_place(parts, bus, node, set(self._reserved()))
            if place is None:
                self.conflicts.append(f"{name} and {first}: both at {bus} {node.address}, and no other place is free")
                if self.prefer == "ours":
                    del parts.nodes[name]
                continue
            where, address = place
            parts.nodes[name] = (where, replace(node, address=address))
            seen[where, address] = name
            self.notes.append(f"{name} ({node.driver}) is now at {where} {address}: {first} has {bus} {node.address}")

    def _reserved(self) -> Iterator[tuple[str, str]]:
        for tree in (self.base, self.ours, self.theirs):
            yield from ((retired.bus, retired.address) for retired in tree.retired)

    def _retired(self, tree: Tree, theirs: Tree) -> tuple[Retired, ...]:
        """What either side retired, less what either side cleared, and less what is in use."""
        sides = [{(r.bus, r.address): r for r in side.retired} for side in (self.base, self.ours, theirs)]
        base, one, two = sides
        kept = {key: one.get(key) or two[key] for key in {**one, **two} if (key in one and key in two) or key not in base}
        used = {place.address for place in tree.places}
        return tuple(retired for key, retired in kept.items() if key not in used and key[0] in tree.all_buses)


def _equal(one: Value, two: Value) -> bool:
    if one is _ABSENT or two is _ABSENT:
        return one is two
    return one == two or (not isinstance(one, (tuple, dict, list)) and same(one, two))


def _said(value: Value) -> str:
    if isinstance(value, tuple):
        return " ".join(str(part) for part in value if part is not None)
    return "nothing" if value is _ABSENT else shown(value)


def _differs(one: tuple[str | None, Node], two: tuple[str | None, Node]) -> bool:
    """Whether a person (or the XML) changed a node; pins alone are no change."""
    parts = [(bus, node.driver, node.address, node.origin, dict(node.properties)) for bus, node in (one, two)]
    return parts[0] != parts[1]


def _same_device(one: Place, two: Place) -> bool:
    """Whether both sides added the same device: the same element, or (without one) the same driver and identity."""
    if one.node.origin and two.node.origin:
        return one.node.origin == two.node.origin
    mark = [{k: str(n.properties.get(k)).lower() for k in ("mac", "serial", "wwn", "name")} for n in (one.node, two.node)]
    return one.node.driver == two.node.driver and mark[0] == mark[1]


def _next_name(name: str, taken: Iterable[str | None]) -> str:
    """The next free name of a numbered family.

    >>> _next_name("net1", {"net1", "net2"})
    'net3'
    """
    used = set(taken)
    family, digits = re.fullmatch(r"(.*?)(\d*)", name).groups()  # type: ignore[union-attr]
    count = (decimal(digits) or 0) + 1
    while f"{family}{count}" in used:
        count += 1
    return f"{family}{count}"


def _renamed(tree: Tree, names: Mapping[str, str]) -> Tree:
    """The tree with other ids, and with the buses that follow from them."""

    def node(one: Node) -> Node:
        new = names.get(one.id or "")
        buses = tuple(bus(inner, one.id, new) for inner in one.buses)
        return replace(one, id=new or one.id, buses=buses)

    def bus(one: Bus, old: str | None, new: str | None) -> Bus:
        name = new + one.name[len(old) :] if new and old and one.name.startswith(old) else one.name
        return replace(one, name=name, devices=tuple(map(node, one.devices)))

    return replace(tree, buses=tuple(bus(one, None, None) for one in tree.buses), devices=tuple(map(node, tree.devices)))


def _free_place(parts: Parts, bus: str, node: Node, reserved: set[tuple[str, str]]) -> tuple[str, str] | None:
    """Where a new device can go: on its own bus, else behind an empty port, else behind a new one."""
    used = {(where, one.address) for where, one in parts.nodes.values() if where is not None} | reserved
    owner = parts.owners.get(bus)
    provider = parts.nodes[owner][1] if owner is not None else None
    if provider is None or not is_port(provider.driver):
        return next(
            ((bus, address) for address in _addresses(parts, bus, provider, node) if (bus, address) not in used), None
        )
    ports = [name for name, (_, one) in parts.nodes.items() if is_port(one.driver)]
    for name in sorted(ports, key=natural):
        inner = next(iter(parts.provided(name)), None)
        if inner is not None and not parts.on(inner) and (inner, "00.0") not in reserved:
            return inner, "00.0"
    return _new_port(parts, owner or "", provider, used)


def _addresses(parts: Parts, bus: str, provider: Node | None, node: Node) -> Iterator[str]:
    """The addresses of a bus, in the order in which they are given out."""
    kind = parts.buses[bus].type
    if kind in PCI_BUSES:
        taken = {str(one.address)[:2] for where, one in parts.nodes.values() if where == bus}
        return (f"{slot:02x}.0" for slot in range(1, 31) if f"{slot:02x}" not in taken)
    if kind == "usb-bus":
        empty = Bus(bus, kind)
        places = [Place(one, name, empty) for name, (where, one) in parts.nodes.items() if where == bus]
        speeds = usb_speeds(node.driver, node.properties)
        ports = usb_ports(bus, provider, places)
        return (port for port, offered in ports.items() if not speeds or offered & speeds)
    if kind == "SCSI":
        if str(node.address).count(":") != 2:
            return iter(())
        channel, target, lun = str(node.address).split(":")
        by_lun = provider is not None and provider.driver.startswith("virtio-scsi")
        return (f"{channel}:{target}:{n}" if by_lun else f"{channel}:{n}:{lun}" for n in range(256 if by_lun else 7))
    counts = {"IDE": 2, "floppy-bus": 2, "virtio-serial-bus": 31}
    return (str(number) for number in range(kind == "virtio-serial-bus", counts.get(kind, 0)))


def _new_port(parts: Parts, name: str, like: Node, used: set[tuple[str, str | None]]) -> tuple[str, str] | None:
    """A port like ``like`` on the same bus, with the next free name, chassis and slot; the place behind it."""
    where, _ = parts.nodes[name]
    if where is None or like.id is None:
        return None
    slot = next((a for a in _addresses(parts, where, None, like) if (where, a) not in used), None)
    if slot is None:
        return None
    new = _next_name(like.id, parts.nodes)
    taken = {number(n.properties.get("chassis")) for _, n in parts.nodes.values() if is_port(n.driver)}
    chassis = next(count for count in range(1, 1000) if count not in taken)
    port = int(slot[:2], 16) << 3
    kept = {key: value for key, value in {"chassis": chassis, "port": port}.items() if key in like.properties}
    parts.put(new, where, Node(like.driver, new, slot, properties=kept, buses=buses_of(like.driver, new)))
    return new, "00.0"
