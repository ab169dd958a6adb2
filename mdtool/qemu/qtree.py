"""``info qtree`` as data, by way of grammar/qtree.lark.

The one answer of a QEMU before 10.1 that holds every qdev property of every device.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

from lark import Lark, Token, Transformer, UnexpectedInput
from lark.exceptions import LarkError
from lark.lark import PostLex

from mdtool.cache import parser_from_grammar
from mdtool.errors import MonitorError, Position
from mdtool.limits import MAX_VALUES
from mdtool.machine.tree import Value
from mdtool.qemu.replies import RawBus, RawDevice


class _Depth(PostLex):
    """Turns the blanks before each line into _INDENT and _DEDENT."""

    always_accept = ()

    def process(self, stream: Iterator[Token]) -> Iterator[Token]:
        depth = 0
        for token in stream:
            here = len(token) - len(token.lstrip(" "))
            while here > depth:
                yield Token.new_borrow_pos("_INDENT", "", token)
                depth += 2
            while here < depth:
                yield Token.new_borrow_pos("_DEDENT", "", token)
                depth -= 2
            if here != depth:
                yield Token.new_borrow_pos("ODD_DEPTH", str(token), token)
            yield token
        while depth > 0:
            yield Token("_DEDENT", "")
            depth -= 2


def _scalar(text: str) -> Value:
    """One element of an array, which the grammar does not take apart."""
    if text in ("true", "false"):
        return text == "true"
    if text.startswith('"'):
        return text[1:-1]
    head = text.partition(" ")[0]
    return int(head) if re.fullmatch("-?[0-9]{1,40}", head) else text


def _numbers(text: str) -> list[int]:
    """
    >>> _numbers("0-2,5")
    [0, 1, 2, 5]
    """
    runs = [(int(first), int(last or first)) for first, _, last in (part.partition("-") for part in text.split(","))]
    if sum(last - first for first, last in runs) > MAX_VALUES:
        raise ValueError("ranges of too many numbers")
    return [number for first, last in runs for number in range(first, last + 1)]


def _several(value: Value) -> Value:
    """The value of an array property, where a single element looks like no array: ``2``, ``a", "b``."""
    if value is None or isinstance(value, list):
        return value
    return value.split('", "') if isinstance(value, str) else [value]


#: array properties (QEMU 8.2 and later); before, they are ``len-NAME`` and ``NAME[0]``, ``NAME[1]``, ...
ARRAYS = frozenset(
    {
        "redist-region-count",
        "reserved-regions",
        "stats-intervals",
        "iothread-vq-mapping",
        "ebpf-rss-fds",
        "db-voltage",
        "db-clock",
    }
)


def _pci_class(line: str) -> dict[str, Value]:
    """
    >>> _pci_class("class VGA controller, addr 00:01.0, pci id 1234:1111 (sub 1af4:1100)")
    {'class': 'VGA controller', 'id': '1234:1111', 'sub': '1af4:1100'}

    A bridge has no subsystem there: those four bytes of its config space are part of a window that firmware sets.
    """
    kind, _, ids = line[6:].partition(", addr ")
    id_, _, sub = ids.partition(", pci id ")[2][:-1].partition(" (sub ")
    return {"class": kind, "id": id_} | ({} if kind == "PCI bridge" else {"sub": sub})


def _pci_bar(words: list[str]) -> dict[str, Value]:
    """
    >>> _pci_bar("bar 4: i/o at 0x700 [0x73f]".split()), _pci_bar("bar 6: mem at 0xffffffffffffffff [0xfffe]".split())
    ({'bar4': 'i/o 64'}, {'rom': 65536})

    An unmapped one starts at the last address and wraps round.
    """
    number, kind, first, last = words[1][:-1], words[2], int(words[4], 16), int(words[5][1:-1], 16)
    size = (last - first + 1) % (1 << 64)
    return {"rom": size} if number == "6" else {f"bar{number}": f"{kind} {size}"}


#: how a property line's value is read, by the terminal of its line
_READ: dict[str, Any] = {
    "TEXT": lambda text: text[1:-1],
    "NUMBER": lambda text: int(text.partition(" ")[0]),
    "BOOLEAN": lambda text: text == "true",
    "PCI_ADDRESS": str,
    "UNSET": lambda text: None,
    "ARRAY": _scalar,
    "RANGES": lambda text: _numbers(text.partition(" ")[0]),
    "OMITTED": lambda text: None,
}


class _Build(Transformer[Token, list[RawBus]]):
    def start(self, buses: list[Any]) -> list[RawBus]:
        return buses

    def bus(self, parts: list[Any]) -> RawBus:
        return RawBus(parts[0][:-1].lstrip()[5:], parts[1][:-1].lstrip()[5:], parts[2:])

    def device(self, parts: list[Any]) -> RawDevice:
        driver, _, id_ = parts[0][:-1].lstrip()[5:].partition(', id "')
        made = RawDevice(driver, id_[:-1])
        properties = made.properties
        for part in parts[1:]:
            if type(part) is RawBus:
                made.buses.append(part)
            elif part.type in _READ:
                name, _, value = part[:-1].lstrip().partition(" = ")
                read = _READ[part.type](value)
                if name in properties:
                    made.repeated.append(name)
                properties[name] = _several(read) if name in ARRAYS else read
            elif part.type == "MMIO":
                made.mmio.append(part[:-1].lstrip()[5:].partition("/")[0])
            elif part.type == "PCI_CLASS":
                made.pci |= _pci_class(part.strip())
            elif part.type == "PCI_BAR":
                made.pci |= _pci_bar(part.split())
            elif part.type == "USB_STATE":
                made.port = part.partition(", port ")[2].partition(", speed ")[0]
        return made


@lru_cache(maxsize=1)
def _parser() -> Lark:
    return parser_from_grammar("qtree.lark", lexer="basic", postlex=_Depth(), transformer=_Build())


def buses_from_qtree(text: str, source: str = "info qtree") -> list[RawBus]:
    """The buses at the top; raises MonitorError with line and column where a line does not match the grammar."""
    try:
        built: Any = _parser().parse(text)
    except UnexpectedInput as error:
        lines = text.split("\n")
        line = error.line if error.line and error.line > 0 else len(lines)  # it has none where the text ended too soon
        words = lines[line - 1].strip() if 0 < line <= len(lines) else ""
        where = Position(source, line, max(error.column or 1, 1))
        remedy = "please report the line together with the version of QEMU: grammar/qtree.lark does not have it yet"
        raise MonitorError(f"not understood: {words[:120]!r}", at=where, remedy=remedy, rule="qtree-syntax") from None
    except (ValueError, RecursionError, LarkError) as error:  # a number without end, say
        what = f"not understood: {' '.join(str(error).split())[:120]}"
        raise MonitorError(what, at=Position(source, 1), rule="qtree-syntax") from None
    found: list[RawBus] = built
    return found
