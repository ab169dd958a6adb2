"""A guest from device elements, its tree as allocated, and its command line."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from mdtool.errors import Report
from mdtool.guest.alias import with_ids
from mdtool.guest.allocate import allocate
from mdtool.guest.defaults import with_defaults
from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.place import placed
from mdtool.launch.argv import Commandline, argv_from_tree
from mdtool.launch.context import LaunchContext
from mdtool.machine.tree import Bus, Node, Tree

UUID = "12345678-1234-1234-1234-123456789abc"


def guest_of(
    devices: str = "",
    outside: str = "",
    *,
    machine: str = "pc-q35-7.2",
    os: str = "",
    type: str = "qemu",
    arch: str = "x86_64",
) -> Guest:
    return guest_from_bytes(
        (
            f"<domain type='{type}' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'><name>g</name>"
            f"<uuid>{UUID}</uuid><memory unit='MiB'>256</memory>"
            f"<os><type arch='{arch}' machine='{machine}'>hvm</type>{os}</os><features><acpi/></features>"
            f"{outside}<devices>{devices}</devices></domain>"
        ).encode(),
        "guest.xml",
    )


def wanted_of(guest: Guest) -> list[Wanted]:
    report = Report()
    wanted = with_ids(allocate(guest, with_defaults(guest, wanted_from_guest(guest, report))))
    report.done()
    return wanted


def tree_of(guest: Guest, wanted: list[Wanted]) -> Tree:
    """The tree of a description that was just made from the XML."""
    on: dict[str | None, list[Node]] = {}
    provided = set()
    for bus, node in placed(guest, wanted):
        on.setdefault(bus, []).append(node)
        provided.update(inner.name for inner in node.buses)

    def nodes(found: Iterable[Node]) -> tuple[Node, ...]:
        return tuple(
            _with(node, tuple(Bus(b.name, b.type, nodes(on.get(b.name, ()))) for b in node.buses)) for node in found
        )

    buses = tuple(Bus(name, "?", nodes(found)) for name, found in on.items() if name and name not in provided)
    return Tree(buses=buses, devices=nodes([*on.get(None, ()), *on.get("", ())]))


def _with(node: Node, buses: tuple[Bus, ...]) -> Node:
    return Node(node.driver, node.id, node.address, node.origin, node.properties, buses=buses)


def line_of(guest: Guest, **options: Any) -> Commandline:
    wanted = wanted_of(guest)
    return argv_from_tree(guest, tree_of(guest, wanted), wanted, LaunchContext(**{"runtime": Path("/run/g"), **options}))


def pairs(words: Iterable[str]) -> list[tuple[str, Any]]:
    """Options with their values, JSON as data."""
    listed = list(words)
    return [
        (flag, json.loads(value) if value.startswith("{") else value)
        for flag, value in zip(listed[::2], listed[1::2], strict=True)
    ]
