"""What a PCI device is to a guest, beyond its properties: class, ids, BARs; and for which properties that was read."""

from __future__ import annotations

import json
import zlib

from mdtool.machine.tree import Node, Properties
from mdtool.machine.values import plain


def properties_digest(node: Node) -> str:
    """Eight hex digits for a node's driver and its guest-visible properties, chosen or filled in, however spelled."""
    facts = json.dumps([node.driver, plain({**node.pins, **node.properties})], sort_keys=True)
    return f"{zlib.crc32(facts.encode()):08x}"


def pci_facts(node: Node) -> Properties:
    """What the PCI device is that these properties make: ``{"class": "VGA controller", "id": "1234:1111", ...}``.

    ``{}`` if unknown: the node is no PCI device, no QEMU made it yet, or a property is another one than when it
    was read (``rombar: 0`` makes a device without a ROM).
    """
    if not node.pci or node.pci.get("of") != properties_digest(node):
        return {}
    return {name: value for name, value in node.pci.items() if name != "of"}
