"""Guest XML changed as text: everything else stays as it is, to the byte.

Changes are collected by the byte offsets of elements and made at once.  What is added takes the style of its
neighbours: their indentation, their line ends, their quotes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property

from mdtool.guest.xml import Element, utf8_from_xml
from mdtool.records import dataclass, field
from mdtool.text import pattern

_NAME = pattern(rb"<[^\s/>]+")
_ATTRIBUTE = pattern(rb"\s+([^\s=/>]+)\s*=\s*(\"[^\"]*\"|'[^']*')")
_END = pattern(rb"\s*(/?)>")
_REST_OF_LINE = pattern(rb"(?:[ \t]*<!--.*?-->)*", re.DOTALL)


@dataclass(frozen=True, slots=True)
class New:
    """An element to add: attributes in order, and its children or its text."""

    tag: str
    attributes: Mapping[str, str] = field(default_factory=dict)
    children: Sequence[New] = ()
    text: str = ""


@dataclass(frozen=True, slots=True)
class _Tag:
    """A start tag: where the name of its attributes ends, the span of each value with its quotes, where it ends."""

    name: str
    values: Mapping[str, tuple[int, int]]
    close: int  # offset of the blanks before '>' or '/>'
    end: int  # offset after '>'
    empty: bool


@dataclass(slots=True)
class _Edit:
    start: int
    end: int
    text: bytes


class Edits:
    """Changes to one XML text.  ``source`` is what its elements were read from; the changed text is UTF-8.

    >>> from mdtool.guest.xml import element_from_bytes
    >>> source = b"<domain><interface type='user'><address slot='0x02'/></interface></domain>"
    >>> domain = element_from_bytes(source, "web01.xml")
    >>> edits = Edits(source, domain)
    >>> interface = domain.first("interface")
    >>> edits.set(interface.first("address"), {"slot": "0x03"})
    >>> edits.append(interface, [New("alias", {"name": "ua-lan"})])
    >>> edits.text()
    "<domain><interface type='user'><address slot='0x03'/><alias name='ua-lan'/></interface></domain>"
    """

    def __init__(self, source: bytes, root: Element) -> None:
        self.source = utf8_from_xml(source, root.position.file)
        self.root = root
        self._edits: list[_Edit] = []

    # --- changes ---

    def set(self, element: Element, attributes: Mapping[str, str]) -> None:
        """Give attributes of an element these values; those that it has already are left alone."""
        tag = self._tag(element)
        quote = next((self.source[start : start + 1] for start, _ in tag.values.values()), self._quote)
        new = b""
        for name, value in attributes.items():
            if name not in tag.values:
                new += b" %s=%s" % (name.encode(), _quoted(value, quote))
            elif element.attributes.get(name) != value:
                start, end = tag.values[name]
                self._change(start, end, _quoted(value, self.source[start : start + 1]))
        if new:
            last = max((end for _, end in tag.values.values()), default=element.span[0] + 1 + len(tag.name.encode()))
            self._change(last, last, new)

    def append(self, element: Element, news: Sequence[New]) -> None:
        """Add children after the last one."""
        if not news:
            return
        tag = self._tag(element)
        outer = self._indentation(element.span[0])
        if tag.empty:
            inner = None if outer is None else outer + self._step
            after = b"" if outer is None else self._newline + outer
            self._change(tag.close, tag.end, b">" + self._lines(news, inner) + after + b"</%s>" % tag.name.encode())
            return
        end = self.source.rindex(b"</", tag.end, element.span[1])
        at = max(len(self.source[:end].rstrip()), tag.end)
        if element.children:
            inner = self._indentation(element.children[-1].span[0])
        else:
            inner = outer + self._step if outer is not None and b"\n" in self.source[at:end] else None
        self._change(at, at, self._lines(news, inner))

    def insert_after(self, sibling: Element, news: Sequence[New]) -> None:
        """Add elements behind another one, and behind the comments that follow it on its line."""
        if not news:
            return
        tag = self._tag(sibling)
        rest = _REST_OF_LINE.match(self.source, tag.end if tag.empty else sibling.span[1])
        assert rest is not None  # it matches nothing, too
        self._change(rest.end(), rest.end(), self._lines(news, self._indentation(sibling.span[0])))

    def replace(self, element: Element, new: New) -> None:
        """Put another element in the place of one."""
        tag = self._tag(element)
        self._change(element.span[0], tag.end if tag.empty else element.span[1], self._rendered(new, None))

    def text(self) -> str:
        """The text with all changes made."""
        parts, at = [], 0
        for edit in sorted(self._edits, key=lambda edit: (edit.start, edit.end)):
            parts += [self.source[at : edit.start], edit.text]
            at = edit.end
        return b"".join([*parts, self.source[at:]]).decode()

    # --- the style of the neighbours ---

    @cached_property
    def _newline(self) -> bytes:
        return b"\r\n" if b"\r\n" in self.source else b"\n"

    @cached_property
    def _step(self) -> bytes:
        """How much deeper a child is indented."""
        holders = [self.root, *self.root]
        for holder in holders:
            outer = self._indentation(holder.span[0])
            for child in holder:
                inner = self._indentation(child.span[0])
                if inner is not None and outer is not None and inner != outer and inner.startswith(outer):
                    return inner[len(outer) :]
        return b"  "

    @cached_property
    def _quote(self) -> bytes:
        return b'"' if self.source.count(b'="') > self.source.count(b"='") else b"'"

    def _indentation(self, offset: int) -> bytes | None:
        """What stands before an element on its line; None where that is more than blanks."""
        before = self.source[self.source.rfind(b"\n", 0, offset) + 1 : offset]
        return None if before.strip() else before

    def _lines(self, news: Sequence[New], indentation: bytes | None) -> bytes:
        start = b"" if indentation is None else self._newline + indentation
        return b"".join(start + self._rendered(new, indentation) for new in news)

    def _rendered(self, new: New, indentation: bytes | None) -> bytes:
        attributes = b"".join(
            b" %s=%s" % (name.encode(), _quoted(value, self._quote)) for name, value in new.attributes.items()
        )
        name = new.tag.encode()
        if not new.children:
            text = new.text.replace("&", "&amp;").replace("<", "&lt;").encode()
            return b"<%s%s>%s</%s>" % (name, attributes, text, name) if text else b"<%s%s/>" % (name, attributes)
        inner = None if indentation is None else indentation + self._step
        after = b"" if indentation is None else self._newline + indentation
        return b"<%s%s>%s%s</%s>" % (name, attributes, self._lines(new.children, inner), after, name)

    # --- where things are ---

    def _tag(self, element: Element) -> _Tag:
        name = _NAME.match(self.source, element.span[0])
        assert name is not None  # the parser has read it
        values, at = {}, name.end()
        while found := _ATTRIBUTE.match(self.source, at):
            values[found[1].decode()] = found.span(2)
            at = found.end()
        end = _END.match(self.source, at)
        assert end is not None
        return _Tag(name[0][1:].decode(), values, at, end.end(), bool(end[1]))

    def _change(self, start: int, end: int, text: bytes) -> None:
        self._edits.append(_Edit(start, end, text))


def _quoted(value: str, quote: bytes) -> bytes:
    escaped = value.replace("&", "&amp;").replace("<", "&lt;").encode()
    return quote + escaped.replace(quote, b"&quot;" if quote == b'"' else b"&apos;") + quote
