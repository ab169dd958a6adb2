"""Sizes as QEMU's options, and people in a description, write them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdtool.limits import MAX_DIGITS
from mdtool.text import pattern

MIB = 1 << 20
#: section of a description -> the keys in it, however deep, that are sizes: bytes, or ``512M`` and ``16G``
SIZES = {"memory": ("size", "max"), "numa": ("memory",), "objects": ("size",)}
_SIZE = pattern(r"(0x[0-9a-f]+|[0-9]+(?:\.[0-9]+)?)(?:([bkmgtpe])(?:i?b)?)?")


def bytes_of(value: Any, unit: int = 1) -> int | None:
    """A size in bytes; a number alone is in ``unit`` (-m and -numa count in MiB).  None for what is no size.

    >>> bytes_of("64", MIB), bytes_of("2G"), bytes_of("1.5k"), bytes_of("0x10"), bytes_of("many")
    (67108864, 2147483648, 1536, 16, None)
    """
    found = _SIZE.fullmatch(str(value).lower())
    if found is None or len(found[1]) > MAX_DIGITS or (found[1].startswith("0x") and found[2]):
        return None
    scale = 1 << (10 * "bkmgtpe".index(found[2])) if found[2] else unit
    return int(float(found[1]) * scale) if "." in found[1] else int(found[1], 16 if "x" in found[1] else 10) * scale


def in_units(section: str, data: Any) -> Any:
    """A section with its sizes as people write them.

    >>> in_units("memory", {"size": 536870912, "slots": 4}), in_units("objects", {"ram0": {"size": 1000}})
    ({'size': '512M', 'slots': 4}, {'ram0': {'size': 1000}})
    """
    keys = SIZES.get(section)
    if keys is None:
        return data
    if isinstance(data, Mapping):
        return {key: _in_units(item) if key in keys else in_units(section, item) for key, item in data.items()}
    return [in_units(section, item) for item in data] if isinstance(data, (list, tuple)) else data


def _in_units(value: Any) -> Any:
    """``512M`` of 536870912, with the largest unit that leaves a whole number; the number itself below that."""
    if type(value) is not int or value < 1024 or value % 1024:
        return value
    power = next(n for n in (4, 3, 2, 1) if value % (1 << 10 * n) == 0)
    return f"{value >> 10 * power}{'KMGT'[power - 1]}"
