"""A description as lines for ``git diff``: a device a line, under the bus that it sits on, then the pins by driver.

What most devices of a driver have stands once: where one of them comes or goes, its pins are no changes of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mdtool.machine.pci import pci_facts
from mdtool.machine.pins import filled, shared
from mdtool.machine.tree import SECTIONS, Tree
from mdtool.machine.values import natural
from mdtool.machine.writer import WIDTH, canonical
from mdtool.text import one_line


def lines(tree: Tree) -> Iterator[str]:
    """Each line says all of where it is, so that a diff needs no context.

    ``pcie.0 02.0: pci.1 pcie-root-port chassis=1``; ``e1000 ~ pci:rom=262144 rombar=1`` for the pins of a driver and what
    PCI devices of it are; ``net0 ~ rombar=0`` where a device differs from that, ``net0 ~ rombar`` where it has no such pin.
    """
    yield from map(one_line, _lines(canonical(tree)))


def _lines(tree: Tree) -> Iterator[str]:
    for name in SECTIONS:
        yield from _section(name, getattr(tree, name))
    for bus in tree.all_buses.values():
        for node in bus.devices:
            yield f"{bus.name} {node.address or '-'}: {_device(node)}"
    for node in tree.devices:
        yield f"{node.address or '-'}: {_device(node)}"
    yield from (f"retired {r.bus} {r.address}: {r.origin}" for r in tree.retired)
    nodes = {name: tree.by_name[name].node for name in sorted(tree.by_name, key=natural)}
    pins = {
        name: (node.driver, {**node.pins, **{f"pci:{key}": value for key, value in pci_facts(node).items()}})
        for name, node in nodes.items()
    }
    for found in shared({name: each for name, each in pins.items() if each[1]}):
        for name, bag in found.items():
            words = [key if value is None else f"{key}={_value(value)}" for key, value in sorted(bag.items())]
            yield from (f"{name} ~ {line}" for line in filled(words, WIDTH - len(name)) if line)


def _device(node: Any) -> str:
    words = [node.id, node.driver, *(f"{key}={_value(value)}" for key, value in sorted(node.properties.items()))]
    return " ".join(str(word) for word in [*words, node.origin and f"({node.origin})"] if word)


def _section(path: str, data: Mapping[str, Any]) -> Iterator[str]:
    for key, value in data.items():
        if isinstance(value, Mapping):
            yield from _section(f"{path}.{key}", value)
        else:
            yield f"{path}.{key}={_value(value)}"


def _value(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict, bool)) or value is None else str(value)
