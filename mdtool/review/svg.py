"""The topology as a picture: buses left to right, devices as cards, a colour for what each is for."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape

from mdtool.records import dataclass, field
from mdtool.review.diff import SYMBOLS
from mdtool.review.show import ChangeLine, Item, folded

CARD, HEIGHT, GAP, STEP = 280, 44, 10, 336  # pixels: a card, between two cards, between two columns
MARGIN, HEAD, LINE = 24, 56, 19

#: kind -> (on light, on dark)
COLOURS = {
    "bridge": ("#64748b", "#94a3b8"),
    "network": ("#2563eb", "#60a5fa"),
    "storage": ("#b45309", "#fbbf24"),
    "display": ("#7c3aed", "#a78bfa"),
    "usb": ("#0f766e", "#2dd4bf"),
    "input": ("#0e7490", "#22d3ee"),
    "serial": ("#4d7c0f", "#a3e635"),
    "sound": ("#be185d", "#f472b6"),
    "processor": ("#9f1239", "#fb7185"),
    "other": ("#71717a", "#a1a1aa"),
}
#: marks of a diff -> (on light, on dark)
MARKS = {
    "added": ("#15803d", "#4ade80"),
    "removed": ("#dc2626", "#f87171"),
    **dict.fromkeys(("moved", "replaced", "renamed", "changed"), ("#c2410c", "#fb923c")),
}


def style(root: str = "svg.mdtool") -> str:
    """The colours as CSS, for light and dark; ``data-theme`` on the page wins over what the system prefers."""

    def colours(which: int) -> str:
        found = [f"--{kind}:{pair[which]}" for kind, pair in {**COLOURS, **MARKS}.items()]
        ground = (
            ["--ground:#f8fafc", "--card:#ffffff", "--ink:#0f172a", "--soft:#526077", "--line:#94a3b8"],
            ["--ground:#0b1120", "--card:#17213a", "--ink:#e5edf9", "--soft:#a3b3cc", "--line:#5b6b86"],
        )[which]
        return ";".join([*ground, *found])

    unlit = ":root:not([data-theme=light])"
    kinds = "".join(f".{kind}{{--tint:var(--{kind})}}" for kind in COLOURS)
    marks = "".join(f".{mark}{{--edge:var(--{mark})}}" for mark in MARKS)
    return (
        f":root,{root}{{{colours(0)}}}"
        f"@media(prefers-color-scheme:dark){{{unlit},{unlit} {root}{{{colours(1)}}}}}"
        f":root[data-theme=dark],:root[data-theme=dark] {root}{{{colours(1)}}}"
        f"{kinds}{marks}"
        f"{root}{{font-family:system-ui,-apple-system,'Segoe UI',Cantarell,'DejaVu Sans',sans-serif}}"
        ".card rect.face{fill:var(--card);stroke:var(--edge,var(--line));stroke-width:1}"
        ".card.marked rect.face{stroke-width:2.5}"
        ".card rect.tint{fill:var(--tint)}"
        ".card.builtin{opacity:.72}.card.removed{opacity:.8}.card.removed text.name{text-decoration:line-through}"
        ".card text.name{font-size:13px;font-weight:600;fill:var(--ink)}"
        ".card text.driver{font-size:11.5px;fill:var(--soft)}"
        "text.at{font-size:11px;font-family:ui-monospace,'DejaVu Sans Mono',monospace;fill:var(--soft)}"
        ".card text.mark{font-size:15px;font-weight:700;fill:var(--edge)}"
        ".bus rect{fill:none;stroke:var(--line);stroke-dasharray:3 3}"
        ".bus text.name{font-size:13px;font-weight:700;fill:var(--ink)}.bus text.driver{font-size:11.5px;fill:var(--soft)}"
        "path.wire{fill:none;stroke:var(--line);stroke-width:1.3}"
        "text.change{font-size:12.5px;font-family:ui-monospace,'DejaVu Sans Mono',monospace;fill:var(--edge,var(--ink))}"
        "text.head{font-size:17px;font-weight:650;fill:var(--ink)}"
        "text.key{font-size:11.5px;fill:var(--soft)}rect.ground{fill:var(--ground)}"
    )


@dataclass
class _Box:
    """A placed item; ``many`` is how many built-ins it stands for."""

    item: Item
    column: int
    top: float
    children: list[_Box] = field(default_factory=list)

    @property
    def x(self) -> float:
        return MARGIN + self.column * STEP

    @property
    def middle(self) -> float:
        return self.top + HEIGHT / 2


def svg(items: Sequence[Item], headline: str, changes: Sequence[ChangeLine] = ()) -> str:
    """A whole SVG file, in light and dark as its reader prefers; a change begins with the list of ``changes``."""
    body, width, height = drawing(items, headline, changes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" class="mdtool" viewBox="0 0 {width} {height}" width="{width}" '
        f'height="{height}" role="img" aria-label="{escape(headline)}">'
        f"<title>{escape(headline)}</title><style>{style()}</style>{body}</svg>\n"
    )


def drawing(items: Sequence[Item], headline: str = "", changes: Sequence[ChangeLine] = ()) -> tuple[str, int, int]:
    """What is inside of the SVG element, its width and height."""
    top = HEAD if headline else MARGIN
    cursor = [float(top + LINE * len(changes) + (GAP if changes else 0))]
    only_changes = any(item.is_marked for item in items)
    boxes: list[_Box] = []
    for item in items:
        if only_changes and not item.is_marked:
            continue
        boxes.append(_placed(folded(item, only_changes=only_changes), 0, cursor))
        cursor[0] += GAP
    everything = [box for top in boxes for box in _walk(top)]
    columns = max((box.column for box in everything), default=0) + 1
    kinds = [kind for kind in COLOURS if any(box.item.kind == kind for box in everything)]
    longest = max((len(line.text) for line in changes), default=0)
    width = max(int(MARGIN * 2 + (columns - 1) * STEP + CARD), 2 * MARGIN + 96 * len(kinds), 2 * MARGIN + 8 * longest, 480)
    height = int(cursor[0] + 40)
    parts = [f'<rect class="ground" width="{width}" height="{height}"/>']
    if headline:
        parts.append(f'<text class="head" x="{MARGIN}" y="34">{escape(headline)}</text>')
    parts += [
        f'<text class="change {line.mark}" x="{MARGIN}" y="{top + LINE * number + 8}">{escape(line.text)}</text>'
        for number, line in enumerate(changes)
    ]
    parts += [part for box in everything for part in _wires(box)]
    parts += [_card(box) for box in everything]
    parts += [_key(kind, number, height) for number, kind in enumerate(kinds)]
    return "".join(parts), width, height


def _key(kind: str, number: int, height: int) -> str:
    x, y = MARGIN + number * 96, height - 22
    return (
        f'<g class="{kind}"><rect x="{x}" y="{y}" width="10" height="10" rx="2" style="fill:var(--tint)"/>'
        f'<text class="key" x="{x + 16}" y="{y + 9}">{kind}</text></g>'
    )


def _placed(item: Item, column: int, cursor: list[float]) -> _Box:
    top = cursor[0]
    box = _Box(item, column, top)
    box.children = [_placed(child, column + 1, cursor) for child in item.children]
    if not box.children:
        cursor[0] += HEIGHT + GAP
    return box


def _walk(box: _Box) -> Iterator[_Box]:
    yield box
    for child in box.children:
        yield from _walk(child)


def _wires(box: _Box) -> Iterator[str]:
    """A stem down from the parent, and a branch to each child with the child's address on it."""
    start = box.x + CARD
    for child in box.children:
        bend = start + 14
        if child.middle == box.middle:
            yield f'<path class="wire" d="M{start} {box.middle}H{child.x}"/>'
        else:
            corner = f"V{child.middle - 6}q0 6 6 6"
            yield f'<path class="wire" d="M{start} {box.middle}H{bend}{corner}H{child.x}"/>'
        if child.item.address:
            x, y = child.x - 6, child.middle - 4
            yield f'<text class="at" x="{x}" y="{y}" text-anchor="end">{escape(_cut(child.item.address, 8))}</text>'


def _card(box: _Box) -> str:
    item = box.item
    if item.kind == "bus":
        return (
            f'<g class="bus" transform="translate({box.x} {box.top})"><rect width="{CARD}" height="{HEIGHT}" rx="8"/>'
            f'<text class="name" x="14" y="19">{escape(_cut(item.name, 26))}</text>'
            f'<text class="driver" x="14" y="35">{escape(_cut(item.what, 32))}</text></g>'
        )
    is_named = not (item.name.startswith(f"{item.driver}@") or item.name == item.driver)
    title = item.name if is_named else item.driver
    driver = f"{item.was} → {item.driver}" if item.was else item.driver
    below = (" · ".join(filter(None, (driver, item.fact))) if is_named else "") or item.what
    classes = " ".join(
        filter(None, ("card", item.kind, "builtin" if item.builtin else "", item.mark and f"marked {item.mark}"))
    )
    notes = "\n".join(filter(None, (f"{item.name} ({item.driver})", item.what, *item.notes)))
    mark = f'<text class="mark" x="{CARD - 18}" y="20">{SYMBOLS[item.mark]}</text>' if item.mark else ""
    end = CARD - (30 if item.mark else 12)
    called = (
        f'<text class="at" x="{end}" y="19" text-anchor="end">{escape(_cut(item.called, 16))}</text>' if item.called else ""
    )
    return (
        f'<g class="{classes}" data-name="{escape(item.name)}" transform="translate({box.x} {box.top})">'
        f"<title>{escape(notes)}</title>"
        f'<rect class="face" width="{CARD}" height="{HEIGHT}" rx="8"/><rect class="tint" x="5" y="7" width="4" '
        f'height="{HEIGHT - 14}" rx="2"/>'
        f'<text class="name" x="18" y="19">{escape(_cut(title, 18 if called else 30))}</text>{called}'
        f'<text class="driver" x="18" y="35">{escape(_cut(below, 44))}</text>{mark}</g>'
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else text[: most - 1] + "…"
