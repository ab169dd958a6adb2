"""A description as lines for ``git diff``: a device a line, under the bus that it sits on, and a line for its pins.

The pins of a device are one line: where the device comes or goes they are no changes of their own.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

from mdtool.machine.pci import pci_facts
from mdtool.machine.tree import SECTIONS, Tree
from mdtool.machine.values import natural
from mdtool.machine.writer import canonical
from mdtool.text import one_line


def lines(tree: Tree) -> Iterator[str]:
    """Each line says all of where it is, so that a diff needs no context.

    ``pcie.0 02.0: pci.1 pcie-root-port chassis=1``, ``net0 ~ pci:rom=262144 rombar=1`` for its pins and for what the PCI
    device is.
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
    for name in sorted(tree.by_name, key=natural):
        node = tree.by_name[name].node
        pins = {**node.pins, **{f"pci:{key}": value for key, value in pci_facts(node).items()}}
        if pins:
            yield " ".join([name, "~", *(f"{key}={_value(value)}" for key, value in sorted(pins.items()))])


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
