"""How the text of an attribute becomes a value: one function a kind, for the rows of the table.

Each raises ValueError with what it would have taken.
"""

from __future__ import annotations

from collections.abc import Callable

from mdtool.errors import choices
from mdtool.machine.tree import Value
from mdtool.text import pattern

Convert = Callable[[str], Value]


def text(value: str) -> Value:
    return value


_NUMBER = pattern(r"-?[0-9]{1,20}|0[xX][0-9a-fA-F]{1,16}")

_WWN = pattern(r"[0-9a-fA-F]{16}")


def number(value: str) -> Value:
    """Decimal or ``0x`` hexadecimal."""
    if not _NUMBER.fullmatch(value):
        raise ValueError("a number")
    return int(value, 16 if value[:2].lower() == "0x" else 10)


def positive(value: str) -> Value:
    """A number from 1 on."""
    found = number(value)
    return found if isinstance(found, int) and found > 0 else _refuse("a number from 1 on")


def wwn(value: str) -> Value:
    """A World Wide Name, hexadecimal whether or not it begins so; libvirt and the SCSI standard have 64 bits."""
    digits = value.removeprefix("0x")
    if not _WWN.fullmatch(digits):
        raise ValueError("16 hexadecimal digits")
    return int(digits, 16)


def kib(value: str) -> Value:
    """A number of KiB, in bytes."""
    found = positive(value)
    return found * 1024 if isinstance(found, int) else found


def up_to(highest: int) -> Convert:
    """A number from 0 to ``highest``."""

    def convert(value: str) -> Value:
        found = number(value)
        return found if isinstance(found, int) and 0 <= found <= highest else _refuse(f"a number from 0 to {highest}")

    return convert


def printable(most: int) -> Convert:
    """A text of at most ``most`` printable ASCII characters: QEMU would cut the rest off."""

    def convert(value: str) -> Value:
        if len(value) > most or not (value.isascii() and value.isprintable()):
            raise ValueError(f"at most {most} printable characters")
        return value

    return convert


def switch(value: str) -> Value:
    """``on``/``yes`` and ``off``/``no`` as a bool."""
    return word(on=True, yes=True, off=False, no=False)(value)


def auto(value: str) -> Value:
    """The same as QEMU's OnOffAuto: the words ``on`` and ``off``."""
    return word(on="on", yes="on", off="off", no="off", auto="auto")(value)


def word(**values: Value) -> Convert:
    """One of some words, each with its value; ``_`` in a name stands for ``-``.

    >>> word(ignore="ignore", unmap="unmap")("unmap")
    'unmap'
    """
    table = {name.strip("_").replace("_", "-"): value for name, value in values.items()}

    def convert(value: str) -> Value:
        if value not in table:
            raise ValueError(choices(table))
        return table[value]

    return convert


def one_of(*names: str) -> Convert:
    """One of some words, which QEMU spells the same."""
    return lambda value: value if value in names else _refuse(choices(names))


def _refuse(expected: str) -> Value:
    raise ValueError(expected)


def const(value: Value) -> Convert:
    return lambda _: value
