"""A file for ``-readconfig`` as options, by way of grammar/config.lark."""

from __future__ import annotations

import os
import re
from typing import Any

from mdtool.cache import known, parser_from_grammar, remember
from mdtool.commandline.option import Option, text_from_bag
from mdtool.commandline.table import GROUPS, IMPLIED
from mdtool.errors import InputError, Position
from mdtool.resources import path_of_resource

#: a group of the file -> the option that says the same
_OPTIONS = {**{group: option for option, group in GROUPS.items()}, "acpi": "acpitable"}
#: groups that QEMU takes and does nothing with (measured on 7.2 and 11.1)
_IGNORED = frozenset({"smbios", "msg", "overcommit"})


def options_from_config(text: str, file: str, first: int = 1) -> list[Option]:
    """The options that a file stands for, in its order; raises InputError with the line that QEMU would refuse too.

    ``first`` is the line of ``file`` on which the text begins: it may be a here-document of a script.
    """
    found = known("config", text, *_code())
    return [
        Option(name, value, Position(file, line + first - 1, column))
        for name, value, line, column in (_parsed(text, file, first) if found is None else found)
    ]


def remember_config(text: str) -> None:
    """Keep what a file of mdtool's own stands for, in which no secret is: its guest's next start needs no parser."""
    if known("config", text, *_code()) is None:
        remember("config", text, _parsed(text, "a file for -readconfig", 1), *_code())


def _code() -> tuple[str, str]:
    return os.path.dirname(__file__), os.path.dirname(path_of_resource("grammar", "config.lark"))


def _parsed(text: str, file: str, first: int) -> list[tuple[str, str, int, int]]:
    """Each group as its option, the option's value, and the line and column in the text."""
    from lark import UnexpectedInput  # with it comes the parser library, which the cache saves

    try:
        tree = parser_from_grammar("config.lark").parse(text if text.endswith("\n") else f"{text}\n")
    except UnexpectedInput as error:
        lines = text.split("\n")
        line = error.line if 0 < error.line <= len(lines) else len(lines)
        what = f"not a line of a file for -readconfig: {lines[line - 1].strip()[:80]!r}"
        expected = '[group "id"] or key = "value"'
        raise InputError(what, at=Position(file, line + first - 1), expected=expected, rule="config-syntax") from None
    return [option for group in tree.find_data("group") if (option := _option(*group.children)) is not None]


def _option(head: Any, *pairs: Any) -> tuple[str, str, int, int] | None:
    name, id = re.findall(r'^\[([^\s"\]]+)(?: "([^"]+)")?\]', head)[0]
    bag = dict(re.findall(r'^\s*(\S+)\s+=\s*"([^"]*)"', pair)[0] for pair in pairs)
    if name in _IGNORED or not (bag or id):
        return None
    option = _OPTIONS.get(name, name)
    text = text_from_bag({**bag, **({"id": id} if id else {})}, IMPLIED.get(option))
    return option, text, head.line or 1, head.column or 1
