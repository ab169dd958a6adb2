"""The machine description as read: a text to its tree, checked.

Reading composes with libyaml, which gives line and column of every value in a twentieth of the time of a round-trip
load; the pins document is JSON and goes to a JSON parser.  Writing a whole new description is ``machine.writer``; changing
one that people have edited is ``machine.edit``, which leaves every byte alone that need not change.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from mdtool.errors import InputError, Position, Warn
from mdtool.files import text_from_file
from mdtool.limits import MAX_DIGITS
from mdtool.machine.kept import keep_tree, known_tree
from mdtool.machine.pins import expanded
from mdtool.machine.tree import Node, Tree
from mdtool.machine.writer import BAGS, DRIVER_PINS, MACHINE_PINS, PINS_FORMAT, SOURCE
from mdtool.records import dataclass, replace
from mdtool.text import pattern, quoted, shell_word

if TYPE_CHECKING:
    from pathlib import Path

#: what JSON can say in the pins, and no device can have: numbers without end, half characters, NUL
_NOT_PINS = pattern(
    rf"[:\[,]\s*-?(?:[0-9]{{{MAX_DIGITS + 1},}}|[0-9.]+[eE][+-]?[0-9]{{3,}}|NaN|Infinity)"
    r"|(?<!\\)(?:\\\\)*\\u(?:0000|[dD][89abAB]..(?!\\u[dD][c-fC-F])|(?<!\\u[dD][89abAB]..\\u)[dD][c-fC-F])"
)


#: a comment on a line of its own, which JSON does not have
_COMMENT = pattern(r"^[ \t]*#.*", re.MULTILINE)


@dataclass(frozen=True)
class Document:
    """A description as read: its tree, and what ``edit`` needs to change the text in place.

    ``end`` is the offset in ``text`` where the tree document ends.
    ``stray`` warns of pins whose node was renamed or removed by hand: they mean nothing, and the next write drops them.
    """

    tree: Tree
    file: str
    text: str
    end: int
    stray: tuple[Warn, ...] = ()

    @property
    def root(self) -> Any:
        """The composed YAML node of the tree document."""
        from mdtool.machine.yaml import composed

        return composed(self.text[: self.end], self.file)


def document_from_file(path: str | Path) -> Document:
    """Read and check a description; raises InputError (or Errors, sorted) with file, line and column."""
    return document_from_known_text(text_from_file(path), str(path))


def tree_from_file(path: str | Path) -> Tree:
    return document_from_file(path).tree


def document_from_known_text(text: str, file: str) -> Document:
    """``document_from_text`` for the text of a file, which was read before or will be read again: the cache keeps it."""
    if (known := known_tree(text, file)) is not None:
        return Document(known[0], file, text, known[1])
    document = document_from_text(text, file)
    if not document.stray:
        keep_tree(document.tree, text, document.end)
    return document


def document_from_text(text: str, file: str) -> Document:
    from mdtool.machine.parse import tree_from_yaml  # with it comes the YAML library, which the cache saves

    check_merged(text, file)
    check_kind(text, file)
    end = _end_of_tree_document(text)
    tree = tree_from_yaml(text[:end], file)
    pins = _pins(text[end:], text[:end].count("\n"), file)
    stray = tuple(_stray(pins, tree, text, end, file))
    return Document(_with_pins(tree, pins), file, text, end, stray)


def is_xml(text: str) -> bool:
    """Whether a text means to be XML: behind a byte order mark and blanks its first character is ``<``."""
    return text.lstrip("\ufeff \t\r\n").startswith("<")


_DESCRIPTION = pattern(r"^mdtool:\s*['\"]?machine/", re.MULTILINE)


def is_description(text: str) -> bool:
    """Whether a text means to be a machine description, well-formed or not."""
    return _DESCRIPTION.search(text) is not None


XML, DESCRIPTION, SCRIPT, PLAN = "guest XML", "a machine description", "a script", "a saved plan"
FINGERPRINT, HINTS = "a fingerprint", "a hints file"
#: kind of file -> how it begins, and what is done with it
_KINDS: dict[str, tuple[str, str | None]] = {
    XML: (r"[\ufeff\s]*<", "a description is made of it with mdtool reconcile {} GUEST.yaml"),
    DESCRIPTION: (
        r"(?ms:.*?^mdtool:\s*['\"]?machine/)",
        "mdtool diff compares two of them, mdtool hints export makes hints of it; beside guest XML it comes second",
    ),
    SCRIPT: (r"#!|(?:\S*/)?qemu-system-", "mdtool dump {} makes a description of it, mdtool import guest XML too"),
    PLAN: (r"\s*\{\s*\"mdtool\":\s*\"plan/", "carry it out with mdtool apply {} --source SOURCE"),
    FINGERPRINT: (
        r"\s*\{\s*\"mdtool\":\s*\"fingerprint/|machine \S",
        "compare it with mdtool fingerprint SOURCE --against {}",
    ),
    HINTS: (r"\s*\{\s*\"mdtool\":\s*\"hints/", "apply them with mdtool hints apply {} GUEST.xml"),
    "an empty file": (r"\s*\Z", None),
    "a binary file": (r"(?s:.{0,511}?[\0-\x08\x0e-\x1a\x1c-\x1f])", None),
}


def check_kind(text: str, file: str, wanted: str = DESCRIPTION, expected: str | None = None, *, other: str = "") -> None:
    """Raise InputError where the text is another kind of file: its parser's words would explain nothing.

    ``other`` is what an error calls what was wanted, where that is more than this kind.
    """
    kind, remedy = next(((kind, says) for kind, (begins, says) in _KINDS.items() if re.match(begins, text)), (wanted, None))
    if kind != wanted:
        what, remedy = f"this is {kind}, not {other or wanted}", remedy and remedy.format(shell_word(file))
        raise InputError(what, at=Position(file, 1), expected=expected, remedy=remedy, rule="file-kind")


def check_merged(text: str, file: str) -> None:
    """Raise InputError if a merge left both sides of a conflict in the text."""
    if "<<<<<<<" in text and (found := re.search(r"^<{7,}(?: .*)?$", text, re.MULTILINE)):
        raise InputError(
            "a merge conflict is not resolved",
            at=Position(file, text.count("\n", 0, found.start()) + 1),
            remedy="keep one of the two sides, and remove the lines that begin with <<<<<<<, ======= and >>>>>>>",
            rule="merge-conflict",
        )


def _end_of_tree_document(text: str) -> int:
    """The offset of the ``---`` line that starts the pins document; the length of the text if there is none."""
    for match in re.finditer(r"^---(?=\s|$)", text, re.MULTILINE):
        if text[: match.start()].strip() and not all(
            line.startswith(("#", "%")) or not line.strip() for line in text[: match.start()].splitlines()
        ):
            return match.start()
    return len(text)


def _pins(text: str, lines_before: int, file: str) -> dict[str, Any]:
    if not text:
        return {}
    body = _COMMENT.sub("", text[3:])  # behind the '---'
    if bad := _NOT_PINS.search(body):
        before = body[: bad.start()]
        where = Position(file, lines_before + 1 + before.count("\n"), len(before) - before.rfind("\n"))
        raise InputError(f"{quoted(bad[0].lstrip(':[, '))} is not a valid value", at=where, rule="limit-number")
    try:
        pins = json.loads(body, object_pairs_hook=_once)
    except _Twice as error:
        at = [found.start() for found in re.finditer(rf"{re.escape(json.dumps(error.args[0]))}\s*:", body)][-1:] or [0]
        where = Position(file, lines_before + 1 + body.count("\n", 0, at[0]))
        raise InputError(f"pins: duplicate key '{error.args[0]}'", at=where, rule="duplicate-key") from None
    except RecursionError:
        raise InputError("pins are nested too deep", at=Position(file, lines_before + 1), rule="limit-depth") from None
    except ValueError as error:
        line, column = getattr(error, "lineno", 1), getattr(error, "colno", 1)
        where = Position(file, lines_before + line, column + (3 if line == 1 else 0))
        remedy = "restore it from git, or dump the machine again; pins are changed under 'properties' in the tree"
        what = f"the pins document is not JSON: {getattr(error, 'msg', error)}"
        raise InputError(what, at=where, remedy=remedy, rule="pins-syntax") from None
    if not isinstance(pins, dict) or pins.pop("mdtool", None) != PINS_FORMAT:
        where = Position(file, lines_before + 1)
        raise InputError("the second document is not a pins document", at=where, expected=f'"mdtool": "{PINS_FORMAT}"')
    from mdtool.machine.schema import validate_pins

    validate_pins({"mdtool": PINS_FORMAT, **pins}, body, file, lines_before + 1)
    return pins


class _Twice(Exception):
    """A key that stands twice in an object of JSON."""


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        seen: set[str] = set()
        raise _Twice(next(key for key, _ in pairs if key in seen or seen.add(key)))  # type: ignore[func-returns-value]
    return found


def _stray(pins: Mapping[str, Any], tree: Tree, text: str, end: int, file: str) -> Iterator[Warn]:
    """A warning for each node that the pins document names and the tree does not have, at its line there."""
    bags = [bag for key in BAGS if isinstance(bag := pins.get(key), Mapping)]
    nodes = [name for name in pins if not name.startswith("mdtool:")]
    named = dict.fromkeys([*nodes, *(name for bag in bags for name in bag)])
    for name in named:
        if name in tree.by_name or name.startswith("@"):
            continue
        at = text.find(f"{json.dumps(name)}:", end)
        at = at if at >= 0 else text.find(f"{json.dumps(name, ensure_ascii=False)}:", end)
        before = text[: max(at, end)]
        where = Position(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        what = f"pins for '{name}', which is not in the tree; the next write drops them"
        yield Warn(what, at=where, remedy="nothing need be done where the node was renamed or removed", rule="pins-node")


def _with_pins(tree: Tree, pins: dict[str, Any]) -> Tree:
    bags = {bag: pins.pop(key, {}) for key, bag in BAGS.items()}
    applied = bags["applied"]
    tree = replace(tree, source=tuple(pins.pop(SOURCE, ())), machine_pins=pins.pop(MACHINE_PINS, {}))
    tree = replace(tree, applied={key: applied.pop(key) for key in list(applied) if key.startswith("@")})
    drivers = pins.pop(DRIVER_PINS, {})
    nodes = {name: place.node for name, place in tree.by_name.items() if name in pins}
    bags["pins"] = {name: expanded(drivers.get(node.driver, {}), pins[name]) for name, node in nodes.items()}
    if not any(bags.values()):
        return tree
    return tree_with(
        tree,
        {name: {bag: found.get(name, {}) for bag, found in bags.items()} for name in tree.by_name},
    )


def tree_with(tree: Tree, changes: Mapping[str, Mapping[str, Any]]) -> Tree:
    """The tree with fields of some nodes replaced: ``tree_with(tree, {"net0": {"pins": {...}}})``."""
    names = iter([place.name for place in tree.places])

    def rebuilt(node: Node) -> Node:
        change = changes.get(next(names))
        buses = tuple(replace(bus, devices=tuple(rebuilt(inner) for inner in bus.devices)) for bus in node.buses)
        return replace(node, **{"buses": buses, **(change or {})})

    buses = tuple(replace(bus, devices=tuple(rebuilt(node) for node in bus.devices)) for bus in tree.buses)
    return replace(tree, buses=buses, devices=tuple(rebuilt(node) for node in tree.devices))
