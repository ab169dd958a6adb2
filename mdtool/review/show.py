"""A machine to look at: the tree as items, which the terminal, the picture and the page all draw.

view        tree (and a diff) -> items
pruned      items -> the items that a filter leaves, with what is above them
text        items -> lines for a terminal
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from mdtool.machine.facts import kind_of
from mdtool.machine.tree import BUILTIN, Bus, Node, Place, Tree, node_name
from mdtool.machine.values import plain
from mdtool.machine.writer import address_key
from mdtool.records import NamedTuple, dataclass, field, replace
from mdtool.review.diff import ADDED, CHANGED, MOVED, REMOVED, REPLACED, SYMBOLS, Diff, NodeChange, diff, paired, where
from mdtool.review.names import names as names_of
from mdtool.text import one_line

if TYPE_CHECKING:
    from mdtool.reconcile.plan import Plan


@dataclass(frozen=True, slots=True)
class Item:
    """One thing to draw: a bus or a device.

    ``name``      of the node or the bus; ``driver`` is "" for a bus, whose type is then in ``what``
    ``address``   on its bus; "" if there is none
    ``what``      a few words: the chosen properties, the type of a bus
    ``kind``      ``bus`` or what a device is for (``KINDS``)
    ``mark``      "" or a key of ``SYMBOLS``: what a diff says of it; ``notes`` says it in words, ``was`` its old driver
    ``fact``      what a person knows it by: its MAC, serial or size
    ``called``    what a Linux guest calls it; "" if unknown
    """

    name: str
    driver: str = ""
    address: str = ""
    what: str = ""
    kind: str = "bus"
    builtin: bool = False
    mark: str = ""
    notes: tuple[str, ...] = ()
    properties: Mapping[str, Any] = field(default_factory=dict)
    pins: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""
    was: str = ""
    fact: str = ""
    called: str = ""
    children: tuple[Item, ...] = ()

    @property
    def is_marked(self) -> bool:
        """Whether it differs, or something below it does."""
        return bool(self.mark) or any(child.is_marked for child in self.children)


#: what a device is known by, the first that it has
_FACTS = ("mac", "serial", "size", "wwn", "wwpn", "name")
#: types of buses, the most important first; others come before the last two
_IMPORTANT = ("PCIE", "PCI", "s390-ccw", "virtio-mmio-bus", "spapr-vio-bus")
_LAST = ("i2c-bus", "System")


def view(tree: Tree, old: Tree | None = None) -> tuple[Item, ...]:
    """The items of a machine; with ``old`` the machine that it was, with what changed marked and what went still there."""
    return _View(tree, diff(old, tree) if old is not None else Diff(()), old).items()


@dataclass
class _View:
    tree: Tree
    found: Diff
    old: Tree | None
    marks: dict[str, list[NodeChange]] = field(default_factory=dict)
    gone: dict[str, list[Place]] = field(default_factory=dict)
    called: dict[str, str] = field(default_factory=dict)

    def items(self) -> tuple[Item, ...]:
        names = {a.name: b.name for a, b in paired(self.old, self.tree)[0]} if self.old is not None else {}
        for change in self.found.changes:
            self.marks.setdefault(names.get(change.node, change.node), []).append(change)
        if self.old is not None:
            removed = {change.node for change in self.found.changes if change.kind == REMOVED}
            for place in self.old.places:
                if place.name in removed and not (place.parent is not None and place.parent.id in removed):
                    self.gone.setdefault(place.bus.name if place.bus else "", []).append(place)
        self.called = {named.node: named.name for named in names_of(self.tree)}
        tops = [self._bus(bus, None) for bus in sorted(self.tree.buses, key=_importance)]
        loose = (*(self._node(n, None) for n in self.tree.devices), *self._went(""))
        return (*tops, *([Item("devices on no bus", kind="bus", children=loose)] if loose else []))

    def _bus(self, bus: Bus, parent: Node | None) -> Item:
        devices = [*(self._node(node, bus) for node in bus.devices), *self._went(bus.name)]
        devices.sort(key=lambda item: address_key(item.address or None))
        return Item(bus.name, what=bus.type + (f" of {bus.host}" if bus.host else ""), children=tuple(devices))

    def _went(self, bus: str) -> Iterator[Item]:
        for place in self.gone.get(bus, ()):
            item = self._node(place.node, place.bus)
            yield replace(_gone(item), notes=(f"was at {where(place)}",))

    def _node(self, node: Node, bus: Bus | None) -> Item:
        name = node_name(node, bus)
        changes = self.marks.get(name, [])
        return Item(
            name,
            node.driver,
            node.address or "",
            ", ".join(f"{key} {shown(value)}" for key, value in node.properties.items()),
            kind_of(node.driver),
            node.origin == BUILTIN,
            _mark(changes),
            tuple(_note(change) for change in changes if change.kind not in (ADDED, REMOVED)),
            node.properties,
            node.pins,
            node.origin or "",
            next((str(change.old) for change in changes if change.kind == REPLACED), ""),
            next((_fact(name, node.properties[name]) for name in _FACTS if name in node.properties), ""),
            self.called.get(name, ""),
            tuple(self._bus(inner, node) for inner in node.buses),
        )


class ChangeLine(NamedTuple):
    """A change in one line, with its reason: what heads a picture and a page of it."""

    node: str
    mark: str
    text: str


def lines_of_diff(old: Tree, new: Tree) -> list[ChangeLine]:
    """What ``view`` marks, a line each."""
    return [ChangeLine(change.node, change.kind, " ".join(str(change).split())) for change in diff(old, new).changes]


def lines_of_plan(plan: Plan, old: Tree, new: Tree) -> list[ChangeLine]:
    """The steps of a plan, with its reasons and what the guest calls the devices."""
    from mdtool.review.plan import listed, text_from_step, with_names

    marks = {"+": ADDED, "-": REMOVED, "±": REPLACED}
    steps = listed(with_names(plan, old, new))
    return [ChangeLine(s.name, marks.get(s.action.value, CHANGED), " ".join(text_from_step(s).split())) for s in steps]


def _importance(bus: Bus) -> tuple[int, str]:
    order = {name: place for place, name in enumerate([*_IMPORTANT, "", *_LAST])}
    return order.get(bus.type, len(_IMPORTANT)), bus.name


def _fact(name: str, value: Any) -> str:
    return size_in_words(value) if name == "size" and isinstance(value, int) else shown(value)


def size_in_words(size: int) -> str:
    """
    >>> size_in_words(512 * 2**20), size_in_words(3 * 2**30)
    ('512 MiB', '3 GiB')
    """
    return f"{size / 2**30:g} GiB" if size % 2**30 == 0 else f"{size / 2**20:g} MiB"


def _gone(item: Item) -> Item:
    """A removed device takes what is behind it along."""
    return replace(item, mark=REMOVED, children=tuple(_gone(child) for child in item.children))


def _mark(changes: Sequence[NodeChange]) -> str:
    kinds = {change.kind for change in changes}
    return next((kind for kind in SYMBOLS if kind in kinds), "")


def _note(change: NodeChange) -> str:
    what = change.property or ("was at" if change.kind == MOVED else f"{change.kind} from")
    said = shown(change.old)
    return f"{what}: {said} -> {shown(change.new)}" if change.property else f"{what} {said}"


def shown(value: Any) -> str:
    """A value as people read it.

    >>> shown(True), shown(None), shown("a b")
    ('on', '-', 'a b')
    """
    return "-" if value is None else str(plain(value))


def folded(item: Item, *, only_changes: bool) -> Item:
    """For a picture: a device's only bus is drawn with the device; built-ins that hold nothing, empty ports and, of a
    change, branches in which nothing differs become one card."""
    children = item.children
    if item.kind != "bus" and len(children) == 1:
        children = children[0].children
    whole = [folded(child, only_changes=only_changes) for child in children]
    for what, belongs in _FOLDS.items():
        few = [child for child in whole if not child.is_marked and belongs(child, only_changes)]
        if len(few) > (1 if what == "unchanged" else 2):
            names = ", ".join(child.driver if child.builtin else child.name for child in few)
            card = Item(f"{len(few)} {what}", what=names, kind="other", builtin=True)
            whole = [card, *(child for child in whole if child not in few)]
    return replace(item, children=tuple(whole))


#: what cards stand for many -> which they stand for, beside the marked
_FOLDS: Mapping[str, Callable[[Item, bool], bool]] = {
    "unchanged": lambda _, only_changes: only_changes,
    "empty ports": lambda item, _: item.kind == "bridge" and not item.builtin and not item.children,
    "built-ins": lambda item, _: item.builtin and not item.children and bool(item.driver) and item.kind != "bridge",
}


# --- filters ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Filter:
    """What to show; patterns as in a shell.  ``depth`` counts devices from the top, None for all."""

    bus: str | None = None
    driver: str | None = None
    id: str | None = None
    changed: bool = False
    builtins: bool = True
    depth: int | None = None


def pruned(items: Iterable[Item], wish: Filter) -> tuple[Item, ...]:
    """What ``wish`` leaves, with everything that it sits on."""
    listed = tuple(items)
    if wish.bus is not None:
        listed = tuple(item for item in _everything(listed) if item.kind == "bus" and fnmatchcase(item.name, wish.bus))
    return tuple(kept for item in listed if (kept := _kept(item, wish, 0)) is not None)


def _everything(items: Iterable[Item]) -> Iterator[Item]:
    for item in items:
        yield item
        yield from _everything(item.children)


def _kept(item: Item, wish: Filter, level: int) -> Item | None:
    deeper = level + (item.kind != "bus")
    below = () if wish.depth is not None and deeper > wish.depth else item.children
    children = tuple(kept for child in below if (kept := _kept(child, wish, deeper)) is not None)
    if wish.depth is not None and item.kind != "bus" and level >= wish.depth:
        return None
    is_empty_bus = item.kind == "bus" and bool(_selects(wish) or item.children or not wish.builtins)
    if not children and (is_empty_bus or not _fits(item, wish)):
        return None
    return replace(item, children=children)


def _selects(wish: Filter) -> bool:
    return wish.driver is not None or wish.id is not None or wish.changed


def _fits(item: Item, wish: Filter) -> bool:
    if item.kind == "bus":
        return True
    return (
        (wish.driver is None or fnmatchcase(item.driver, wish.driver))
        and (wish.id is None or fnmatchcase(item.name, wish.id))
        and (not wish.changed or bool(item.mark))
        and (wish.builtins or not item.builtin)
    )


# --- the terminal ----------------------------------------------------------------------------------------------------

_COLOURS = {
    "added": "green",
    "removed": "red",
    "changed": "yellow",
    "moved": "yellow",
    "replaced": "yellow",
    "renamed": "yellow",
}
Coloured = Callable[[str, str], str]


def headline(tree: Tree) -> str:
    """``web01 · pc-q35-7.2 · x86_64 · 2 CPUs qemu64 · 512 MiB``"""
    size = tree.memory.get("size")
    parts = [tree.guest.get("name"), tree.machine.get("type"), tree.machine.get("arch")]
    if vcpus := tree.cpu.get("vcpus"):
        parts.append(f"{vcpus} CPU{'s' if vcpus != 1 else ''} {tree.cpu.get('model', '')}".rstrip())
    if isinstance(size, int):
        parts.append(size_in_words(size))
    return one_line(" · ".join(str(part) for part in parts if part))


def text(items: Sequence[Item], coloured: Coloured = lambda text, _colour: text, width: int = 120) -> str:
    """Lines for a terminal: a device's only bus is not repeated, since it has the device's name."""
    return "\n".join(line for item in items for line in _lines(item, "", "", coloured, width))


def _lines(item: Item, first: str, rest: str, coloured: Coloured, width: int) -> Iterator[str]:
    yield _line(item, first, coloured, width)
    children = item.children
    if item.kind != "bus" and len(children) == 1:
        children = children[0].children
    for child in children:
        last = child is children[-1]
        branch, stem = (rest + ("└─ " if last else "├─ "), rest + ("   " if last else "│  "))
        yield from _lines(child, branch, stem, coloured, width)


def _line(item: Item, lead: str, coloured: Coloured, width: int) -> str:
    if item.kind == "bus":
        return coloured(lead, "dim") + coloured(one_line(item.name), "bold") + coloured(one_line(f"  {item.what}"), "dim")
    symbol = f"{SYMBOLS[item.mark]} " if item.mark else ""
    name = "" if item.name.startswith(f"{item.driver}@") or item.name == item.driver else f"{item.name}  "
    notes = one_line("; ".join(item.notes) or item.what)
    address = f"{item.address:<5} " if item.address else ""
    plain_text = one_line(f"{symbol}{address}{name}{item.driver}")
    room = width - len(lead) - len(plain_text) - 2
    notes = notes if len(notes) <= room else notes[: max(room - 3, 0)] + "..."
    if item.mark:
        return coloured(lead, "dim") + coloured(f"{plain_text}  {notes}".rstrip(), _COLOURS[item.mark])
    if item.builtin:
        return coloured(lead, "dim") + coloured(f"{plain_text}  {notes}".rstrip(), "dim")
    said = f"{one_line(address)}{coloured(one_line(name), 'bold') if name else ''}{one_line(item.driver)}"
    return coloured(lead, "dim") + (said + (coloured(f"  {notes}", "dim") if notes else "")).rstrip()
