"""Guest XML with the position of every element and attribute.

expat gives line and column of a start tag, also of one that runs over several lines (lxml has no column, and its line is
wrong for those).  Entities and DTDs are refused: a guest XML needs none, and both are how XML files attack their readers.
"""

from __future__ import annotations

import codecs
from collections.abc import Iterator, Mapping, Sequence
from xml.parsers import expat

from mdtool.errors import InputError, Position
from mdtool.limits import MAX_ELEMENTS_DEEP, MAX_VALUES
from mdtool.records import dataclass, field
from mdtool.text import one_line, pattern, quoted

_DECLARED = pattern(r"""(<\?xml[^>]*?encoding\s*=\s*["'])([A-Za-z][\w.:-]*)(["'])""")
#: by Python's names: character sets that libvirt reads, too, and in which ASCII is ASCII (not so in UTF-7)
_CHARSETS = pattern(
    r"ascii|iso8859-\d+|cp125\d|koi8-[rut]|gbk|gb2312|gb18030|big5(hkscs)?|euc_(jp|kr)|shift_jis|cp932|cp949"
)
_BEGINS = "<domain ...>"
#: how expat says that an element is open where the file ends, or where another one is closed
_NOT_CLOSED = ("no element found", "mismatched tag")


@dataclass(slots=True)
class Element:
    """One XML element.  ``tag`` is ``{namespace}name`` outside of the default namespace; ``text`` is stripped."""

    tag: str
    attributes: Mapping[str, str]
    position: Position
    children: list[Element] = field(default_factory=list)
    text: str = ""
    span: tuple[int, int] = (0, 0)  # byte offsets of '<' and of what follows the end tag, for --write-xml
    _firsts: dict[str, Element] = field(default_factory=dict, init=False, repr=False, compare=False)  # by path
    _texts: dict[str, str] = field(default_factory=dict, init=False, repr=False, compare=False)  # of all that stands there

    def __iter__(self) -> Iterator[Element]:
        return iter(self.children)

    def all(self, path: str) -> Iterator[Element]:
        """Children by a path of tags, ``source/host``."""
        head, _, rest = path.partition("/")
        for child in self.children:
            if child.tag == head:
                if rest:
                    yield from child.all(rest)
                else:
                    yield child

    def first(self, path: str) -> Element | None:
        """The first of ``all(path)``; None where there is none."""
        if not self._firsts:
            self._fill(self._firsts, "")
        return self._firsts.get(path)

    def _fill(self, firsts: dict[str, Element], prefix: str) -> None:
        for child in self.children:
            path = prefix + child.tag
            firsts.setdefault(path, child)
            if child.children:
                child._fill(firsts, f"{path}/")

    @property
    def texts(self) -> Mapping[str, str]:
        """The texts of all attributes and elements, by path: ``'@type'``, ``'source/@file'``, ``'serial'``."""
        if not self._texts:
            self.first("")
            self._texts[""] = self.text
            for name, value in self.attributes.items():
                self._texts[f"@{name}"] = value
            for path, holder in self._firsts.items():
                self._texts[path] = holder.text
                for name, value in holder.attributes.items():
                    self._texts[f"{path}/@{name}"] = value
        return self._texts

    def get(self, path: str) -> str | None:
        """One of ``texts``; None where there is none."""
        return self.texts.get(path)

    def at(self, path: str) -> Position:
        """Where an attribute's element or an element stands; this element's own place where it is absent."""
        head = path.rpartition("@")[0].rstrip("/") if "@" in path else path
        holder = self.first(head) if head else self
        return holder.position if holder is not None else self.position


def utf8_from_xml(data: bytes, file: str) -> bytes:
    """XML by its declaration or byte order mark, in UTF-8 and saying so; as it is where it is UTF-8 already.

    Raises InputError for a character set that is not read, and at the first bytes that are not of the declared one.
    """
    if data.startswith((b"\xff\xfe", b"\xfe\xff")) or data[:2] in (b"<\0", b"\0<"):
        little = data.startswith((b"\xff\xfe", b"<\0"))
        charset = "utf-16-le" if little else "utf-16-be"
    else:
        head = data[:200].decode("latin-1").removeprefix("\xef\xbb\xbf")
        declared = _DECLARED.match(head) if head.startswith("<?xml") else None
        try:
            charset = codecs.lookup(declared[2]).name if declared else "utf-8"
        except (LookupError, ValueError):
            charset = ""
        if charset == "utf-8" or charset.startswith("utf-16"):
            return data  # expat says what is wrong with it
        if not _CHARSETS.fullmatch(charset):
            what = f"XML in {quoted(declared[2] if declared else '')} is not read"
            raise InputError(what, at=Position(file, 1), remedy="save it as UTF-8", rule="xml-encoding")
    try:
        text = data.decode(charset)
    except UnicodeDecodeError as error:
        before = data[: error.start].decode(charset, "replace")
        at = Position(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        raise InputError(f"not {charset}", at=at, remedy="save it as UTF-8", rule="xml-encoding") from None
    return _DECLARED.sub(r"\1UTF-8\3", text.removeprefix("\ufeff"), count=1).encode(errors="surrogatepass")


def element_from_bytes(data: bytes, file: str, tag: str = "domain") -> Element:
    data = utf8_from_xml(data, file)
    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    stack: list[Element] = []
    root: list[Element] = []
    texts: list[list[str]] = []
    count = 0

    def here() -> Position:
        return Position(file, parser.CurrentLineNumber, parser.CurrentColumnNumber + 1)

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal count
        count += 1 + len(attributes)
        if len(stack) >= MAX_ELEMENTS_DEEP:
            raise InputError(f"elements nest deeper than {MAX_ELEMENTS_DEEP}", at=here(), rule="xml-depth")
        if count > MAX_VALUES:
            raise InputError(f"more than {MAX_VALUES:,} elements and attributes", at=here(), rule="limit-values")
        named = {_qualified(name): value for name, value in attributes.items()}
        element = Element(_qualified(tag), named, here(), span=(parser.CurrentByteIndex, 0))
        (stack[-1].children if stack else root).append(element)
        stack.append(element)
        texts.append([])

    def finish(_tag: str) -> None:
        element, inside, end = stack.pop(), texts.pop(), parser.CurrentByteIndex
        element.text = "".join(inside).strip()
        empty = data[end - 2 : end] == b"/>" and not inside and not element.children  # one tag, which ends here
        element.span = (element.span[0], end if empty else data.index(b">", end) + 1)

    def text(chunk: str) -> None:
        if texts:
            texts[-1].append(chunk)

    def doctype(*_: object) -> None:
        raise InputError(
            "a DTD is not accepted", at=here(), remedy="remove the <!DOCTYPE ...>; guest XML needs none", rule="xml-dtd"
        )

    parser.StartElementHandler = start
    parser.EndElementHandler = finish
    parser.CharacterDataHandler = text
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(data, True)
    except expat.ExpatError as error:
        from mdtool.machine.document import XML, check_kind, check_merged

        said = data.decode(errors="replace")
        check_merged(said, file)
        if not root:
            check_kind(said, file, XML, _BEGINS)
        raise _syntax_error(error, data, file, stack) from None
    except (UnicodeError, ValueError) as error:
        raise InputError(f"not XML: {error}", at=Position(file, 1), rule="xml-syntax") from None
    if root[0].tag != tag:
        what = f"<{one_line(root[0].tag)}> is not a guest"
        raise InputError(what, at=root[0].position, expected=f"<{tag}>", rule="xml-domain")
    return root[0]


def _syntax_error(error: expat.ExpatError, data: bytes, file: str, open_elements: Sequence[Element]) -> InputError:
    """What is wrong where the parser stopped; ``open_elements`` are those that it was in."""
    where = Position(file, error.lineno, error.offset + 1)
    what, expected = f"not XML: {expat.ErrorString(error.code)}", None
    if not data.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<"):
        what, where, expected = "this is not guest XML", Position(file, 1), _BEGINS
    elif open_elements and expat.ErrorString(error.code) in _NOT_CLOSED:
        last = open_elements[-1]
        what, expected = "not XML: an element is not closed", f"</{one_line(last.tag)}> of line {last.position.line}"
    return InputError(what, at=where, expected=expected, rule="xml-syntax")


def _qualified(name: str) -> str:
    """expat gives ``uri}name``; ElementTree's spelling is ``{uri}name``."""
    return "{" + name if name.find("}") > 0 else name
