"""Sizes as QEMU's options, and people in a description, write them."""

from __future__ import annotations

from typing import Any

from mdtool.limits import MAX_DIGITS
from mdtool.text import pattern

MIB = 1 << 20
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
