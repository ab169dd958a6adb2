"""<features>: what options say of the machine and its CPU, by the tables with which guest XML is read."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdtool.guest.platform.cpu import HYPERV, SWITCHES, enlightenment
from mdtool.guest.platform.machine import FEATURES, Feature
from mdtool.importer.domain import cpu_words
from mdtool.importer.markup import SWITCH, on, tag
from mdtool.importer.option_list import OptionList
from mdtool.machine.tree import Tree
from mdtool.machine.values import nested, number


def features(scripted: OptionList, tree: Tree, arch: str, is_efi: bool) -> str:
    """The element <features>; "" where there is nothing in it."""
    x86 = arch in ("x86_64", "i386")
    properties = tree.machine.get("properties", {})
    _, wishes = cpu_words(scripted)
    found: dict[str, Any] = {}
    if properties.get("acpi", "on") != "off" and (x86 or (arch in ("aarch64", "arm") and is_efi)):
        found["features/acpi"] = {}
    if x86:
        found["features/apic"] = {}
    found |= _hyperv(wishes)
    for path, (name, values) in SWITCHES.items():
        state = next((state for state, value in values.items() if wishes.get(name) is value), None)
        if state is not None:
            found[path] = on(state)
    found |= {row.path: text for row in FEATURES if (text := _text(row, properties)) is not None}
    if str(version := properties.get("gic-version")) in ("2", "3", "host"):
        found["features/gic/@version"] = version
    if not x86:
        found = {path: value for path, value in found.items() if not path.startswith(("features/apic", "features/ioapic"))}
    return _element("features", nested(found, "/").get("features", {})) if found else ""


def _text(row: Feature, properties: Mapping[str, Any]) -> str | None:
    """What guest XML says of a machine property; None if it cannot express it (``auto``)."""
    value = properties.get(row.name, properties.get(row.name.replace("_", "-")))
    if row.values is None:
        return on(SWITCH.get(value)) if isinstance(value, bool | str) else None
    words = {made: text for text, made in row.values.items()}
    return words.get("on" if value is True else value)


def _hyperv(wishes: Mapping[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, inner in HYPERV.items():
        if (switch := enlightenment(name)) in wishes:
            found[f"features/hyperv/{name}/@state"] = on(bool(wishes[switch]))
            found |= {f"features/hyperv/{name}/{one}/@state": "on" for one in inner if wishes.get(enlightenment(name, one))}
    if "hv-spinlocks" in wishes:
        found["features/hyperv/spinlocks/@state"] = "on"
        found["features/hyperv/spinlocks/@retries"] = number(wishes["hv-spinlocks"])
    if "hv-vendor-id" in wishes:
        found["features/hyperv/vendor_id/@state"] = "on"
        found["features/hyperv/vendor_id/@value"] = wishes["hv-vendor-id"]
    mode = "passthrough" if wishes.get("hv-passthrough") is True else "custom"
    return {"features/hyperv/@mode": mode, **found} if found or mode == "passthrough" else {}


def _element(name: str, inside: Mapping[str, Any]) -> str:
    attributes = {key[1:]: value for key, value in inside.items() if key.startswith("@")}
    return tag(name, *(_element(key, inner) for key, inner in inside.items() if isinstance(inner, Mapping)), **attributes)
