"""Names and values of guest XML that libvirt knows: a typing error is reported, and not dropped in silence.

schemas/guest-xml.json has them, made of the RELAX NG of libvirt (tests/guest/support_relaxng.py): an object an element,
in it the elements inside, ``@name`` for each attribute and ``.`` for its text, both with their values in one line ("" for
any, ``#`` for a number).  ``*`` says that anything may stand there.  Under <devices> only closed sets of values are listed:
the names of what may stand there are those of the rows (``mdtool.guest.elements``).
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

from mdtool.errors import Report, choices
from mdtool.guest.xml import Element
from mdtool.machine.values import integer
from mdtool.resources import path_of_resource
from mdtool.text import quoted

ANY, TEXT, NUMBER = "*", ".", "#"

#: parts of a <disk> in which all of its elements may stand again
NESTED = frozenset({"mirror", "backingStore", "dataStore"})


@cache
def _known() -> Mapping[str, Any]:
    with open(path_of_resource("schemas", "guest-xml.json"), "rb") as stream:
        return json.load(stream)  # type: ignore[no-any-return]


def values_at(path: Sequence[str], attribute: str) -> list[str]:
    """The values of an attribute, by the tags from below <domain> to its element; empty where any will do.

    >>> values_at(["memoryBacking", "source"], "type")
    ['anonymous', 'file', 'memfd']
    """
    known = _known()
    for tag in path:
        known = known if tag in NESTED else known.get(tag, {})
    return [value for value in known.get(f"@{attribute}", "").split() if value != NUMBER]


def check_spelling(domain: Element, report: Report) -> None:
    """To ``report``: the attributes, elements and values of a guest's XML that no libvirt knows.

    A newer libvirt may know more, so they are warnings.  Elements right under <domain> are ``mdtool.guest.platform``'s.
    """
    said = {error.at for error in report.errors}
    _check(domain, "", _known(), report, said)


def _check(element: Element, path: str, known: Mapping[str, Any], report: Report, said: set[Any]) -> None:
    named = ANY not in known and not path.startswith("devices")
    for name, value in element.attributes.items():
        values = known.get(f"@{name}")
        if values is None:
            if named and not name.startswith("{"):
                _warn(element, f"{path}/@{name} is not known and was left out", None, report)
        elif values and not _is_one(value, values) and element.position not in said:
            _warn(element, f"{path}/@{name}: unknown value {quoted(value)}", values, report)
    values = known.get(TEXT)
    if values and element.text and not _is_one(element.text, values) and element.position not in said:
        _warn(element, f"<{path}>: unknown value {quoted(element.text)}", values, report)
    for child in element:
        below = known if child.tag in NESTED else known.get(child.tag)
        inside = f"{path}/{child.tag}" if path else child.tag
        if below is not None:
            _check(child, inside, below, report, said)
        elif named and path and not child.tag.startswith("{"):
            _warn(child, f"<{inside}> is not known and was left out", None, report)


def _is_one(value: str, values: str) -> bool:
    if value in values.split():
        return True
    try:
        return NUMBER in values and integer(value, 16 if value[:2] in ("0x", "0X") else 10) is not None
    except ValueError:
        return False


def _warn(element: Element, what: str, values: str | None, report: Report) -> None:
    """A name that is not known has no ``values``."""
    if values is None:
        report.warn(what, at=element.position, rule="unknown-element")
    else:
        report.warn(
            what,
            at=element.position,
            expected=choices("a number" if one == NUMBER else one for one in values.split()),
            rule="unknown-value",
        )
