"""Guest XML and description to a new description: survivors keep bus, address and id, whatever else happens."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from typing import Any

from mdtool.errors import ConflictError, MdtoolError, Report, Warn
from mdtool.guest.addresses import address_from_node, addresses_from_tree, indices_taken, on_root, survivor
from mdtool.guest.alias import is_counted, with_ids
from mdtool.guest.allocate import allocate
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.choices import as_described, with_described_model
from mdtool.guest.defaults import with_defaults
from mdtool.guest.devices import wanted_from_guest
from mdtool.guest.elements import can_make
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.guest.override import overridden
from mdtool.guest.place import placed
from mdtool.guest.platform import sections_from_guest
from mdtool.guest.platform.memory import with_initiators
from mdtool.guest.spelling import check_spelling
from mdtool.machine.buses.kinds import PCI_BUSES, is_hot_plugged
from mdtool.machine.buses.pci import BROUGHT_BY
from mdtool.machine.buses.providers import controller_of, libvirt_index
from mdtool.machine.document import tree_with
from mdtool.machine.drivers import canonical_driver, same_driver
from mdtool.machine.tree import BUILTIN, MANUAL, Node, Place, Retired, Tree
from mdtool.machine.values import small_number
from mdtool.reconcile.assemble import Parts, assembled, parts_of
from mdtool.reconcile.collisions import check_collisions, check_depth
from mdtool.reconcile.match import Match, Matching, address_key, matched
from mdtool.reconcile.merge import Before, PropertyChange, merged, record, without_defaults
from mdtool.reconcile.plan import Action, Plan, Reason, Step
from mdtool.reconcile.roms import warn_of_shared_roms
from mdtool.reconcile.sections import merged_sections
from mdtool.reconcile.survivors import computed_properties, is_renamed, recorded_again, same_slot, with_facts
from mdtool.records import NamedTuple, dataclass, field, replace

_PREFER = "say which one is right with --prefer xml or --prefer description"


class Result(NamedTuple):
    """The new description, what was done to get there, and what the XML says that was deliberately left out."""

    tree: Tree
    plan: Plan
    warnings: tuple[Warn, ...] = ()


class Options(NamedTuple):
    """``prefer`` (``xml`` or ``description``) settles conflicts; ``forget`` clears retired addresses; ``prune`` removes
    ports and controllers that nothing uses; ``strict`` makes errors of warnings."""

    prefer: str | None = None
    forget: bool = False
    prune: bool = False
    strict: bool = False


def reconcile(guest: Guest, old: Tree | None = None, options: Options | None = None) -> Result:
    """The description that ``guest`` asks for, made out of ``old`` (None: from nothing).

    Raises InputError or Errors for what the XML must not say, ConflictError where the XML and the description both
    changed and ``options.prefer`` does not settle it, InputError out of slots.
    """
    options = options or Options()
    report = Report()
    guest = as_described(guest, old) if old is not None else guest
    wanted = with_defaults(guest, wanted_from_guest(guest, report))
    sections = sections_from_guest(guest, report)
    check_spelling(guest.domain, report)
    report.done(strict=options.strict)
    work = _Reconciler(guest, old or Tree(), wanted, options, report)
    tree, steps = work.devices()
    tree, more = merged_sections(guest, tree, with_initiators(sections, tree, wanted), options.prefer, report)
    positions = {w.origin: w.position for w in wanted}
    check_depth(tree, positions, report)
    check_collisions(tree, positions, report)
    warn_of_shared_roms(tree, positions, report)
    report.done(strict=options.strict)
    if old is None:
        steps = [replace(step, hot=None) for step in steps]
    return Result(tree, Plan((*more, *steps)), tuple(report.warnings))


def linked(guest: Guest, tree: Tree, report: Report) -> Tree:
    """The tree with the origin of every node that an element of the XML stands for, and nothing else changed."""
    guest = as_described(guest, tree)
    wanted = with_defaults(guest, wanted_from_guest(guest, report))
    matching = _Reconciler(guest, tree, wanted, Options(), report).matching()
    return tree_with(tree, {match.place.name: {"origin": match.wanted.origin} for match in matching.matches})


@dataclass
class _Reconciler:
    guest: Guest
    old: Tree
    wanted: Sequence[Wanted]
    options: Options
    report: Report
    addresses: dict[str, Address] = field(default_factory=dict)
    vacated: dict[tuple[str, str], Retired] = field(default_factory=dict)  # where a device was that is gone

    @cached_property
    def given(self) -> Mapping[str, Address | None]:
        """Origin -> the address that the XML gives."""
        return {w.origin: w.address for w in reversed(self.wanted)}

    def devices(self) -> tuple[Tree, list[Step]]:
        matching = self.matching()
        matches = matching.by_origin
        kept = self._kept(matching)
        gone = [place for place in matching.gone if place.name not in kept]
        settled = [self._settled(w, matches.get(w.origin)) for w in self.wanted]
        self.report.done()
        controllers = {name: w for name, place in reversed(kept.items()) if (w := self._controller(place)) is not None}
        held = list(controllers.values())
        everything = [*settled, *held]
        occupied = self._occupied(everything, matches, controllers, gone)
        done = with_ids(allocate(self.guest, everything, occupied), self._taken(matches, held, gone))
        done = overridden(self.guest, done, self.report)
        return self._applied(done, matching, gone, held)

    # --- before allocation ---

    def matching(self) -> Matching:
        self.addresses = addresses_from_tree(self.old)
        return matched(self.old, self.wanted, addresses=self.addresses, aliases=self._predicted())

    def _predicted(self) -> Mapping[str, str]:
        """The ids that libvirt would give, to recognise devices of a guest that was never reconciled."""
        if all(place.node.origin is not None for place in self.old.places):
            return {}
        try:
            named = with_ids(allocate(self.guest, self.wanted, Occupied()), frozenset())
        except MdtoolError:
            return {}
        return {w.origin: w.id for w in named if w.id is not None}

    def _kept(self, matching: Matching) -> dict[str, Place]:
        """What is in the description and not in the XML, and stays all the same."""
        staying = {match.place.name for match in matching.matches}
        staying |= {place.name for place in self.old.places if place.node.origin == MANUAL}
        names = {id(place.node): place.name for place in self.old.places}
        kept: dict[str, Place] = {}
        lists_ports = any(w.element is not None and _pci_index(w.origin) for w in self.wanted)
        for place in reversed(matching.gone):  # from the leaves: a port that holds what stays, stays
            node = place.node
            type_, _ = _provides(node)
            holds = any(names[id(one)] in staying for bus in node.buses for one in bus.devices)
            # of a dump: no element ever asked for it; an XML that lists no ports leaves them to libvirt, spare ones too
            implied = node.applied.get("@implied", node.origin is None) or (type_ == "pci" and not lists_ports)
            foreign = node.origin is None and not type_ and not can_make(canonical_driver(node.driver))
            if foreign or holds or (type_ and implied and not self.options.prune):
                kept[place.name] = place
                staying.add(place.name)
        # libvirt fills the gaps in the numbers of PCI controllers: what it would put there again stays.
        origins = [*(w.origin for w in self.wanted), *(place.node.origin for place in kept.values())]
        highest = max(map(_pci_index, origins), default=0)
        kept |= {place.name: place for place in matching.gone if 0 < _pci_index(place.node.origin) < highest}
        ids = {place.node.id for place in kept.values()}
        beside = (place for place in matching.gone if place.node.driver == "zpci")
        return kept | {place.name: place for place in beside if place.node.properties.get("target") in ids}

    def _settled(self, w: Wanted, match: Match | None) -> Wanted:
        """A survivor with the place and the id that it has; a device that comes back with its old place as a wish."""
        if match is None:
            return self._returned(w)
        node = match.place.node
        w = with_described_model(w, node)
        have = with_facts(self.addresses.get(match.place.name), w.address)
        bus = match.place.bus if w.kind == "commandline" and node.address is not None else None
        if bus is not None and (self.guest.family is None or bus.type not in PCI_BUSES):
            have = Address("qemu", {"on": bus.name, "at": node.address})  # which libvirt's words may not fit
        if not same_slot(w, node):  # another kind of slot: a new device, that goes where libvirt would put it
            return replace(w, id=node.id) if is_counted(w) else w
        if have is None:
            return replace(w, id=node.id or w.id)
        want = address_key(w.address)
        stays = survivor(w, node, have)
        of_qemu = w.address is not None and w.address.type == "qemu"
        mine = ("qemu", *(match.place.address or ())) if of_qemu else address_key(have)
        if want is None or want == mine:
            return stays
        if _spoken(want) == node.applied.get("@address") or self.options.prefer == "description":
            return stays  # the XML did not change: the move was manual
        if self.options.prefer == "xml":
            return replace(w, id=node.id or w.id)
        where = f"{match.place.bus.name} {node.address}" if match.place.bus else str(node.address)
        what = f"{w.origin}: the XML puts it at {_spoken(want)}, the description at {where}"
        what += f" ({node.position})" if node.position else ""
        self.report.error(ConflictError(what, at=w.position, remedy=_PREFER, rule="address-conflict"))
        return w

    def _returned(self, w: Wanted) -> Wanted:
        """A device that was here before gets its old place and id, unless the XML wants others or they are taken."""
        kept = next((r for r in self.old.retired if r.origin == w.origin), None)
        if kept is None or address_key(w.address) is not None or self.options.forget:
            return w
        address = address_from_node(kept.bus, Node(w.driver, address=kept.address), self.old)
        taken = {place.address for place in self.old.places} | {place.node.id for place in self.old.places}
        if address is None or (kept.bus, kept.address) in taken or kept.bus not in self.old.all_buses:
            return w
        return replace(w, address=address, id=w.id or (kept.id if kept.id not in taken else None))

    def _controller(self, place: Place) -> Wanted | None:
        """A kept controller or hub as a Wanted, so that new devices find its bus; also what stands beside one (zpci)."""
        if place.node.driver == "zpci":
            target = place.node.properties.get("target")
            beside = next((p for p in self.old.places if p.node.id == target and p.node.driver != "zpci"), None)
            whole = self._controller(beside) if beside is not None else None
            if whole is None:
                return None
            zpci = Wanted("zpci", "zpci", f"zpci/{whole.origin}", alias="zpci", facts={"for": whole.origin})
            return survivor(zpci, place.node, self.addresses.get(place.name))
        type_, model = _provides(place.node)
        if not type_:
            return None
        if type_ == "hub":
            at, origin = self.addresses.get(place.name), place.node.origin or f"hub/{place.name}"
            return Wanted("hub", place.node.driver, origin, id=place.node.id, address=at, facts={"type": "usb"})
        origin, index = place.node.origin or "", libvirt_index(place.node, type_)
        if index is None:
            return None
        wanted = Wanted(
            kind="controller",
            driver=place.node.driver,
            origin=origin or f"controller/{type_}/{index}",
            properties=place.node.properties,
            facts={"type": type_, "model": model, "index": index},
        )
        return survivor(wanted, place.node, self.addresses.get(place.name))

    def _occupied(
        self,
        everything: Sequence[Wanted],
        matches: Mapping[str, Match],
        held: Iterable[str],
        gone: Sequence[Place],
    ) -> Occupied:
        known = {*(match.place.name for match in matches.values()), *(place.name for place in gone), *held}
        others = [address for name, address in self.addresses.items() if name not in known]
        others += [address for w in everything if (address := on_root(w.address)) is not None]
        retired = (
            [] if self.options.forget else [self.addresses[place.name] for place in gone if place.name in self.addresses]
        )
        back = {w.origin for w in everything if w.address is not None}
        for old in () if self.options.forget else self.old.retired:
            if old.origin in back:
                continue
            node = Node("", address=old.address)
            if (address := address_from_node(old.bus, node, self.old)) is not None:
                retired.append(address)
        by_hand = [place.node for place in self.old.places if place.node.origin == MANUAL]
        return Occupied(others, retired, indices_taken(by_hand))

    def _taken(self, matches: Mapping[str, Match], held: Sequence[Wanted], gone: Sequence[Place]) -> frozenset[str]:
        """Ids that no other device may have.  A disk's is made from its address: the id follows the address."""
        mine = {match.place.node.id for match in matches.values()} | {w.id for w in held}
        mine |= {place.node.id for place in gone if place.bus is not None and place.bus.type in ("SCSI", "IDE")}
        return frozenset(p.node.id for p in self.old.places if p.node.id is not None and p.node.id not in mine)

    # --- after allocation ---

    def _applied(
        self, done: Sequence[Wanted], matching: Matching, gone: Sequence[Place], held: Sequence[Wanted]
    ) -> tuple[Tree, list[Step]]:
        parts = parts_of(self.old)
        steps: list[Step] = []
        self.vacated = {(kept.bus, kept.address): kept for kept in self._candidates(gone)}
        matches = matching.by_origin
        for place in gone:
            if place.name in parts.nodes:
                parts.remove(place.name)
            node, hot = place.node, is_hot_plugged(place.bus)
            steps.append(
                Step(Action.REMOVE, place.name, node.driver, place.address, node.origin, reason=Reason.GONE, hot=hot)
            )
        by_origin = {w.origin: w for w in done}
        still = {w.origin for w in held}
        where = placed(self.guest, done)
        for _, node in where:  # all old names go before the first new one comes: one may be the other
            match = matches.get(node.origin or "")
            if match is not None and match.place.name in parts.nodes and is_renamed(node, match.place.node):
                parts.remove(match.place.name)
        for bus, node in where:
            w = by_origin.get(node.origin or "")
            if w is None:
                continue
            if w.origin in still:
                _complete(parts, bus, node)
                continue
            match = matches.get(w.origin)
            steps.append(self._added(parts, w, bus, node) if match is None else self._changed(parts, w, bus, node, match))
        _drop_virtual_functions(parts)
        named = {step.name for step in steps}
        steps += [
            Step(Action.KEEP, place.name, place.node.driver, place.address, place.node.origin)
            for place in self.old.places
            if place.name in parts.nodes and place.name not in named
        ]
        tree = assembled(parts, self.old)
        return replace(tree, retired=self._retired(tree, gone)), steps

    def _added(self, parts: Parts, w: Wanted, bus: str, node: Node) -> Step:
        recorded = record(node.properties, self._facts(w))
        self._check_id(parts, w, node)
        parts.put(node.id or f"{w.origin}", bus or None, replace(node, applied=recorded))
        reason, detail = (Reason.NEW, f"<{w.kind}>") if w.element is not None else (Reason.IMPLIED, "")
        if before := self._had(w, bus, node.address):
            reason, detail = Reason.REUSED, before
        name, where = node.id or node.driver, (bus, node.address or "")
        hot = self._hot(parts, bus)
        return Step(Action.ADD, name, node.driver, where, w.origin, (), reason, detail, w.position, hot)

    def _check_id(self, parts: Parts, w: Wanted, node: Node) -> None:
        """Ids that mdtool gives are unique; one that the XML gives may be taken."""
        if node.id in parts.nodes:
            other = parts.nodes[node.id][1]
            remedy = "give one of them another alias, or another id"
            what = f"{w.origin}: the id {node.id} is {other.origin}'s" + (f" ({other.position})" if other.position else "")
            self.report.error(ConflictError(what, at=w.position, remedy=remedy, rule="same-id"))

    def _changed(self, parts: Parts, w: Wanted, bus: str, node: Node, match: Match) -> Step:
        place, old = match.place, match.place.node
        where = (bus, node.address) if node.address is not None else place.address or (bus, "")
        moved = place.address is not None and where != place.address
        changes = [PropertyChange("address", " ".join(place.address or ()), " ".join(where))] if moved else []
        if not same_driver(old.driver, w.driver):
            changes = [*self._with_new_model(parts, w, bus, node, match), *changes]
            step = Step(Action.REPLACE, place.name, w.driver, where, w.origin, tuple(changes), Reason.MODEL, at=w.position)
            return replace(step, hot=self._hot(parts, bus), notices=True)
        now = without_defaults(node.properties, old.applied, {**old.pins, **old.properties})
        node = replace(node, properties=now) if now != node.properties else node
        recorded = record(node.properties, self._facts(w))
        merge = merged(
            node.properties,
            Before(old.applied, old.properties, old.pins),
            weak=computed_properties(w, node),
            prefer=self.options.prefer,
        )
        for conflict in merge.conflicts:
            what = f"{place.name}: {conflict.name} is {conflict.after} in the XML and {conflict.before} in the description"
            what += f" ({old.position})" if old.position else ""
            what += f"; the last applied value was {old.applied.get(conflict.name, 'none')}"
            self.report.error(ConflictError(what, at=w.position, remedy=_PREFER, rule="property-conflict"))
        # A device without an address never was anywhere: what follows from its place only completes it.
        computed = node.properties.keys() - w.properties.keys() if old.address is None else frozenset()
        changes += [change for change in merge.changes if change.name not in computed]
        if not changes and old.origin == w.origin:
            recorded = recorded_again(recorded, old.applied)
        new = replace(
            old,
            origin=w.origin,
            address=node.address if node.address is not None else old.address,
            properties=merge.properties,
            pins={name: value for name, value in old.pins.items() if name not in merge.properties},
            applied=recorded,
        )
        parts.put(place.name, (bus or None) if moved or place.bus is None else place.bus.name, new)
        reason, detail = Reason.ORDER if match.rule == "order" and changes else None, ""
        if moved and (before := self._had(w, bus, node.address)):
            reason, detail = Reason.REUSED, before
        action = Action.REPLACE if moved else Action.MODIFY if changes else Action.KEEP
        hot, seen = self._hot(parts, bus), action is not Action.KEEP
        return Step(action, place.name, w.driver, where, w.origin, tuple(changes), reason, detail, w.position, hot, seen)

    def _with_new_model(self, parts: Parts, w: Wanted, bus: str, node: Node, match: Match) -> list[PropertyChange]:
        """Put a device of another model where the old one was; its new driver, and its new id where it has one."""
        old = match.place.node
        changes = [PropertyChange("driver", old.driver, w.driver)]
        if node.id != old.id:
            changes.insert(0, PropertyChange("id", old.id, node.id))
            self._check_id(parts, w, node)
        recorded = record(node.properties, self._facts(w))
        parts.put(node.id or match.place.name, bus or None, replace(node, applied=recorded))
        return changes

    def _hot(self, parts: Parts, bus: str) -> bool:
        """Whether a running guest can be given a device on ``bus``: the bus is there and takes it, or can come first."""
        if bus not in self.old.all_buses:
            owner = parts.owners.get(bus)
            if owner is None or not self._hot(parts, parts.nodes[owner][0] or ""):
                return False
        return is_hot_plugged(parts.buses.get(bus))

    def _facts(self, w: Wanted) -> dict[str, Any]:
        """What to record of the XML beside the properties: the address that it gave, and whether it implied the device."""
        key = address_key(self.given.get(w.origin))
        return {"address": _spoken(key) if key else None, "implied": True if w.element is None else None}

    def _candidates(self, gone: Sequence[Place]) -> list[Retired]:
        """The places of devices that were removed, now and before."""
        return list(self.old.retired) + [
            Retired(place.node.origin or f"driver/{place.node.driver}", place.bus.name, place.node.address, place.node.id)
            for place in gone
            if place.bus is not None and place.node.address is not None
        ]

    def _had(self, w: Wanted, bus: str, address: str | None) -> str:
        """The removed device whose place a device gets: a guest takes the new one for it, and gives it its settings."""
        before = self.vacated.get((bus, address or ""))
        return (before.id or before.origin) if before is not None and before.origin != w.origin else ""

    def _retired(self, tree: Tree, gone: Sequence[Place]) -> tuple[Retired, ...]:
        """Addresses of the removed, unless they are in use again or the bus is gone."""
        if self.options.forget:
            return ()
        used = {place.address for place in tree.places}
        back = {place.node.origin for place in tree.places}
        unique = {(r.bus, r.address): r for r in self._candidates(gone)}
        return tuple(
            r
            for r in unique.values()
            if (r.bus, r.address) not in used and r.origin not in back and r.bus in tree.all_buses
        )


def _provides(node: Node) -> tuple[str, str]:
    """libvirt's type and model of a node that other devices sit on; ("", "") for all others."""
    return ("hub", "usb") if node.driver == "usb-hub" else controller_of(node.driver)


def _pci_index(origin: str | None) -> int:
    """libvirt's number of a PCI controller; 0 for the root, and for anything else."""
    kind, _, index = (origin or "").rpartition("/")
    return small_number(index) if kind == "controller/pci" else 0


def _complete(parts: Parts, bus: str, node: Node) -> None:
    """Give a port or controller that stays its place, where it has none: in a description without addresses."""
    _, old = parts.nodes.get(node.id or "", ("", None))
    if old is not None and old.address is None and node.address is not None:
        properties = {**node.properties, **old.properties}
        parts.put(node.id or "", bus, replace(old, address=node.address, properties=properties, buses=node.buses))


def _spoken(key: tuple[object, ...]) -> str:
    """An address key as text: ``pci 0:1:0:0``."""
    return f"{key[0]} " + ":".join(str(number) for number in key[1:])


def _drop_virtual_functions(parts: Parts) -> None:
    """Those whose parent device is no longer on their bus."""
    for name, (bus, node) in list(parts.nodes.items()):
        by = BROUGHT_BY.get(node.driver) if node.origin == BUILTIN else None
        beside = [parts.nodes[other][1] for other in parts.on(bus or "")] if by else []
        if by and not any(one.driver == by and one.origin != BUILTIN for one in beside):
            parts.remove(name)
