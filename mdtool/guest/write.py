"""Guest XML with every place filled in: what libvirt would choose again, the description has chosen.

``reconcile --write-xml`` writes it.  libvirt keeps the addresses of an XML that has them, so a guest that it starts from
this XML has the described places, whatever was added or removed since.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from mdtool.guest.addresses import address_from_node
from mdtool.guest.alias import USER
from mdtool.guest.model import Address, Guest, Wanted
from mdtool.guest.xml import Element
from mdtool.guest.xmltext import Edits, New
from mdtool.machine.buses.addresses import ADDRESSES
from mdtool.machine.buses.pci import PCI_MODELS, targets_of
from mdtool.machine.buses.providers import provider_of
from mdtool.machine.tree import BUILTIN, MANUAL, Node, Place, Tree, Value
from mdtool.machine.values import number
from mdtool.records import dataclass

#: Address types that are written only where the XML has one: the model, or the port's number, says the place.
_ONLY_CHANGED = frozenset({"isa"})

ALIASES = ("kept", "own", "ua")


def xml_with_places(source: bytes, guest: Guest, tree: Tree, wanted: Sequence[Wanted], *, aliases: str = "kept") -> str:
    """``source`` with the address, index, port, chassis and alias of every device of ``tree``.

    ``guest`` was read from ``source``, ``wanted`` are its devices (those that libvirt implies may be missing), and
    ``tree`` is reconciled with them.  Devices that the description has and the XML has not (controllers, mostly) are
    added as elements.  Everything else is as it was: comments, order, whitespace, namespaces, attributes.

    ``aliases``: ``kept`` leaves them as they are, ``own`` writes the ids of the description (libvirt drops those that
    do not begin with ``ua-``), ``ua`` gives each device without a ``ua-`` alias one: ``ua-net0``, for <qemu:override>.
    """
    if aliases not in ALIASES:
        raise ValueError(aliases)
    edits = Edits(source, guest.domain)
    beside = _beside(tree)
    nodes = {place.node.origin: place for place in tree.places if place.node.origin not in (None, BUILTIN)}
    for element, one in _elements(guest, wanted):
        place = nodes.pop(one.origin, None)
        writer = _Writer(guest, tree, edits, element, one, place, aliases, beside)
        writer.write()
    for one in wanted:
        if one.element is not None:
            nodes.pop(one.origin, None)  # parts, and devices of <qemu:commandline>
    _add(guest, edits, list(_missing(tree, beside, nodes.values(), aliases)))
    _machine(guest, edits, tree)
    return edits.text()


def unwritten(tree: Tree) -> list[str]:
    """The names of the description's manual nodes: no element of libvirt's XML stands for them."""
    return [place.name for place in tree.places if place.node.origin == MANUAL]


def _machine(guest: Guest, edits: Edits, tree: Tree) -> None:
    """The versioned machine type in the place of an alias (``q35``), which means another one with the next QEMU."""
    type_, described = guest.domain.first("os/type"), tree.machine.get("type")
    if type_ is not None and described and type_.get("@machine") not in (None, described):
        edits.set(type_, {"machine": str(described)})


def _elements(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[tuple[Element, Wanted]]:
    """The elements under <devices>, each with the device that it stands for."""
    of: dict[int, Wanted] = {}
    for one in wanted:
        if one.element is not None:
            of.setdefault(id(one.element), one)
    return ((element, of[id(element)]) for element in guest.devices if id(element) in of)


@dataclass(frozen=True, slots=True)
class _Writer:
    """One element and the node that it stands for; ``place`` is None for what the machine has built in."""

    guest: Guest
    tree: Tree
    edits: Edits
    element: Element
    one: Wanted
    place: Place | None
    aliases: str
    zpci: Mapping[Value, New]

    def write(self) -> None:
        new: list[New] = []
        if self.element.tag == "controller" and "index" in self.one.facts:
            self._set(self.element, {"index": str(self.one.facts["index"])})
        if self.element.tag == "interface" and self.element.get("mac/@address") is None and "mac" in self.one.properties:
            new.append(New("mac", {"address": str(self.one.properties["mac"])}))
        if self.place is not None:
            new += self._target(self.place.node)
            new += self._alias(self.place.node)
        address = _address(self.tree, self.place) if self.place is not None else _built_in(self.guest, self.one)
        if address is not None:
            new += self._address(address, self.zpci.get(self.place.node.id) if self.place is not None else None)
        self.edits.append(self.element, new)

    def _set(self, element: Element, attributes: Mapping[str, str]) -> None:
        """Attributes that are missing or say another number."""
        self.edits.set(element, {k: v for k, v in attributes.items() if not _equal(element.attributes.get(k), v)})

    def _target(self, node: Node) -> Iterator[New]:
        attributes = _target_of(node)
        target = self.element.first("target")
        if attributes and target is not None:
            self._set(target, attributes)
        elif attributes:
            yield New("target", attributes)

    def _alias(self, node: Node) -> Iterator[New]:
        alias = self.element.first("alias")
        name = _alias_of(node, self.aliases)
        if name is None or (alias is not None and (alias.get("@name") or "").startswith(USER)):
            return
        if alias is not None:
            self.edits.set(alias, {"name": name})
        else:
            yield New("alias", {"name": name})

    def _address(self, address: Address, zpci: New | None) -> Iterator[New]:
        attributes = _attributes(address)
        given = self.element.first("address")
        if not attributes or (given is None and address.type in _ONLY_CHANGED):
            return
        inside = [zpci] if zpci is not None else []
        if given is None:
            yield New("address", attributes, inside)
        elif given.get("@type") == address.type:
            self._set(given, attributes)
            if zpci is not None and (there := given.first("zpci")) is not None:
                self._set(there, zpci.attributes)
            else:
                self.edits.append(given, inside)
        else:
            self.edits.replace(given, New("address", attributes, inside))


def _address(tree: Tree, place: Place) -> Address | None:
    """libvirt's place of a node, with a memory device's base where the description has it."""
    address = address_from_node(place.bus.name if place.bus else "", place.node, tree)
    if address is not None and address.type == "dimm" and (base := place.node.value("addr")) is not None:
        return Address("dimm", {**address.numbers, "base": number(base)})
    return address


def _built_in(guest: Guest, one: Wanted) -> Address | None:
    """The place of a controller that the machine brings along."""
    if one.kind != "controller" or one.driver:
        return None
    if guest.family is None or int(one.facts.get("index", 0)):
        return None
    found = guest.family.controllers.get((str(one.facts.get("type")), str(one.facts.get("model"))))
    return Address("pci", {"domain": 0, "bus": 0, "slot": found[0], "function": found[1]}) if found else None


def _beside(tree: Tree) -> Mapping[Value, New]:
    """Id of a device -> the <zpci> in its <address>, for each that has a zpci device of s390x beside it."""
    return {
        node.properties.get("target"): New("zpci", {"uid": f"0x{node.address}", "fid": f"0x{node.value('fid') or 0:08x}"})
        for place in tree.places
        if (node := place.node).driver == "zpci" and node.address is not None
    }


def _attributes(address: Address) -> dict[str, str]:
    """The attributes of an <address>; empty where libvirt writes none for this place."""
    numbers = ADDRESSES.get(address.type, {})
    found = {n: row.form.format(address[n]) for n, row in numbers.items() if row.form and address.get(n) is not None}
    if found and address.get("multifunction"):
        found["multifunction"] = "on"
    return {"type": address.type, **found} if found else {}


def _target_of(node: Node) -> dict[str, str]:
    """The attributes of a PCI controller's <target>."""
    return {
        target.attribute: target.form.format(value)
        for name, target in targets_of(node.driver).items()
        if (value := number(node.value(name), -1)) >= 0
    }


def _alias_of(node: Node, aliases: str) -> str | None:
    if aliases == "kept" or node.id is None:
        return None
    if aliases == "own" or node.id.startswith(USER):
        return node.id
    return USER + re.sub(r"[^a-zA-Z0-9_-]", "-", node.id)  # libvirt drops an alias with any other character


def _equal(have: str | None, want: str) -> bool:
    """Whether two spellings mean the same: ``0x0a`` and ``10``."""
    if have is None:
        return False
    try:
        return int(have, 0) == int(want, 0)
    except ValueError:
        return have == want


# --- devices that the XML does not have -----------------------------------------------------------------------------


def _missing(tree: Tree, beside: Mapping[Value, New], places: Iterable[Place], aliases: str) -> Iterator[New]:
    """Elements for nodes that no element stands for, controllers first, in order of their numbers."""
    found = []
    for place in places:
        kind = (place.node.origin or "").partition("/")[0]
        if kind not in _ELEMENTS or (made := _ELEMENTS[kind](place.node)) is None:
            continue
        children = list(made.children)
        if attributes := _target_of(place.node):
            children.append(New("target", attributes))
        if name := _alias_of(place.node, aliases):
            children.append(New("alias", {"name": name}))
        address = _address(tree, place)
        if address is not None and address.type not in _ONLY_CHANGED and (attributes := _attributes(address)):
            zpci = beside.get(place.node.id)
            children.append(New("address", attributes, [zpci] if zpci is not None else []))
        found.append(New(made.tag, made.attributes, children))
    yield from sorted(found, key=_order)


def _order(new: New) -> tuple[int, str, int]:
    return list(_ELEMENTS).index(new.tag), new.attributes.get("type", ""), int(new.attributes.get("index", 0))


def _controller(node: Node) -> New | None:
    found = re.match(r"controller/([^/]+)/(\d+)", node.origin or "")
    if found is None:
        return None
    type_, index = found[1], found[2]
    row = provider_of(node.driver)
    if not row.written or row.type != type_:
        return New("controller", {"type": type_, "index": index})
    choice = PCI_MODELS[row.model].drivers if row.type == "pci" else ()
    named = [New("model", {"name": node.driver})] if node.driver in choice[1:] else []
    return New("controller", {"type": type_, "index": index, "model": row.model}, named)


def _video(node: Node) -> New:
    return New("video", children=[New("model", {"type": (node.origin or "").split("/")[1]})])


def _input(node: Node) -> New:
    _, bus, type_ = (node.origin or "").partition("#")[0].split("/")
    return New("input", {"type": type_, "bus": bus})


#: The kinds that libvirt, and so the description, adds by default.
_ELEMENTS: Mapping[str, Callable[[Node], New | None]] = {
    "controller": _controller,
    "hub": lambda _: New("hub", {"type": "usb"}),
    "input": _input,
    "video": _video,
    "memballoon": lambda _: New("memballoon", {"model": "virtio"}),
}


def _add(guest: Guest, edits: Edits, news: Sequence[New]) -> None:
    """Controllers behind the last controller, everything else at the end of <devices>."""
    holder = guest.domain.first("devices")
    if holder is None:
        edits.append(guest.domain, [New("devices", children=news)] if news else [])
        return
    last = [element for element in guest.devices if element.tag == "controller"]
    behind = [new for new in news if last and new.tag == "controller"]
    if last:
        edits.insert_after(last[-1], behind)
    edits.append(holder, [new for new in news if new not in behind])
