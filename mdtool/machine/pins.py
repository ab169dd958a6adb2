"""How pins are laid out: what devices of one driver have in common stands once, and rows are as long as a line is.

So a device that comes or goes is a short line of a diff, whatever shows it: the other devices of its driver hold the rest.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mdtool.machine.tree import Properties
from mdtool.text import printable_json


def shared(bags: Mapping[str, tuple[str, Properties]]) -> tuple[dict[str, Properties], dict[str, Properties]]:
    """Driver -> what most of its devices have; device -> what it has besides, None for what it lacks.

    ``bags`` is device -> (driver, its values), no value of which is None.

    >>> shared({"net0": ("e1000", {"a": 1, "b": 2}), "net1": ("e1000", {"a": 1, "b": 3}), "net2": ("e1000", {"b": 2})})
    ({'e1000': {'a': 1, 'b': 2}}, {'net0': {}, 'net1': {'b': 3}, 'net2': {'a': None}})
    """
    found: dict[str, list[Properties]] = {}
    for driver, values in bags.values():
        found.setdefault(driver, []).append(values)
    common = {driver: _most_common(found[driver]) for driver in sorted(found)}
    return common, {name: dict(_besides(values, common[driver])) for name, (driver, values) in bags.items()}


def expanded(common: Properties, own: Properties) -> dict[str, Any]:
    """The values of one device, of what ``shared`` made of them."""
    return {name: value for name, value in {**common, **own}.items() if value is not None}


def _most_common(bags: list[Properties]) -> Properties:
    if len({repr(bag) for bag in bags}) == 1:
        return bags[0]
    common: dict[str, Any] = {}
    for name in sorted({name for bag in bags for name in bag}):
        spelled = [_spelled(bag.get(name)) for bag in bags]
        best = spelled[0] if len(set(spelled)) == 1 else Counter(spelled).most_common(1)[0][0]
        if best != _spelled(None):
            common[name] = bags[spelled.index(best)][name]
    return common


def _spelled(value: Any) -> str:
    """The same for values that are written alike, and only for these: 1 is not True."""
    return json.dumps(value, sort_keys=True) if isinstance(value, (list, dict)) else repr(value)


def _besides(values: Properties, common: Properties) -> Iterator[tuple[str, Any]]:
    if values is common:
        return
    for name, value in values.items():
        if name not in common or (value is not common[name] and _spelled(value) != _spelled(common[name])):
            yield name, value
    yield from ((name, None) for name in common if name not in values)


def row(key: str, value: Any, indent: int, width: int) -> str:
    """``"net0": {...}`` as JSON, in as many lines as it takes; those after the first begin with ``indent`` blanks more."""
    text = json.dumps({key: value}, ensure_ascii=False, sort_keys=True, separators=(",\0", ": "))[1:-1]
    if len(text) + indent > width:
        text = f"\n{' ' * (indent + 2)}".join(filled(text.split("\0"), width - indent - 2))
    return printable_json(text.replace("\0", " "))


def filled(words: Iterable[str], width: int) -> Iterator[str]:
    """Words in lines of at most ``width`` characters; one that is longer has a line of its own.

    >>> list(filled(["a", "bb", "cccc", "d"], 4))
    ['a bb', 'cccc', 'd']
    """
    line = ""
    for word in words:
        if line and len(line) + 1 + len(word) > width:
            yield line
            line = word
        else:
            line = f"{line} {word}" if line else word
    yield line
