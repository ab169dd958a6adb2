"""A file for ``-readconfig`` as options, by way of grammar/config.lark."""

from __future__ import annotations

import re

from lark import Token, Transformer, UnexpectedInput

from mdtool.cache import parser_from_grammar
from mdtool.commandline.option import Option, text_from_bag
from mdtool.commandline.table import GROUPS, IMPLIED
from mdtool.errors import InputError, Position

#: a group of the file -> the option that says the same
_OPTIONS = {**{group: option for option, group in GROUPS.items()}, "acpi": "acpitable"}
#: groups that QEMU takes and does nothing with (measured on 7.2 and 11.1)
_IGNORED = frozenset({"smbios", "msg", "overcommit"})


class _Groups(Transformer[Token, list[Option]]):
    def __init__(self, file: str, first: int) -> None:
        super().__init__()
        self.file, self.first = file, first

    def start(self, groups: list[Option | None]) -> list[Option]:
        return [option for option in groups if option is not None]

    def group(self, lines: list[Token]) -> Option | None:
        head, *pairs = lines
        name, id = re.findall(r'^\[([^\s"\]]+)(?: "([^"]+)")?\]', head)[0]
        bag = dict(re.findall(r'^\s*(\S+)\s+=\s*"([^"]*)"', pair)[0] for pair in pairs)
        if name in _IGNORED or not (bag or id):
            return None
        option = _OPTIONS.get(name, name)
        text = text_from_bag({**bag, **({"id": id} if id else {})}, IMPLIED.get(option))
        return Option(option, text, Position(self.file, (head.line or 1) + self.first - 1, head.column or 1))


def options_from_config(text: str, file: str, first: int = 1) -> list[Option]:
    """The options that a file stands for, in its order; raises InputError with the line that QEMU would refuse too.

    ``first`` is the line of ``file`` on which the text begins: it may be a here-document of a script.
    """
    try:
        tree = parser_from_grammar("config.lark").parse(text if text.endswith("\n") else f"{text}\n")
    except UnexpectedInput as error:
        lines = text.split("\n")
        line = error.line if 0 < error.line <= len(lines) else len(lines)
        what = f"not a line of a file for -readconfig: {lines[line - 1].strip()[:80]!r}"
        expected = '[group "id"] or key = "value"'
        raise InputError(what, at=Position(file, line + first - 1), expected=expected, rule="config-syntax") from None
    return _Groups(file, first).transform(tree)
