"""Property values: one way to write each, and when two are the same.

QEMU, libvirt and people spell the same value differently (``on`` and ``true``, ``0x10`` and ``16``, ``'1.0'`` and
``01.0``).  The description keeps what it was given; comparisons go through ``same``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from mdtool.machine.tree import Value

_NUMBER = re.compile(r"[-+]?(0x[0-9a-fA-F]+|[0-9]+)")
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
    if text.lower() in _TRUE:
        return "on"
    if text.lower() in _FALSE:
        return "off"
    if _NUMBER.fullmatch(text):
        return str(int(text, 0) if "x" in text.lower() else int(text))
    return text


def same(one: Value, other: Value) -> bool:
    """Whether QEMU would take both for the same value."""
    return bool(plain(one) == plain(other))


def is_on(value: Value) -> bool:
    return bool(plain(value) == "on")


def number(value: Value, absent: int = 0) -> int:
    """A value as a number, however it is spelled; ``absent`` where it is none."""
    try:
        return int(str(plain(value)), 0)
    except ValueError:
        return absent


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
    return tuple((0, int(part), "") if part.isdigit() else (1, 0, part) for part in re.split(r"(\d+)", text) if part)


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
