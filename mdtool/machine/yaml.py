"""YAML with the position of every value: composed by libyaml, and turned into plain data by YAML 1.2's rules."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from mdtool.errors import InputError, Position


def composed(text: str, file: str) -> Any:
    """The root node, from libyaml; where that refuses, from ruamel's own parser, which has the last word.

    ruamel brings libyaml 0.1, which does not read an unquoted MAC inside braces; YAML 1.2 does.
    """
    from ruamel.yaml import YAML  # 40 ms: only where a description is read
    from ruamel.yaml.cyaml import CSafeLoader
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        try:
            root = CSafeLoader(text).get_single_node()
        except YAMLError:
            root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Position(file, mark.line + 1, mark.column + 1) if mark else Position(file, 1)
        raise InputError(f"not YAML: {error.problem or error.context}", at=where, rule="yaml-syntax") from None
    except YAMLError as error:
        raise InputError(f"not YAML: {str(error).splitlines()[0]}", at=Position(file, 1), rule="yaml-syntax") from None
    if root is None:
        raise InputError("the description is empty", at=Position(file, 1), expected="a machine description")
    return root


def position(node: Any, file: str) -> Position:
    return Position(file, node.start_mark.line + 1, node.start_mark.column + 1)


def kind(node: Any) -> str:
    """``mapping``, ``sequence`` or ``scalar``."""
    return str(node.id)


def items(node: Any) -> Iterator[tuple[str, Any, Any]]:
    """(key, key node, value node) of a composed mapping."""
    for key, value in node.value:
        yield str(key.value), key, value


_INT = re.compile(r"[-+]?(0|[1-9][0-9]*)|0x[0-9a-fA-F]+")
_FLOAT = re.compile(r"[-+]?[0-9]+\.[0-9]+([eE][-+]?[0-9]+)?")
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
