"""YAML with the position of every value: composed by libyaml, and turned into plain data by YAML 1.2's rules."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from math import isfinite
from typing import Any

from mdtool.errors import InputError, Position
from mdtool.limits import MAX_BYTES, MAX_COLLECTIONS_DEEP, MAX_DIGITS, MAX_SLOW_BYTES, MAX_VALUES
from mdtool.machine.sizes import SIZES, bytes_of
from mdtool.text import pattern, quoted


@lru_cache(maxsize=4)  # who edits a description asks for its nodes again
def composed(text: str, file: str) -> Any:
    """The root node, from libyaml; where that refuses, from ruamel's own parser, which has the last word.

    ruamel brings libyaml 0.1, which does not read an unquoted MAC inside braces; YAML 1.2 does.
    """
    from ruamel.yaml import YAML  # 40 ms: only where a description is read
    from ruamel.yaml.cyaml import CSafeLoader
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        if bad := re.search("[\ud800-\udfff]", text):
            at = Position(file, text.count("\n", 0, bad.start()) + 1, bad.start() - text.rfind("\n", 0, bad.start()))
            raise InputError(f"{quoted(bad[0])} is an incomplete character", at=at, rule="limit-text")
        if len(text) > MAX_BYTES:
            raise InputError(f"more than {MAX_BYTES >> 20} MiB", at=Position(file, 1), rule="limit-size")
        try:
            if _may_exceed(text):
                _check_events(_events(CSafeLoader(text)), file)
            root = CSafeLoader(text).get_single_node()
        except YAMLError as refused:
            if len(text) > MAX_SLOW_BYTES:
                raise
            try:
                if _may_exceed(text):
                    _check_events(YAML(typ="safe", pure=True).parse(text), file)
                root = YAML(typ="safe", pure=True).compose(text)
            except (ValueError, OverflowError):  # "\U99999999" is no character
                raise refused from None
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1)
        raise InputError(f"not YAML: {error.problem or error.context}", at=where, rule="yaml-syntax") from None
    except YAMLError as error:
        raise InputError(f"not YAML: {str(error).splitlines()[0]}", at=Position(file, 1), rule="yaml-syntax") from None
    if root is None:
        raise InputError("the description is empty", at=Position(file, 1), expected="a machine description")
    if _UNUSUAL.search(text):
        _check_values(root, file)
    if kind(root) == "mapping":
        for key, _, value in items(root):
            _write_in_bytes(key, value)
    return root


def _write_in_bytes(section: str, node: Any) -> None:
    """Give the sizes of a section that a person wrote as ``512M`` or ``16G`` the value in bytes; the text stays."""
    if section not in SIZES or kind(node) == "scalar":
        return
    if kind(node) == "sequence":
        for item in node.value:
            _write_in_bytes(section, item)
        return
    for key, _, value in items(node):
        if kind(value) != "scalar":
            _write_in_bytes(section, value)
        elif key in SIZES[section] and not value.value.isdigit() and (size := bytes_of(value.value)) is not None:
            value.value, value.style = str(size), None


# --- limits: libyaml and the walks over its nodes call themselves, so depth is counted before, and aliases after ---------


def _may_exceed(text: str) -> bool:
    """Whether a text may hold more values, or more collections in each other, than allowed: a quick guess upwards."""
    opened = text.count("[") + text.count("{")
    indented = max((len(blanks) for blanks in re.findall(r"^[ ]+(?:[-?] +)*", text, re.MULTILINE)), default=0)
    inline = max((len(marks) for marks in re.findall(r"(?:[-?:]\s+){20,}", text)), default=0)
    values = opened + text.count(",") + text.count(":") + text.count("- ") + text.count("\n")
    return min(opened, _deepest_flow(text)) + indented + inline > MAX_COLLECTIONS_DEEP or values > MAX_VALUES


def _deepest_flow(text: str) -> int:
    """How deep brackets nest at most, those of quoted texts and comments counted as well."""
    depth = deepest = 0
    for bracket in re.findall(r"[\[\]{}]", text):
        depth = depth + 1 if bracket in "[{" else max(depth - 1, 0)
        deepest = max(deepest, depth)
    return deepest


def _events(loader: Any) -> Iterator[Any]:
    while loader.check_event():
        yield loader.get_event()


def _check_events(events: Iterable[Any], file: str) -> None:
    """Raise InputError where a limit is passed; neither parser calls itself for what is nested."""
    depth = count = 0
    for event in events:
        name = type(event).__name__
        depth += name.endswith("StartEvent") - name.endswith("EndEvent")
        count += name in ("ScalarEvent", "AliasEvent")
        if depth > MAX_COLLECTIONS_DEEP + 2:  # a document in a stream
            raise InputError(f"nested deeper than {MAX_COLLECTIONS_DEEP}", at=position(event, file), rule="limit-depth")
        if count > MAX_VALUES:
            raise InputError(f"more than {MAX_VALUES:,} values", at=position(event, file), rule="limit-values")


#: a text that may hold an alias, a number of very many digits, or a character that no other program takes
_UNUSUAL = pattern(rf"[0-9a-fA-F]{{{MAX_DIGITS + 1}}}|[0-9][eE][+-]?[0-9]{{3}}|\\[uUx0]|\*|[\0\ud800-\udfff]")
_NO_TEXT = pattern("[\0\ud800-\udfff]")


def _check_values(root: Any, file: str) -> None:
    """Raise InputError for the first invalid value: an alias of itself, a number or a text that is out of bounds."""
    sizes: dict[int, tuple[int, int]] = {}  # how many values are in a node, and how deep they are
    open_: set[int] = set()
    stack = [root]
    while stack:
        node = stack[-1]
        if id(node) in sizes:
            stack.pop()
            continue
        inner = _inner(node)
        if id(node) not in open_:
            open_.add(id(node))
            for child in inner:
                if id(child) in open_ and id(child) not in sizes:
                    raise InputError("an alias that contains itself", at=position(child, file), rule="yaml-alias")
            stack += [child for child in inner if id(child) not in sizes]
            continue
        stack.pop()
        count, depth = 1, 0
        for child in inner:
            count, depth = count + sizes[id(child)][0], max(depth, sizes[id(child)][1] + 1)
        sizes[id(node)] = count, depth
        if count > MAX_VALUES or depth > MAX_COLLECTIONS_DEEP:
            what = "aliases make it too large" if count > MAX_VALUES else f"nested deeper than {MAX_COLLECTIONS_DEEP}"
            raise InputError(what, at=position(node, file), rule="yaml-alias")
        if kind(node) == "scalar":
            _check_scalar(node, file)


def _inner(node: Any) -> list[Any]:
    if kind(node) == "mapping":
        return [part for pair in node.value for part in pair]
    return list(node.value) if kind(node) == "sequence" else []


def _check_scalar(node: Any, file: str) -> None:
    text = node.value
    if bad := _NO_TEXT.search(text):
        what = f"the character U+{ord(bad[0]):04X}, which is no text to QEMU"
        raise InputError(what, at=position(node, file), rule="limit-text")
    if node.style:
        return
    if _INT.fullmatch(text) and len(text) > MAX_DIGITS:
        raise InputError(f"a number of {len(text)} digits", at=position(node, file), rule="limit-number")
    if _FLOAT.fullmatch(text) and not isfinite(float(text)):
        raise InputError(f"{quoted(text)} is too large a number", at=position(node, file), rule="limit-number")


def position(node: Any, file: str) -> Position:
    return Position(file, node.start_mark.line + 1, node.start_mark.column + 1)


def kind(node: Any) -> str:
    """``mapping``, ``sequence`` or ``scalar``."""
    return str(node.id)


def items(node: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, key node, value node) of a composed mapping."""
    for key, value in node.value:
        yield str(key.value), key, value


_INT = pattern(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = pattern(r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?")
_WORDS = {"true": True, "false": False, "null": None, "~": None, "": None}


def plain_data(node: Any) -> Any:
    """A composed node as plain data, by YAML 1.2's rules (so ``off`` is a string and ``1:30`` is no number)."""
    if kind(node) == "mapping":
        return {key: plain_data(value) for key, _, value in items(node)}
    if kind(node) == "sequence":
        return [plain_data(item) for item in node.value]
    text = node.value
    if node.style:  # quoted
        return text
    if text.lower() in _WORDS:
        return _WORDS[text.lower()]
    if _INT.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text)
    return text
