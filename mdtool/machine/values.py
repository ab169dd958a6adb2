"""Property values: one way to write each, and when two are the same.

QEMU, libvirt and people spell the same value differently (``on`` and ``true``, ``0x10`` and ``16``, ``'1.0'`` and
``01.0``).  The description keeps what it was given; comparisons go through ``same``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mdtool.limits import MAX_DIGITS, MAX_INDEX
from mdtool.machine.tree import Value
from mdtool.text import pattern

_NUMBER = pattern(r"[-+]?(0x[0-9a-fA-F]+|[0-9]+)")
DIGITS = frozenset("0123456789")
_TRUE, _FALSE = frozenset({"on", "true", "yes"}), frozenset({"off", "false", "no"})


def plain(value: Value) -> Value:
    """A value in the one form that comparisons use.

    >>> plain("on"), plain(True), plain("0x10"), plain("Gold"), plain(None)
    ('on', 'on', '16', 'Gold', None)
    """
    if value is None:
        return None
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    text = str(value)
    word = text.lower()
    if word in _TRUE:
        return "on"
    if word in _FALSE:
        return "off"
    if len(text) <= MAX_DIGITS and _NUMBER.fullmatch(text):
        return str(int(text, 0) if "x" in word else int(text))
    return word if len(text) == 36 and _UUID_PRINTED.fullmatch(text) else text


def same(one: Value, other: Value) -> bool:
    """Whether QEMU would take both for the same value."""
    return (type(one) is type(other) and one == other) or bool(plain(one) == plain(other))


def is_on(value: Value) -> bool:
    return bool(plain(value) == "on")


def number(value: Value, absent: int = 0) -> int:
    """A value as a number, however it is spelled; ``absent`` if it is not a number."""
    text = str(plain(value))
    found = decimal(text.removeprefix("-"))
    return absent if found is None else -found if text.startswith("-") else found


def integer(text: str, base: int = 0) -> int:
    """``int(text, base)``; more digits than any number of QEMU's has are a ValueError too."""
    if len(text) > MAX_DIGITS:
        raise ValueError(f"more than {MAX_DIGITS} digits")
    return int(text, base)


def decimal(text: str) -> int | None:
    """A number of decimal digits alone; None for any other text, and for one with more digits than any number of QEMU's.

    >>> decimal("042"), decimal("-1"), decimal("\u00b2"), decimal("9" * 5000)
    (42, None, None, None)
    """
    return int(text) if 0 < len(text) <= MAX_DIGITS and DIGITS.issuperset(text) else None


_UUID = pattern(r"\s*((?:[- ]*[0-9a-fA-F]{2}){16})\s*")
#: a uuid as QEMU and libvirt print it, but for capitals
_UUID_PRINTED = pattern(r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")


def uuid_from_text(text: str) -> str:
    """A uuid in its one canonical form, from any that libvirt takes: capitals, dashes and blanks between bytes or none.

    >>> uuid_from_text("6A1F0C5293D44B7E8C215E0D7B9A4F10")
    '6a1f0c52-93d4-4b7e-8c21-5e0d7b9a4f10'

    Raises ValueError, with what it would have taken, if the text is not one.
    """
    found = _UUID.fullmatch(text)
    if found is None:
        raise ValueError("a UUID: 32 hexadecimal digits, 8-4-4-4-12")
    digits = re.sub("[- ]", "", found[1]).lower()
    return "-".join((digits[:8], digits[8:12], digits[12:16], digits[16:20], digits[20:]))


def small_number(text: str) -> int:
    """An index of a controller, port or bus that a name or an origin says; 0 where it says none that there can be.

    >>> small_number("7"), small_number("two"), small_number("10000000")
    (7, 0, 0)
    """
    found = int(text) if 0 < len(text) <= 4 and DIGITS.issuperset(text) else 0
    return found if found <= MAX_INDEX else 0


def nested(values: Mapping[str, Value], separator: str) -> dict[str, Value]:
    """Keys with a separator as mappings of mappings.

    >>> nested({"driver": "qcow2", "file.driver": "file", "file.filename": "x"}, ".")
    {'driver': 'qcow2', 'file': {'driver': 'file', 'filename': 'x'}}
    """
    found: dict[str, Value] = {}
    for key, value in values.items():
        *path, last = key.split(separator)
        holder = found
        for part in path:
            holder = holder.setdefault(part, {})
        holder[last] = value
    return found


def natural(text: str) -> tuple[Any, ...]:
    """A key that sorts ``pci.2`` before ``pci.10`` and ``05.0`` before ``1f.2``.

    >>> sorted(["pci.10", "pci.2", "pci.1"], key=natural)
    ['pci.1', 'pci.2', 'pci.10']
    """
    return tuple(
        (0, int(part), "") if part[0] in DIGITS and len(part) <= MAX_DIGITS else (1, 0, part)
        for part in re.split(r"([0-9]+)", text)
        if part
    )


def ranges(numbers: Iterable[int]) -> str:
    """Numbers in their order as ranges: how QEMU and libvirt write a set of CPUs.

    >>> ranges([0, 1, 2, 5])
    '0-2,5'
    """
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ",".join(str(run[0]) if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in runs)


def numbers_of(ranges: str) -> list[int]:
    """``0-2,5,^1`` as numbers.

    >>> numbers_of("0-2,5,^1")
    [0, 2, 5]
    """
    found: set[int] = set()
    for part in ranges.split(","):
        first, _, last = part.strip().removeprefix("^").partition("-")
        low, high = decimal(first), decimal(last or first)
        if low is not None and high is not None:
            row = set(range(low, min(high, low + 65535) + 1))
            found = found - row if part.strip().startswith("^") else found | row
    return sorted(found)
