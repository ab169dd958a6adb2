"""What libvirt's RELAX NG allows under each device element: every path of attributes and elements."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path

SCHEMAS = Path("/usr/share/libvirt/schemas")
_NS = "{http://relaxng.org/ns/structure/1.0}"
DEPTH = 6  # elements deep; a disk's backing chain repeats itself for ever


class Grammar:
    """The definitions of domain.rng and what it includes."""

    def __init__(self, folder: Path = SCHEMAS) -> None:
        self.defines: dict[str, list[ET.Element]] = {}
        self._load(folder, "domain.rng", set())

    def _load(self, folder: Path, name: str, seen: set[str]) -> None:
        if name in seen:
            return
        seen.add(name)
        for element in ET.parse(folder / name).getroot().iter():
            if element.tag == f"{_NS}include":
                self._load(folder, element.attrib["href"], seen)
            elif element.tag == f"{_NS}define":
                self.defines.setdefault(element.attrib["name"], []).append(element)

    def devices(self) -> dict[str, set[str]]:
        """Tag -> paths (``driver/@queues``, ``serial``), for every element that may stand under <devices>."""
        found: dict[str, set[str]] = {}
        for name in self.defines["devices"]:
            for holder in name.iter(f"{_NS}element"):
                if holder.get("name") == "devices":
                    for element in self._elements(holder, ()):
                        tag = element.get("name") or ""
                        found.setdefault(tag, set()).update(self._paths(element, "", (), 0))
        return found

    def _elements(self, node: ET.Element, inside: tuple[str, ...]) -> Iterator[ET.Element]:
        for child in node:
            if child.tag == f"{_NS}element":
                yield child
            elif child.tag == f"{_NS}ref":
                name = child.attrib["name"]
                if name not in inside:
                    for define in self.defines.get(name, ()):
                        yield from self._elements(define, (*inside, name))
            else:
                yield from self._elements(child, inside)

    def _paths(self, node: ET.Element, prefix: str, inside: tuple[str, ...], depth: int) -> Iterator[str]:
        for child in node:
            if child.tag == f"{_NS}ref":
                name = child.attrib["name"]
                if inside.count(name) < 2:
                    for define in self.defines.get(name, ()):
                        yield from self._paths(define, prefix, (*inside, name), depth)
            elif child.tag == f"{_NS}attribute":
                if child.get("name"):
                    yield f"{prefix}@{child.attrib['name']}"
            elif child.tag == f"{_NS}element":
                tag = child.get("name")
                if tag is None or depth >= DEPTH:
                    continue
                inner = set(self._paths(child, f"{prefix}{tag}/", inside, depth + 1))
                yield from inner
                if not inner or self._has_text(child, ()):
                    yield f"{prefix}{tag}"
            else:
                yield from self._paths(child, prefix, inside, depth)

    def _has_text(self, node: ET.Element, inside: tuple[str, ...]) -> bool:
        """Whether an element itself (and not its attributes or children) holds text."""
        for child in node:
            if child.tag in (f"{_NS}text", f"{_NS}data", f"{_NS}value", f"{_NS}list"):
                return True
            if child.tag == f"{_NS}ref" and child.attrib["name"] not in inside:
                name = child.attrib["name"]
                if any(self._has_text(define, (*inside, name)) for define in self.defines.get(name, ())):
                    return True
            elif child.tag not in (f"{_NS}attribute", f"{_NS}element", f"{_NS}ref") and self._has_text(child, inside):
                return True
        return False
