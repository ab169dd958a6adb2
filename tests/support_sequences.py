"""Guests as values, edits of them, and what must hold after each edit: the property-based tests of reconcile.

A ``Part`` is a device element; a guest is a list of parts on a machine.  ``World`` holds the guest XML's parts and the
description's text, and ``World.step`` reconciles them and checks everything that must always hold.  A ``Story`` is a guest
and what becomes of it; hypothesis draws stories, for the tests in one process and for those on real QEMU.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, NamedTuple

from hypothesis import strategies as st

from mdtool.apply.builtins import are_touched, followed
from mdtool.errors import InputError, Report
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.model import Guest
from mdtool.guest.write import xml_with_places
from mdtool.machine.document import Document, document_from_text, tree_with
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import BUILTIN, MANUAL, Node, Place, Tree
from mdtool.machine.writer import yaml_from_tree
from mdtool.reconcile import Options, Result, reconcile
from mdtool.reconcile.assemble import assembled, parts_of
from mdtool.reconcile.plan import Action
from mdtool.review.plan import text_from_plan

MACHINES = {
    "pc": ("x86_64", "pc-i440fx-7.2"),
    "q35": ("x86_64", "pc-q35-7.2"),
    "virt": ("aarch64", "virt-7.2"),
}
#: kind -> (element with {n} and {m} to fill in, the models that {m} may be); n is what stays of the device
KINDS: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "nic": (
        "<interface type='user'><mac address='52:54:00:00:00:{n:02x}'/><model type='{m}'/>{a}</interface>",
        ("virtio", "e1000", "rtl8139", "virtio", "e1000e"),
    ),
    "vdisk": (
        "<disk type='file' device='disk'><source file='/x{n}.{s}'/><target dev='vd{l}' bus='{m}'/>{a}</disk>",
        ("virtio",),
    ),
    "sdisk": (
        "<disk type='file' device='disk'><source file='/s{n}.{s}'/><target dev='sd{l}' bus='{m}'/><serial>S{n}</serial>{a}</disk>",
        ("scsi", "usb", "scsi"),
    ),
    "channel": ("<channel type='null'><target type='virtio' name='{m}.{n}'/>{a}</channel>", ("org.a",)),
    "input": ("<input type='{m}' bus='usb'>{a}</input>", ("tablet", "keyboard", "mouse")),
    "sound": ("<sound model='{m}'>{a}</sound>", ("ac97", "ich9", "es1370")),
    "rng": ("<rng model='virtio'><backend model='random'>/dev/urandom</backend>{a}</rng>", ("",)),
    "watchdog": ("<watchdog model='{m}'>{a}</watchdog>", ("i6300esb",)),
    "video": ("<video><model type='{m}'/>{a}</video>", ("virtio",)),
    "port": ("<controller type='pci' model='pcie-root-port'{i}>{a}</controller>", ("",)),
}
#: what the XML may say outside of <devices>
SWITCHES = {
    "hpet": "  <clock offset='utc'><timer name='hpet' present='no'/></clock>",
    "pm": "  <pm><suspend-to-mem enabled='no'/></pm>",
}
#: what is added, the most telling more often
DRAWN = ("nic", "nic", "vdisk", "channel", *sorted(KINDS))
SINGLE = {"watchdog", "video"}
#: kinds that a mark of their own tells apart; the others are known by their order
MARKED = {"nic", "vdisk", "sdisk", "channel"}


@dataclass(frozen=True, slots=True)
class Part:
    """One element: ``number`` is its mark (the last byte of a MAC, the letter of a disk), ``model`` an index.

    ``inner`` is what the XML says of its place: an <address>, an <alias>; ``source`` numbers the files behind a disk.
    """

    kind: str
    number: int
    model: int = 0
    inner: str = ""
    index: str = ""
    source: int = 0

    def xml(self) -> str:
        form, models = KINDS[self.kind]
        letter = chr(ord("a") + self.number % 26)
        model = models[self.model % len(models)]
        return form.format(n=self.number, l=letter, m=model, a=self.inner, i=self.index, s=self.source)


@dataclass
class World:
    """A guest XML, its description, and the places that devices had when they were last seen."""

    machine: str
    parts: list[Part]
    text: str | None = None
    last: dict[str, tuple[str, str]] = field(default_factory=dict)
    hand: set[str] = field(default_factory=set)
    settled: bool = False  # whether the XML's addresses are the reconciled ones
    plans: list[str] = field(default_factory=list)
    name: str = "p"
    memory: int = 64
    switches: set[str] = field(default_factory=set)  # of the machine, which show in its built-ins
    forget: bool = False  # with the next step
    forgot: bool = False  # with the last one
    checked: bool = True  # whether a step checks what must hold; on QEMU somebody else does, too

    # --- the guest XML ---

    def xml(self, parts: Sequence[Part] | None = None) -> str:
        arch, machine = MACHINES[self.machine]
        emulator = f"/usr/bin/qemu-system-{arch}"
        lines = [f"    {part.xml()}" for part in (self.parts if parts is None else parts) if self.fits(part)]
        usb = "    <controller type='usb' index='0' model='qemu-xhci'/>"
        features = "<acpi/>" if arch == "x86_64" else "<gic version='2'/>"
        switches = [SWITCHES[name] for name in sorted(self.switches) if arch == "x86_64"]
        return "\n".join(
            [
                f"<domain type='qemu'><name>{self.name}</name><uuid>11111111-2222-3333-4444-555555555555</uuid>",
                f"  <memory unit='MiB'>{self.memory}</memory><os><type arch='{arch}' machine='{machine}'>hvm</type></os>",
                f"  <features>{features}</features>",
                *switches,
                f"  <devices><emulator>{emulator}</emulator>",
                usb,
                *lines,
                "  </devices>",
                "</domain>",
                "",
            ]
        )

    def fits(self, part: Part) -> bool:
        return not (part.kind == "port" and self.machine == "pc")

    # --- edits: each takes numbers that a strategy draws ---

    def add(self, kind: int, number: int) -> None:
        name = DRAWN[kind % len(DRAWN)]
        taken = {part.number for part in self.parts if part.kind == name}
        if (name in SINGLE and taken) or (name in MARKED and number % 26 in taken):
            return
        if name == "port" and any(part.kind == "port" and not part.index for part in self.parts):
            return
        index = f" index='{self.free_index()}'" if name == "port" else ""
        self.parts.insert(number % (len(self.parts) + 1), Part(name, number % 26, number, index=index))

    def free_index(self) -> int:
        """An index that no PCI controller has, nor had: libvirt's user would take the next."""
        used = {int(n) for n in re.findall(r"controller/pci/(\d+)", self.text or "")}
        used |= {int(part.index.split("'")[1]) for part in self.parts if part.index}
        return max(used, default=0) + 1

    def remove(self, which: int, _: int) -> None:
        if self.parts:
            del self.parts[which % len(self.parts)]

    def reverse(self, _: int, __: int) -> None:
        self.parts.reverse()

    def rotate(self, by: int, _: int) -> None:
        by %= len(self.parts) or 1
        self.parts = self.parts[by:] + self.parts[:by]

    def remodel(self, which: int, model: int) -> None:
        if self.parts:
            which %= len(self.parts)
            self.parts[which] = replace(self.parts[which], model=model, inner="")

    def swap(self, one: int, two: int) -> None:
        """Two NICs exchange their MACs."""
        nics = [at for at, part in enumerate(self.parts) if part.kind == "nic"]
        if nics:
            a, b = nics[one % len(nics)], nics[two % len(nics)]
            first, second = self.parts[a], self.parts[b]
            self.parts[a] = replace(first, number=second.number, inner="")
            self.parts[b] = replace(second, number=first.number, inner="")

    def source(self, which: int, to: int) -> None:
        """Another file behind a disk: the host's affair."""
        disks = [at for at, part in enumerate(self.parts) if part.kind.endswith("disk")]
        if disks:
            at = disks[which % len(disks)]
            self.parts[at] = replace(self.parts[at], source=to)

    def alias(self, which: int, to: int) -> None:
        """A user's alias, or another one than before."""
        if self.parts:
            which %= len(self.parts)
            part = self.parts[which]
            name = f"ua-{part.kind}-{to}"
            if part.kind in MARKED and not any(f"'{name}'" in other.inner for other in self.parts):
                inner = re.sub("<alias name='[^']*'/>", "", part.inner)
                self.parts[which] = replace(part, inner=f"<alias name='{name}'/>{inner}")

    def forgotten(self, _: int, __: int) -> None:
        """The next reconcile forgets the places of what was removed."""
        self.forget = True

    def renamed(self, to: int, _: int) -> None:
        self.name = f"p{to % 3}"

    def resized(self, to: int, _: int) -> None:
        """More memory, or less."""
        self.memory = 64 + 16 * (to % 3)

    def switched(self, which: int, _: int) -> None:
        self.switches ^= {sorted(SWITCHES)[which % len(SWITCHES)]}

    def bare(self, _: int, __: int) -> None:
        """An orchestrator's XML: no addresses, no aliases."""
        self.parts = [replace(part, inner="") for part in self.parts]

    def addressed(self, _: int, __: int) -> None:
        """libvirt's XML: every address, and the aliases that are positions."""
        if self.text is None:
            return
        source = self.xml()
        guest = parsed(source)
        tree = self.document().tree
        try:
            new = reconcile(guest, tree).tree
        except InputError:  # the step itself will tell
            return
        written = xml_with_places(source.encode(), guest, new, wanted_from_guest(guest, Report()))
        ports = {part.index.split("'")[1] for part in self.parts if part.index}
        elements = [
            element
            for element in parsed(written).devices
            if element.tag not in ("emulator", "memballoon", "hub")
            and (element.tag != "controller" or (element.get("@type") == "pci" and element.get("@index") in ports))
        ]
        fitting = [at for at, part in enumerate(self.parts) if self.fits(part)]
        assert len(fitting) == len(elements)
        count: Counter[str] = Counter()
        for at, element in zip(fitting, elements, strict=True):
            alias = f"<alias name='{element.tag}{count[element.tag]}'/>" if element.tag != "controller" else ""
            count[element.tag] += 1
            address = element.first("address")
            text = written.encode()[slice(*address.span)].decode() if address is not None else ""
            self.parts[at] = replace(self.parts[at], inner=alias + text)
        self.settled = False

    # --- edits of the description ---

    def document(self) -> Document:
        assert self.text is not None
        return document_from_text(self.text, "p.yaml")

    def comment(self, which: int, _: int) -> None:
        """A person writes a comment, and a blank line."""
        if self.text is None:
            return
        lines = self.text.split("\n")
        places = [n for n, line in enumerate(lines) if line.lstrip().startswith("- id:")]
        if places:
            at = places[which % len(places)]
            indent = lines[at][: len(lines[at]) - len(lines[at].lstrip())]
            lines.insert(at, f"{indent}# remark {which}")
            self.text = "\n".join(lines)

    def hand_property(self, which: int, _: int) -> None:
        """A person sets a property that no XML sets."""
        if self.text is None:
            return
        old = self.document()
        nodes = [p for p in old.tree.places if p.node.driver in ("virtio-net-pci", "e1000", "virtio-blk-pci")]
        # QEMU hands the ROM of a card without a ROM BAR to the firmware by its file's name, and takes one of each name.
        having = {p.node.driver for p in nodes if "rombar" in p.node.properties}
        nodes = [p for p in nodes if p.node.driver not in having]
        if nodes:
            node = nodes[which % len(nodes)].node
            changes = {"properties": {**node.properties, "rombar": 0}}
            self.text = rewritten(old, tree_with(old.tree, {str(node.id): changes}))

    def hand_device(self, which: int, _: int) -> None:
        """A person adds a device of their own, on the root bus."""
        if self.text is None:
            return
        old = self.document()
        root = "pci.0" if self.machine == "pc" else "pcie.0"
        slot = 0x10 + which % 8
        if root in old.tree.all_buses and not any(
            n.address and n.address.startswith(f"{slot:02x}.") for n in old.tree.all_buses[root].devices
        ):
            parts = parts_of(old.tree)
            name = f"mine{slot}"
            parts.put(name, root, Node("pci-testdev", id=name, address=f"{slot:02x}.0", origin=MANUAL))
            self.text = rewritten(old, assembled(parts, old.tree))
            self.hand.add(name)

    def hand_move(self, which: int, to: int) -> None:
        """A person moves a device on its bus, to a slot that is free and no retired one."""
        if self.text is None or not self.settled:
            return
        old = self.document()
        root = old.tree.all_buses.get("pci.0")
        nics = [n for n in (root.devices if root else ()) if n.driver == "e1000" and n.id]
        if root is None or not nics:
            return
        node = nics[which % len(nics)]
        used = {n.address for n in root.devices} | {r.address for r in old.tree.retired}
        free = [f"{slot:02x}.0" for slot in range(3, 0x1F) if f"{slot:02x}.0" not in used]
        self.text = rewritten(old, tree_with(old.tree, {str(node.id): {"address": free[to % len(free)]}}))

    # --- reconcile, and what must hold ---

    def adopted(self, guest: Guest) -> None:
        """The description became a dump of the machine that it described: to the guest XML nothing is new in it."""
        plan = reconcile(guest, self.document().tree).plan
        assert not plan, f"a dump is not what was dumped:\n{text_from_plan(plan)}"

    def step(self) -> Result:
        xml = self.xml()
        old = self.document() if self.text is not None else None
        result = reconcile(parsed(xml), old.tree if old else None, Options(forget=self.forget))
        before = old.tree if old else Tree()
        if are_touched(before, result.tree):
            result = Result(*followed(parsed(xml), before, result.tree, result.plan))
        self.plans.append(text_from_plan(result.plan))
        self.text = rewritten(old, result.tree) if old else yaml_from_tree(result.tree)
        new = self.document()
        retired = {} if self.forget else {(one.bus, one.address): one.origin for one in before.retired}
        self.settled, self.forgot, self.forget = True, self.forget, False
        if not self.checked:
            return result
        remarks = re.findall(r"^ *# remark .*$", old.text, re.MULTILINE) if old else []
        if not any(step.action in (Action.REMOVE, Action.REPLACE) for step in result.plan.steps):
            assert re.findall(r"^ *# remark .*$", self.text, re.MULTILINE) == remarks, "comments stay"
        nothing_shared(new.tree)
        survivors_stay(before, new.tree, result)
        self.newcomers_keep_off(before, new.tree, retired)
        hand_stays(before, new.tree, self.hand)
        self.again_changes_nothing(new)
        self.addresses_say_it_all(xml, new.tree)
        for place in new.tree.places:
            if place.node.origin and place.address:
                self.last[place.node.origin] = place.address
        return result

    def newcomers_keep_off(self, before: Tree, after: Tree, retired: Mapping[tuple[str, str], str]) -> None:
        """A new device never takes the place of one that was removed; one that comes back has its old place."""
        known = {place.node.origin for place in before.places}
        there = {place.node.origin for place in after.places}
        left = () if self.forgot else before.places
        gone = {
            place.address: place.node.origin or "" for place in left if place.address and place.node.origin not in there
        }
        for place in after.places:
            origin = place.node.origin or ""
            if origin in known or place.address is None or place.bus is None:
                continue
            holder = retired.get(place.address) or gone.get(place.address)
            assert holder in (None, origin) or not (marked(origin) or marked(holder)), f"{place} sits where {holder} was"
            comes_back = origin in retired.values() and marked(origin) and not origin.startswith("controller/")
            if comes_back and place.address != self.last[origin]:
                raise AssertionError(f"{place} came back, and was at {self.last[origin]}")

    def again_changes_nothing(self, new: Document) -> None:
        """The same XML, and the same XML with its elements in another order: no change, not by a byte."""
        # Which disk a guest boots from, and which of two rngs is the first, is a matter of order.
        first = [part for part in self.parts if part.kind not in ("nic", "channel", "port")]
        for parts in (self.parts, first + [part for part in reversed(self.parts) if part not in first]):
            again = reconcile(parsed(self.xml(parts)), new.tree)
            assert not again.plan, f"reconciling again:\n{text_from_plan(again.plan)}"
            assert rewritten(new, again.tree) == new.text

    def addresses_say_it_all(self, xml: str, tree: Tree) -> None:
        """The XML with its places, and no description: everything is where it was."""
        guest = parsed(xml)
        text = xml_with_places(xml.encode(), guest, tree, wanted_from_guest(guest, Report()))
        alone = {p.node.origin: p.address for p in reconcile(parsed(text)).tree.places}
        for place in tree.places:
            if place.node.origin in alone and marked(place.node.origin or ""):
                assert alone[place.node.origin] == place.address, f"{place} moved to {alone[place.node.origin]}\n{text}"


def parsed(xml: str) -> Guest:
    return guest_from_bytes(xml.encode(), "p.xml")


def marked(origin: str) -> bool:
    """Whether an origin names one device and no other."""
    return origin.startswith(("interface/", "disk/", "channel/", "controller/"))


def nothing_shared(tree: Tree) -> None:
    for what, values in {
        "an address": [place.address for place in tree.places if place.address],
        "an id": [place.node.id for place in tree.places if place.node.id],
        "a chassis": [p.node.properties["chassis"] for p in tree.places if "chassis" in p.node.properties],
    }.items():
        shared = [value for value, count in Counter[Any](values).items() if count > 1]
        assert not shared, f"{what} is shared: {shared}"
    for place in tree.places:
        if place.bus is not None and place.bus.type in ("PCI", "PCIE", "usb-bus", "SCSI", "virtio-serial-bus"):
            assert place.node.address is not None, f"{place.name} has no address"
            assert place.bus.type != "PCIE" or place.bus.name == "pcie.0" or place.node.address.startswith("00."), place
    functions: dict[tuple[str, str], list[Node]] = {}
    for place in tree.places:
        if place.bus is not None and place.bus.type in ("PCI", "PCIE") and place.node.address:
            functions.setdefault((place.bus.name, place.node.address[:2]), []).append(place.node)
    for slot, nodes in functions.items():
        if len(nodes) > 1:
            first = [node for node in nodes if (node.address or "").endswith(".0")]
            assert first and first[0].properties.get("multifunction") is True, f"{slot}: function 0 does not say so"


def survivors_stay(before: Tree, after: Tree, result: Result) -> None:
    """Bus, address and id of whatever is in both, but for what the plan says was replaced."""
    old = {p.node.origin: p for p in before.places if marked(p.node.origin or "") or p.node.origin == MANUAL}
    new = {p.node.origin: p for p in after.places}
    replaced = {step.origin for step in result.plan.steps if step.action is Action.REPLACE}
    for origin, was in old.items():
        now = new.get(origin)
        if now is None or origin == MANUAL:
            continue
        if origin in replaced:
            assert was.node.driver != now.node.driver, f"{was} was replaced by {now}, and its model is the same"
        else:
            assert (now.node.id, now.address) == (was.node.id, was.address), f"{was} moved: {now}"
            lost = {k: v for k, v in was.node.pins.items() if k not in now.node.properties and now.node.pins.get(k) != v}
            assert not lost, f"{was} lost pins: {lost}"
    kinds: Counter[tuple[str, bool]] = Counter()
    for tree, here in ((before, True), (after, False)):
        for place in lasting(tree):
            kinds[place.node.driver, here] += 1
    where = {(p.node.driver, p.address): p for p in lasting(after)}
    changed = {change.before for step in result.plan.steps if step.action is Action.REPLACE for change in step.changes}
    changed |= {step.driver for step in result.plan.steps if step.action is Action.REPLACE}
    for driver in {p.node.driver for p in lasting(before) if not marked(p.node.origin or "")} - changed:
        were = [p for p in lasting(before) if p.node.driver == driver]
        stayed = sum((driver, p.address) in where for p in were)
        expected = min(kinds[driver, True], kinds[driver, False])
        assert stayed >= expected, (
            f"{driver}: {expected} of {len(were)} should stay, {stayed} did\n{text_from_plan(result.plan)}"
        )


def lasting(tree: Tree) -> list[Place]:
    """All but what comes and goes with a device that somebody added: the SCSI disk inside of a usb-storage."""
    return [p for p in tree.places if not (p.node.origin == BUILTIN and p.parent is not None and p.parent.id)]


def hand_stays(before: Tree, after: Tree, hand: set[str]) -> None:
    for name in hand & before.by_name.keys():
        was, now = before.by_name[name], after.by_name.get(name)
        assert now is not None and (now.node, now.address) == (was.node, was.address), f"{name} was a hand's"
    for name, place in before.by_name.items():
        now = after.by_name.get(name)
        if now is not None and "rombar" in place.node.properties and now.node.driver == place.node.driver:
            assert now.node.properties.get("rombar") == 0, f"{name}: the hand-set property is gone"


#: what a guest should not notice, but for the order of its disks
QUIET = ("reverse", "rotate", "bare", "addressed", "comment", "source", "alias", "forgotten", "renamed")
EDITS = (*("add",) * 5, *("remove",) * 5, "remodel", "swap", "hand_property", "hand_device", "hand_move", "resized",
         "switched", "reverse", "addressed", "bare")  # fmt: skip

NOTHING = ""
Edit = tuple[str, int, int]


class Story(NamedTuple):
    """A guest with the parts of ``start``, and batches of edits with a reconcile after each."""

    machine: str
    start: Sequence[tuple[int, int]]
    edits: Sequence[Sequence[Edit]]


def stories(machine: str) -> st.SearchStrategy[Story]:
    """Stories of guests of a machine: four NICs and five parts, and four batches of three edits, one of them quiet.

    Of a length, since hypothesis draws short lists rather than long ones; what shrinks becomes nothing, and is left out.
    """
    number = st.integers(0, 60)

    def several(names: Sequence[str], count: int) -> st.SearchStrategy[list[Edit]]:
        edits = st.lists(st.tuples(st.sampled_from((NOTHING, *names)), number, number), min_size=count, max_size=count)
        return edits.map(lambda drawn: [edit for edit in drawn if edit[0] != NOTHING])

    nics, others = several(("nic",) * 6, 4), several(DRAWN, 5)
    start = st.tuples(nics, others).map(lambda both: [(DRAWN.index(name), n) for drawn in both for name, n, _ in drawn])
    batches = st.tuples(several(EDITS, 3), several(EDITS, 3), several(QUIET, 3), several(EDITS, 3))
    return st.builds(Story, st.just(machine), start, batches)


def run(story: Story, after: Callable[[World, Tree, Result], None] | None = None, *, checked: bool = True) -> World:
    """What the story tells.

    ``after`` gets each step's world, the tree before its reconcile, and the result; ``checked`` is the world's.
    """
    world = World(story.machine, [], checked=checked)
    for batch in ([("add", kind, number) for kind, number in story.start], *story.edits):
        for name, one, two in batch:
            getattr(world, name)(one, two)
        before = world.document().tree if world.text is not None else Tree()
        try:
            result = world.step()
        except InputError as error:
            if error.rule != "out-of-slots":  # a guest may be full; what is there stays where it is
                raise
            break
        if after is not None:
            after(world, before, result)
    return world


__all__ = ["KINDS", "MACHINES", "Edit", "Part", "Story", "World", "run", "stories"]
