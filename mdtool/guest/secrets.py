"""What libvirt shows of a guest's XML only to those who ask for secrets, put back into XML that was written without.

There is no list of secrets here: they are what the XML with secrets has and the one without lacks.
"""

from __future__ import annotations

from collections.abc import Iterator

from mdtool.guest.xml import Element, element_from_bytes
from mdtool.guest.xmltext import Edits, New

#: given out by libvirt while it reads an XML, so that a person's does not have them
_GIVEN_OUT = frozenset({"index"})


def with_secrets(source: bytes, public: bytes, full: bytes) -> tuple[str, list[str]]:
    """``source`` with the secrets of the same elements, and what of them has no place there any more, in words.

    ``full`` and ``public`` are libvirt's XML of the guest with and without secrets.  A secret that ``source`` has itself
    stays, unless it is empty; one of an element that is gone is dropped.

    >>> public = b"<domain><devices><graphics type='vnc' port='-1'/></devices></domain>"
    >>> full = b"<domain><devices><graphics type='vnc' port='-1' passwd='x'/></devices></domain>"
    >>> with_secrets(b"<domain><devices><graphics type='vnc'/></devices></domain>", public, full)
    ("<domain><devices><graphics type='vnc' passwd='x'/></devices></domain>", [])
    """
    root = element_from_bytes(source, "XML")
    edits = Edits(source, root)
    lost = list(_put_back(edits, root, element_from_bytes(public, "libvirt"), element_from_bytes(full, "libvirt")))
    return edits.text(), lost


def without_secrets(public: bytes, full: bytes) -> str:
    """``public`` as it may go into a file: a secret is there, and empty, so that it is not taken for a guest without one.

    libvirt refuses every client if a password is empty, and ``with_secrets`` puts it back.

    >>> full = b"<domain><devices><graphics type='vnc' port='-1' passwd='x'/></devices></domain>"
    >>> without_secrets(b"<domain><devices><graphics type='vnc' port='-1'/></devices></domain>", full)
    "<domain><devices><graphics type='vnc' port='-1' passwd=''/></devices></domain>"
    """
    root = element_from_bytes(public, "libvirt")
    edits = Edits(public, root)
    _empty(edits, root, element_from_bytes(full, "libvirt"))
    return edits.text()


def _empty(edits: Edits, into: Element, full: Element) -> None:
    edits.set(into, {name: "" for name in full.attributes if name not in into.attributes})
    there = _by_identity(full)
    for identity, child in _by_identity(into).items():
        if identity in there:
            _empty(edits, child, there[identity])


def _put_back(edits: Edits, into: Element, public: Element, full: Element) -> Iterator[str]:
    shown, there = _by_identity(public), _by_identity(into)
    secret = {name: value for name, value in full.attributes.items() if name not in public.attributes}
    edits.set(into, {name: value for name, value in secret.items() if not into.attributes.get(name)})
    missing = []
    for identity, child in _by_identity(full).items():
        if identity in shown:
            if identity in there:
                yield from _put_back(edits, there[identity], shown[identity], child)
        elif identity not in there:
            missing.append(child)
    if missing and _agrees(into, public):  # a secret of one server is not for another one
        edits.append(into, [_new(child) for child in missing])
    elif missing:
        yield f"<{missing[0].tag}>, a secret of a <{into.tag}> that is another one now"


def _by_identity(element: Element) -> dict[tuple[str, str, int], Element]:
    """Children by tag, by what a person tells them apart by, and by their order among those."""
    found: dict[tuple[str, str, int], Element] = {}
    for child in element:
        name = child.get("target/@dev") or child.attributes.get("type") or ""
        number = 0
        while (child.tag, name, number) in found:
            number += 1
        found[child.tag, name, number] = child
    return found


def _agrees(one: Element, public: Element) -> bool:
    """Whether an element says all that libvirt shows of it."""
    said = all(one.attributes.get(k) == v for k, v in public.attributes.items() if k not in _GIVEN_OUT)
    there = _by_identity(one)
    return said and all(key in there and _agrees(there[key], child) for key, child in _by_identity(public).items())


def _new(element: Element) -> New:
    return New(element.tag, element.attributes, tuple(map(_new, element)), element.text)
