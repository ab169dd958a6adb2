"""What libvirt's RELAX NG allows in guest XML: every path of attributes and elements, and what may stand there.

    python tests/guest/support_relaxng.py FOLDER... > schemas/guest-xml.json

writes the names and values that ``mdtool.guest.spelling`` knows, of the libvirts whose schemas are in the folders.
"""

from __future__ import annotations

import json
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from mdtool.guest.spelling import ANY, NESTED, NUMBER, TEXT

SCHEMAS = Path("/usr/share/libvirt/schemas")
_NS = "{http://relaxng.org/ns/structure/1.0}"
_NUMBERS = {"short", "int", "long", "integer", "unsignedShort", "unsignedInt", "unsignedLong", "positiveInteger"}
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

    def domain(self) -> Iterator[ET.Element]:
        for define in self.defines["domain"]:
            yield next(define.iter(f"{_NS}element"))

    def allowed(self, node: ET.Element, inside: tuple[str, ...]) -> set[str] | None:
        """The values of an attribute, or of an element's text; None where any will do, empty where there is no text."""
        found: set[str] = set()
        for child in node:
            inner: Iterable[set[str] | None] = ()
            if child.tag == f"{_NS}value":
                found.add(child.text or "")
            elif child.tag == f"{_NS}data" and child.attrib["type"] in _NUMBERS:
                found.add(NUMBER)
            elif child.tag in (f"{_NS}text", f"{_NS}data", f"{_NS}list", f"{_NS}anyName"):
                return None
            elif child.tag == f"{_NS}ref" and (name := child.attrib["name"]) not in inside:
                inner = (self.allowed(define, (*inside, name)) for define in self.defines.get(name, ()))
            elif child.tag not in (f"{_NS}attribute", f"{_NS}element", f"{_NS}ref"):
                inner = (self.allowed(child, inside),)
            for values in inner:
                if values is None:
                    return None
                found |= values
        return found

    def spell(self, node: ET.Element, known: dict[str, Any], inside: tuple[str, ...] = ()) -> None:
        """Add what may stand in ``node`` to ``known``, see ``mdtool.guest.spelling``."""
        for child in node:
            if child.tag == f"{_NS}ref":
                name = child.attrib["name"]
                for define in () if name in inside else self.defines.get(name, ()):
                    self.spell(define, known, (*inside, name))
            elif child.tag in (f"{_NS}attribute", f"{_NS}element"):
                self._spell_one(child, known, inside)
            else:
                self.spell(child, known, inside)

    def _spell_one(self, child: ET.Element, known: dict[str, Any], inside: tuple[str, ...]) -> None:
        name, values = child.get("name"), self.allowed(child, ())
        if child.tag == f"{_NS}attribute":
            if name is not None:
                _note(known, f"@{name}", values or None)
            elif child.find(f"{_NS}anyName") is not None:
                known[ANY] = True
        elif name is None:
            known[ANY] = True
        else:
            below = known if name in NESTED else known.setdefault(name, {})
            if values != set():
                _note(below, TEXT, values)
            self.spell(child, below, inside)

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


def _note(known: dict[str, Any], name: str, values: set[str] | None) -> None:
    """``name`` takes these values too; "" says that it takes any."""
    have = known.get(name)
    known[name] = "" if values is None or have == "" else " ".join(sorted({*(have or "").split(), *values}))


def spelling(folders: Iterable[Path]) -> dict[str, Any]:
    """The names and values of guest XML that any of the libvirts knows; of devices, whose rows know the names, the values."""
    known: dict[str, Any] = {}
    for folder in folders:
        grammar = Grammar(folder)
        for domain in grammar.domain():
            grammar.spell(domain, known)
    known["devices"] = _values_only(known["devices"])
    return known


def _values_only(known: dict[str, Any]) -> dict[str, Any]:
    inner = {
        name: _values_only(below) if isinstance(below, dict) else below for name, below in known.items() if name != ANY
    }
    return {name: below for name, below in inner.items() if below}


if __name__ == "__main__":
    json.dump(spelling(map(Path, sys.argv[1:])), sys.stdout, indent=1, sort_keys=True)
    print()
