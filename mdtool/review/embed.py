"""The description inside of the guest XML, in ``<metadata>``: it travels wherever libvirt takes the domain.

libvirt keeps what stands there under a namespace of its own, through define, dumpxml and edit, byte for byte.  The text
is a CDATA section, so that people can still read it; lines end in LF, as XML makes them.
"""

from __future__ import annotations

from pathlib import Path

from mdtool.errors import InputError
from mdtool.files import bytes_from_file
from mdtool.guest.xml import Element, element_from_bytes, utf8_from_xml
from mdtool.text import pattern

NAMESPACE = "urn:mdtool:machine:1"
TAG = f"{{{NAMESPACE}}}machine"
#: what XML 1.0 cannot hold, not even escaped
_UNSPEAKABLE = pattern("[\0-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")
#: behind which element of a domain that has no <metadata> it goes, the last of them that there is
_BEHIND = ("name", "uuid", "genid", "title", "description")


def embedded(path: str | Path) -> str | None:
    """The description inside of a guest XML; None if there is none.  Raises InputError if the file is no guest XML."""
    return embedded_in(bytes_from_file(path), str(path))


def embedded_in(data: bytes, file: str) -> str | None:
    """The same of a text; ``file`` is for errors."""
    found = _elements(element_from_bytes(data, file))
    if len(found) > 1:
        raise InputError(
            "two descriptions in one guest", at=found[1].position, remedy="remove one of them", rule="embedded"
        )
    return found[0].text + "\n" if found else None


def with_embedded(xml: str | bytes, yaml_text: str | None, file: str = "guest XML") -> str:
    """``xml`` in UTF-8 with the description put in or replaced, and nothing else touched; None takes it out.

    Raises InputError where the text is no guest, or holds characters that no XML can.
    """
    if yaml_text is not None and (bad := _UNSPEAKABLE.search(yaml_text)):
        raise InputError(f"XML cannot hold the character {bad[0]!r} of the description", rule="embedded")
    data = utf8_from_xml(xml.encode() if isinstance(xml, str) else xml, file)
    domain = element_from_bytes(data, file)
    old = _elements(domain)
    metadata = domain.first("metadata")
    if old:
        start, end = old[0].span
        if yaml_text is None:
            start = len(data[:start].rstrip(b" \t"))
            start -= data[:start].endswith(b"\n")
            return (data[:start] + data[end:]).decode()
        return (data[:start] + _element(yaml_text) + data[end:]).decode()
    if yaml_text is None:
        return data.decode()
    if metadata is not None:
        start, end = metadata.span
        indent = _indent(data, start)
        closing = data.rfind(b"</", start, end)
        if closing < 0:  # <metadata/>
            text = b"<metadata>" + indent + b"  " + _element(yaml_text) + indent + b"</metadata>"
            return (data[:start] + text + data[end:]).decode()
        at = len(data[:closing].rstrip())
        return (data[:at] + indent + b"  " + _element(yaml_text) + data[at:]).decode()
    behind = max((e for e in domain if e.tag in _BEHIND), key=lambda e: e.span[1], default=None)
    if behind is None:
        raise InputError("a guest without a <name>", at=domain.position, rule="xml-domain")
    indent = _indent(data, behind.span[0])
    text = indent + b"<metadata>" + indent + b"  " + _element(yaml_text) + indent + b"</metadata>"
    return (data[: behind.span[1]] + text + data[behind.span[1] :]).decode()


def _elements(domain: Element) -> list[Element]:
    return [e for metadata in domain.all("metadata") for e in metadata if e.tag == TAG]


def _element(text: str) -> bytes:
    inner = text.strip("\n").replace("]]>", "]]]]><![CDATA[>")
    return f'<mdtool:machine xmlns:mdtool="{NAMESPACE}"><![CDATA[\n{inner}\n]]></mdtool:machine>'.encode()


def _indent(data: bytes, at: int) -> bytes:
    """The line break and blanks before an element that starts at ``at``; nothing where it does not start a line."""
    line = data.rfind(b"\n", 0, at) + 1
    return b"\n" + data[line:at] if not data[line:at].strip() else b""
