"""The JSON Schema of a description with what one QEMU knows: its drivers, their properties, types and defaults.

Editors (through yaml-language-server) complete and explain from it.  Addresses and the host side are left out of the
properties, since a description has them elsewhere or not at all.
"""

from __future__ import annotations

import copy
import json
from typing import Any

from mdtool.machine import facts
from mdtool.machine.facts import Property
from mdtool.machine.roles import role
from mdtool.machine.schema import machine_schema
from mdtool.qemu.introspect import Driver, Knowledge

#: properties that are a node's address, or its place
_PLACES = frozenset({"addr", "bus", "scsi-id", "channel", "lun", "unit", "nr", "cad", "devno"})


def schema(knowledge: Knowledge | None = None) -> dict[str, Any]:
    """The schema of machine descriptions; with ``knowledge`` drivers and properties are that QEMU's.

    Only created devices are held to it: what a machine makes by itself is not for editing.
    """
    whole = copy.deepcopy(machine_schema())
    if knowledge is None:
        return whole
    drivers = [driver for driver in knowledge.drivers.values() if driver.creatable]
    whole["title"] += f" for QEMU {knowledge.version}"
    node = whole["$defs"]["node"]
    node["properties"]["driver"] = {
        **node["properties"]["driver"],
        "anyOf": [*(_named(driver) for driver in drivers), {"type": "string"}],
    }
    node["allOf"] = [
        {
            "if": {"properties": {"driver": {"const": driver.name}}, "required": ["driver"]},
            "then": {"properties": {"properties": {"$ref": f"#/$defs/driver-{driver.name}"}}},
        }
        for driver in drivers
        if driver.properties is not None
    ]
    for driver in drivers:
        if driver.properties is not None:
            whole["$defs"][f"driver-{driver.name}"] = _driver(driver)
    if knowledge.machines:
        whole["properties"]["machine"]["properties"]["type"]["examples"] = sorted(knowledge.machines)
    return whole


def _named(driver: Driver) -> dict[str, Any]:
    return {"const": driver.name, **({"description": driver.description} if driver.description else {})}


def _driver(driver: Driver) -> dict[str, Any]:
    assert driver.properties is not None
    title = driver.description or driver.name
    return {
        "type": "object",
        "description": f"Properties of {driver.name} ({title}) that a guest sees.",
        "properties": {
            name: _property(name, known)
            for name, known in sorted(driver.properties.items())
            if name not in _PLACES and role(driver.name, name) == "guest" and not known.type.startswith("link<")
        },
        "additionalProperties": False,
    }


def _property(name: str, known: Property) -> dict[str, Any]:
    """Type, limits and default as JSON Schema; a boolean may be spelled on and off, as QEMU does."""
    said = [known.description] if known.description and known.description != "on/off" else []
    said.append(f"QEMU's type: {known.type}.")
    found: dict[str, Any] = {"description": " ".join(said)}
    words = facts.words_of(known)
    if known.type == "bool":
        found["enum"] = [True, False, "on", "off", "yes", "no", "true", "false"]
    elif words:
        found["enum"] = [*words, *([True, False] if {"on", "off"} <= {*words} else [])]
        if all(word.isdigit() for word in words):
            found["enum"] += [int(word) for word in words]
    elif known.type in facts.RANGES:
        low, high = facts.RANGES[known.type]
        found |= {"type": ["integer", "string"], "minimum": low, "maximum": high, "pattern": "^(-?[0-9]+|0x[0-9a-fA-F]+)$"}
    elif known.type in ("str", "string"):
        found["type"] = ["string", "integer", "number", "boolean"]  # any scalar is text where text is wanted
    if name == "mac":
        found["pattern"] = f"^{facts.MAC.pattern}$"
    if known.default is not None:
        found["default"] = known.default
    return found


def text(knowledge: Knowledge | None = None) -> str:
    """The schema as a file."""
    return json.dumps(schema(knowledge), indent=2 if knowledge is None else 1, ensure_ascii=False) + "\n"
