"""Which node is which XML element.

libvirt's aliases are positions: remove the first NIC and the second becomes ``net0``.  So a node is known by what stays,
in this order, and a later rule only sees what the earlier ones left over:

    origin        the description says which element the node stands for, and the XML has it (``disk/vda``)
    identity      the properties that make the device what it is (``mac``) are equal
    serial, wwn   a weaker mark of its own is equal
    address       the XML's <address> is where the node sits, and the kind of device fits
    alias         the alias that the XML has, or that libvirt would give, is the node's id, and the driver is the same
    order         neither has any mark: the first of that driver is the first of that driver, and the plan says so
    model         the same for devices of one kind (``sound``, ``video``), with another model now
    part          what is on a device's own bus (a sound card's codecs) or beside it (zpci) is what it was, where the
                  device is

A device whose identity contradicts is never matched by a later rule: another MAC is another NIC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from mdtool.guest.model import Address, Wanted
from mdtool.machine.buses.addresses import key_names
from mdtool.machine.buses.providers import provider_of
from mdtool.machine.drivers import canonical_driver, same_driver
from mdtool.machine.tree import BUILTIN, MANUAL, Node, Place, Tree
from mdtool.machine.values import same
from mdtool.records import NamedTuple


class Match(NamedTuple):
    """``wanted`` is the device that ``place`` holds; ``rule`` says by what they were matched."""

    wanted: Wanted
    place: Place
    rule: str


class Matching(NamedTuple):
    """All of it: ``matches``, the XML devices that have no node (``new``), the nodes that have no element (``gone``)."""

    matches: tuple[Match, ...]
    new: tuple[Wanted, ...]
    gone: tuple[Place, ...]

    @property
    def by_origin(self) -> Mapping[str, Match]:
        return {match.wanted.origin: match for match in self.matches}


#: Elements that only their model and their order distinguish.
POSITIONAL = frozenset({
    "video", "sound", "watchdog", "rng", "memballoon", "tpm", "iommu", "panic", "smartcard", "vsock", "crypto", "hub",
    "redirdev", "nvram", "memory", "input", "commandline", "genid", "varstore", "vmcoreinfo",
})  # fmt: skip

Pairs = list[tuple[Wanted, Place]]

#: node name -> where the node is, in libvirt's terms; what libvirt cannot express is absent
Addresses = Mapping[str, Address]


def address_key(address: Address | None) -> tuple[object, ...] | None:
    """An address as a key, or None where it says no place (``<address type='pci'/>``).

    >>> address_key(Address("usb", {"bus": 0, "port": "1"}))
    ('usb', 0, '1')
    """
    if address is None:
        return None
    numbers = [address.numbers.get(name) for name in key_names(address.type)]
    return (address.type, *(number or 0 for number in numbers)) if any(one is not None for one in numbers) else None


def matched(
    tree: Tree, wanted: Sequence[Wanted], *, addresses: Addresses | None = None, aliases: Mapping[str, str] | None = None
) -> Matching:
    """Match one to one.

    ``aliases`` maps origins to the ids that libvirt would give (for an XML that has none); ``addresses`` says where the
    nodes are, for an XML that has addresses.  Built-ins and manual nodes are never matched.
    """
    nodes = {place.name: place for place in tree.places if place.node.origin not in (BUILTIN, MANUAL)}
    parts = {name: nodes.pop(name) for name, place in list(nodes.items()) if place.node.driver == "zpci" or _is_part(place)}
    left = {w.origin: w for w in wanted if w.driver and not _whole(w)}
    found: list[Match] = []

    def take(rule: str, pairs: Iterable[tuple[Wanted, Place]]) -> None:
        for w, place in pairs:
            if w.origin in left and place.name in nodes and not _contradicts(w, place.node):
                found.append(Match(w, place, rule))
                del left[w.origin], nodes[place.name]

    def by_alias(some: Mapping[str, Wanted]) -> Pairs:
        return _joined(some, nodes, lambda w: _aliases(w, names), lambda p: _some(p.node.id), fits=_same_driver)

    def by_origin(some: Mapping[str, Wanted]) -> Pairs:
        return _joined(some, nodes, lambda w: [w.origin], lambda p: _some(p.node.origin), fits=_same_driver)

    def by_driver(some: Mapping[str, Wanted]) -> Pairs:
        return _in_order(some, nodes, lambda _kind, driver: driver)

    def by_kind(some: Mapping[str, Wanted]) -> Pairs:
        return _in_order(some, nodes, lambda kind, _driver: kind)

    names = aliases or {}

    def where(place: Place) -> list[object]:
        return _some(address_key((addresses or {}).get(place.name)))

    take("origin", _joined(left, nodes, lambda w: [w.origin], lambda p: _some(p.node.origin), fits=_not_positional))
    kinds = {tuple(sorted(w.identifying & w.properties.keys())) for w in left.values()} - {()}
    take("identity", _joined(left, nodes, _identity_of_wanted, lambda p: _identity_of_node(p.node, kinds)))
    take("mark", _joined(left, nodes, _marks_of_wanted, lambda p: _marks_of_node(p.node)))
    at = _joined(left, nodes, lambda w: _some(address_key(w.address)), where, fits=_same_family)
    # the first drive of an IDE and of a SATA controller have one address and one driver
    take("address", sorted(at, key=lambda pair: pair[1].node.id not in _aliases(pair[0], names)))
    # A device with an address that no node has is more likely new than moved: the others choose first.
    for places in (False, True):
        for rule, pairs in (("alias", by_alias), ("order", by_origin), ("order", by_driver), ("model", by_kind)):
            take(rule, pairs({origin: w for origin, w in left.items() if places or address_key(w.address) is None}))
    nodes |= parts
    whole = {match.wanted.origin: match.place for match in found}
    left |= {w.origin: w for w in wanted if _whole(w)}
    take("part", _joined(left, nodes, lambda w: _part_of_wanted(w, whole), _part_of_node))
    outside = {origin: w for origin, w in left.items() if w.kind == "commandline"}  # a codec that an argument makes
    for rule, find in (("alias", by_alias), ("order", by_origin), ("order", by_driver)):
        take(rule, find(outside))
    order = {w.origin: number for number, w in enumerate(wanted)}
    found.sort(key=lambda match: order[match.wanted.origin])
    return Matching(tuple(found), tuple(left.values()), tuple(nodes.values()))


def _joined(
    left: Mapping[str, Wanted],
    nodes: Mapping[str, Place],
    key_of_wanted: Callable[[Wanted], Sequence[object]],
    key_of_place: Callable[[Place], Sequence[object]],
    *,
    fits: Callable[[Wanted, Node], bool] = lambda _w, _n: True,
) -> Pairs:
    """Pairs that share a key, in XML order; linear, since nodes are looked up by key."""
    table: dict[object, list[Place]] = {}
    for place in nodes.values():
        for key in key_of_place(place):
            table.setdefault(key, []).append(place)
    return [
        (w, place) for w in left.values() for key in key_of_wanted(w) for place in table.get(key, ()) if fits(w, place.node)
    ]


def _some(value: object) -> list[object]:
    return [] if value is None else [value]


def _identity_of_wanted(w: Wanted) -> list[object]:
    names = sorted(w.identifying & w.properties.keys())
    return [tuple((name, str(w.properties[name]).lower()) for name in names)] if names else []


def _identity_of_node(node: Node, kinds: Iterable[tuple[str, ...]]) -> list[object]:
    found: list[object] = []
    for names in kinds:
        values = [node.value(name) for name in names]
        if all(value is not None for value in values):
            found.append(tuple((name, str(value).lower()) for name, value in zip(names, values, strict=True)))
    return found


_MARKS = ("serial", "wwn")  # the properties that weaker identities name


def _marks_of_wanted(w: Wanted) -> list[object]:
    """In QEMU's words and not the XML's, where a wwn is hexadecimal."""
    return [f"{name}/{value}" for name in _MARKS if (value := w.properties.get(name))]


def _marks_of_node(node: Node) -> list[object]:
    return [f"{name}/{value}" for name in _MARKS if (value := node.value(name))]


def _is_part(place: Place) -> bool:
    """Whether a device sits on another's own bus: the codecs of a sound card, the drive of a USB storage device."""
    return place.parent is not None and provider_of(place.parent.driver).whole


def _whole(w: Wanted) -> str:
    """The origin of the device that another is a part of, or beside which it stands (zpci); "" for none."""
    return str(w.facts.get("of") or w.facts.get("for") or "")


def _part_of_wanted(w: Wanted, whole: Mapping[str, Place]) -> list[object]:
    place = whole.get(_whole(w))
    if w.driver == "zpci":
        return [] if place is None else [("target", place.node.id)]
    return [] if place is None else [(id(place.node), str(w.facts.get("number", 0)))]


def _part_of_node(place: Place) -> list[object]:
    if place.node.driver == "zpci":
        return [("target", place.node.properties.get("target"))]
    return [] if place.parent is None else [(id(place.parent), place.node.address)]


def _aliases(w: Wanted, predicted: Mapping[str, str]) -> list[object]:
    own = [i.partition("/")[2] for i in w.identities if i.startswith("alias/")]
    names = own + [name for name in (w.id, None if own or w.id else predicted.get(w.origin)) if name]
    return list(names)


def _contradicts(w: Wanted, node: Node) -> bool:
    """Whether the node's identity is another one than the element's."""
    return any(
        node.value(name) is not None and not same(str(node.value(name)).lower(), str(w.properties[name]).lower())
        for name in w.identifying & w.properties.keys()
    )


def _not_positional(w: Wanted, _node: Node) -> bool:
    return w.kind not in POSITIONAL


def _same_driver(w: Wanted, node: Node) -> bool:
    return same_driver(w.driver, node.driver)


def _same_family(w: Wanted, node: Node) -> bool:
    """At one address, the same kind of element (its model may have changed), or the same driver."""
    return same_driver(w.driver, node.driver) or _kind(node.origin or "") == w.kind


def _in_order(left: Mapping[str, Wanted], nodes: Mapping[str, Place], key: Callable[[str, str], str]) -> Pairs:
    """What has no mark of its own, one by one; ``key`` makes queues of (kind, driver).

    q35's floppy controller, which libvirt gives no id, is one of these until it has an origin.
    """
    pairs: list[tuple[Wanted, Place]] = []
    queues: dict[str, list[Place]] = {}
    for place in nodes.values():
        kind = _kind(place.node.origin or "")
        if place.node.origin is None or kind in POSITIONAL:
            queues.setdefault(key(kind, canonical_driver(place.node.driver)), []).append(place)
    for w in left.values():
        queue = queues.get(key(w.kind, canonical_driver(w.driver)))
        if queue and (w.kind in POSITIONAL or (w.kind == "controller" and queue[0].node.id is None)):
            pairs.append((w, queue.pop(0)))
    return pairs


def _kind(origin: str) -> str:
    return origin.partition("/")[0]
