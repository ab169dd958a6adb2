"""Where in a description a cursor is, found from the lines: a text that is being typed is no YAML most of the time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from mdtool.records import NamedTuple, dataclass
from mdtool.text import pattern

#: ``- key: value``, ``key:``; a key may be quoted
_LINE = pattern(
    r"(?P<pad> *)(?P<item>- +|-$)?(?:(?P<key>'[^']*'|\"[^\"]*\"|[^\s:#'\"{\[][^:#]*?) *:(?: +(?P<value>.*))?$)?"
)
_COMMENT = pattern(r"(^|\s)#.*$")
ITEM = "-"  # stands for an item of a list in a path


class BlockLine(NamedTuple):
    """A line of a block: its indent (that of the key behind a ``- ``), and what it says; ``item`` is that of the dash."""

    number: int
    indent: int
    key: str | None
    value: str
    item: int | None


@dataclass(frozen=True)
class Cursor:
    """A place in the tree document.

    ``path``    the keys from the root, ``ITEM`` for an item of a list: ``("buses", "pcie.0", "devices", "-")``
    ``key``     the key whose value is typed here; None where a key is typed
    ``word``    what is typed so far
    ``fields``  the plain values of each mapping on the way, the innermost last
    """

    path: tuple[str, ...]
    key: str | None
    word: str
    fields: tuple[Mapping[str, str], ...]

    @property
    def node(self) -> Mapping[str, str] | None:
        """The fields of the node that the cursor is in."""
        depth = next((n for n in range(len(self.path), 0, -1) if self.path[n - 1] == ITEM), None)
        return self.fields[depth] if depth is not None else None

    @property
    def inside(self) -> str | None:
        """The key of the node that the cursor is below (``properties``); "" in the node itself; None outside of nodes."""
        depth = next((n for n in range(len(self.path), 0, -1) if self.path[n - 1] == ITEM), None)
        if depth is None:
            return None
        return self.path[depth] if len(self.path) > depth else ""

    @property
    def bus(self) -> str | None:
        """The bus that the node sits on, or the one that the cursor is in."""
        found = [self.path[n + 1] for n, key in enumerate(self.path[:-1]) if key == "buses"]
        return found[-1] if found else None


def cursor_at(text: str, line: int, column: int) -> Cursor:
    """The place before character ``column`` of ``line``, both from 0.

    >>> cursor_at("buses:\\n  pcie.0:\\n    devices:\\n    - id: net0\\n      dri", 4, 9).path
    ('buses', 'pcie.0', 'devices', '-')
    """
    rows = text.split("\n")
    lines = [_parsed(number, row) for number, row in enumerate(rows)]
    prefix = rows[line][:column] if line < len(rows) else ""
    here = _parsed(line, prefix)
    parents = _parents(lines, here)
    path: list[str] = []
    fields: list[Mapping[str, str]] = [_fields(lines, 0, 0)]
    for parent in parents:
        path.append(parent.key if parent.key is not None else ITEM)
        fields.append(_fields(lines, parent.number + (parent.key is not None), _child_indent(lines, parent, here)))
    key, word = here.key, here.value
    if here.key is None:
        word = prefix.strip().removeprefix("-").strip()
    return _in_flow(Cursor(tuple(path), key, word.strip("'\""), tuple(fields)), word)


def _parsed(number: int, row: str) -> BlockLine:
    row = _COMMENT.sub("", row).rstrip()
    found = _LINE.match(row)
    assert found is not None  # every part is optional
    pad, item = len(found["pad"]), found["item"]
    key = found["key"].strip("'\"") if found["key"] else None
    dash = pad if item else None
    value = (found["value"] or "").strip() if key is not None else row[pad:].removeprefix("-").strip()
    return BlockLine(number, pad + (max(len(item), 2) if item else 0), key, value, dash)


def _is_blank(line: BlockLine) -> bool:
    return line.key is None and line.item is None and not line.value


def _parents(lines: Sequence[BlockLine], here: BlockLine) -> list[BlockLine]:
    """The lines that the cursor is below, outermost first; an item of a list is a Line without a key."""
    found: list[BlockLine] = []
    if here.item is not None:
        found.append(BlockLine(here.number, here.indent, None, "", here.item))
    limit = here.item if here.item is not None else here.indent
    is_item = here.item is not None
    for line in reversed(lines[: here.number]):
        if _is_blank(line):
            continue
        if line.item is not None and line.item < limit:
            if line.indent < limit and line.key is not None:
                found.append(line._replace(item=None))
            found.append(BlockLine(line.number, line.indent, None, "", line.item))
            limit, is_item = line.item, True
        elif line.item is None and line.key is not None and (line.indent < limit or (is_item and line.indent == limit)):
            found.append(line)
            limit, is_item = line.indent, False
        if limit == 0 and not is_item:
            break
    return found[::-1]


def _child_indent(lines: Sequence[BlockLine], parent: BlockLine, here: BlockLine) -> int:
    if parent.key is None:
        return parent.indent
    after = next((line for line in lines[parent.number + 1 :] if not _is_blank(line)), None)
    return after.indent if after is not None and after.indent > parent.indent else here.indent


def _fields(lines: Sequence[BlockLine], first: int, indent: int) -> dict[str, str]:
    """The plain values of the mapping that starts on line ``first`` with its keys at ``indent``."""
    found: dict[str, str] = {}
    for line in lines[first:]:
        if _is_blank(line):
            continue
        if line.indent < indent or (line.item is not None and line.number > first and line.item < indent):
            break
        if line.indent == indent and line.key is not None and line.value and line.value[0] not in "{[":
            found[line.key] = line.value.strip("'\"")
    return found


_PAIR = pattern(r"\s*(?P<key>'[^']*'|\"[^\"]*\"|[^\s:,{}]+)\s*:\s*(?P<value>'[^']*'?|\"[^\"]*\"?|[^,{}]*)$")


def _in_flow(cursor: Cursor, value: str) -> Cursor:
    """A cursor inside of ``{key: value, ...}`` on its line is in a mapping of its own."""
    if "{" not in value or value.count("{") <= value.count("}"):
        return cursor
    if cursor.key is not None:
        path, fields = (*cursor.path, cursor.key), cursor.fields
    else:
        path, fields = cursor.path, cursor.fields[:-1]
    *before, last = value[value.index("{") + 1 :].split(",")
    pairs = {pair["key"].strip("'\""): pair["value"].strip("'\" ") for part in before if (pair := _PAIR.match(part))}
    typed = _PAIR.match(last)
    if typed is None:
        return Cursor(path, None, last.strip().strip("'\""), (*fields, pairs))
    return Cursor(path, typed["key"].strip("'\""), typed["value"].strip().strip("'\""), (*fields, pairs))
