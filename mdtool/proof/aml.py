"""AML, the byte code of ACPI's DSDT and SSDT, read into a namespace that can be compared.

Not an interpreter and not a disassembler: each named object becomes a path and a text (``\\_SB.PCI0.S10._SUN``,
``0x2``), and a method's body becomes its statements.  Encoding after the ACPI specification 6.5, chapter 20.

A name inside a method may be a call, and how many arguments follow it stands only where the method is defined, perhaps
later or in another table.  So tables are read twice: methods first (their bodies skipped, by length), then everything.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from mdtool.errors import MdtoolError
from mdtool.records import dataclass, field


class AmlError(MdtoolError):
    """A table that is no AML, or AML that this reader does not know."""


#: opcode: name and operands.  N name, T term, S target or super name, B W D Q integers of 1 to 8 bytes, Z string
TERMS: dict[int, tuple[str, str]] = {
    0x00: ("Zero", ""),
    0x01: ("One", ""),
    0x06: ("Alias", "NN"),
    0x15: ("External", "NBB"),
    0x70: ("Store", "TS"),
    0x71: ("RefOf", "S"),
    0x72: ("Add", "TTS"),
    0x73: ("Concatenate", "TTS"),
    0x74: ("Subtract", "TTS"),
    0x75: ("Increment", "S"),
    0x76: ("Decrement", "S"),
    0x77: ("Multiply", "TTS"),
    0x78: ("Divide", "TTSS"),
    0x79: ("ShiftLeft", "TTS"),
    0x7A: ("ShiftRight", "TTS"),
    0x7B: ("And", "TTS"),
    0x7C: ("Nand", "TTS"),
    0x7D: ("Or", "TTS"),
    0x7E: ("Nor", "TTS"),
    0x7F: ("Xor", "TTS"),
    0x80: ("Not", "TS"),
    0x81: ("FindSetLeftBit", "TS"),
    0x82: ("FindSetRightBit", "TS"),
    0x83: ("DerefOf", "T"),
    0x84: ("ConcatenateResTemplate", "TTS"),
    0x85: ("Mod", "TTS"),
    0x86: ("Notify", "ST"),
    0x87: ("SizeOf", "S"),
    0x88: ("Index", "TTS"),
    0x89: ("Match", "TBTBTT"),
    0x8E: ("ObjectType", "S"),
    0x90: ("LAnd", "TT"),
    0x91: ("LOr", "TT"),
    0x92: ("LNot", "T"),
    0x93: ("LEqual", "TT"),
    0x94: ("LGreater", "TT"),
    0x95: ("LLess", "TT"),
    0x96: ("ToBuffer", "TS"),
    0x97: ("ToDecimalString", "TS"),
    0x98: ("ToHexString", "TS"),
    0x99: ("ToInteger", "TS"),
    0x9C: ("ToString", "TTS"),
    0x9D: ("CopyObject", "TS"),
    0x9E: ("Mid", "TTTS"),
    0x9F: ("Continue", ""),
    0xA3: ("Noop", ""),
    0xA4: ("Return", "T"),
    0xA5: ("Break", ""),
    0xCC: ("BreakPoint", ""),
    0xFF: ("Ones", ""),
    0x5B12: ("CondRefOf", "SS"),
    0x5B1F: ("LoadTable", "TTTTTT"),
    0x5B20: ("Load", "NS"),
    0x5B21: ("Stall", "T"),
    0x5B22: ("Sleep", "T"),
    0x5B23: ("Acquire", "SW"),
    0x5B24: ("Signal", "S"),
    0x5B25: ("Wait", "ST"),
    0x5B26: ("Reset", "S"),
    0x5B27: ("Release", "S"),
    0x5B28: ("FromBCD", "TS"),
    0x5B29: ("ToBCD", "TS"),
    0x5B30: ("Revision", ""),
    0x5B31: ("Debug", ""),
    0x5B32: ("Fatal", "BDT"),
    0x5B33: ("Timer", ""),
}
#: opcodes that put a name into the namespace without a length of their own: name, operands before the name, after it
NAMED: dict[int, tuple[str, str, str]] = {
    0x8A: ("CreateDWordField", "TT", ""),
    0x8B: ("CreateWordField", "TT", ""),
    0x8C: ("CreateByteField", "TT", ""),
    0x8D: ("CreateBitField", "TT", ""),
    0x8F: ("CreateQWordField", "TT", ""),
    0x5B13: ("CreateField", "TTT", ""),
    0x5B01: ("Mutex", "", "B"),
    0x5B02: ("Event", "", ""),
    0x5B80: ("OperationRegion", "", "BTT"),
    0x5B88: ("DataTableRegion", "", "TTT"),
}
#: opcodes with a package length that open a scope: name, operands behind the name
SCOPES: dict[int, tuple[str, str]] = {
    0x10: ("Scope", ""),
    0x5B82: ("Device", ""),
    0x5B83: ("Processor", "BDB"),
    0x5B84: ("PowerResource", "BW"),
    0x5B85: ("ThermalZone", ""),
}
#: opcodes with a package length and a list of field units: name, operands before the flags
FIELDS: dict[int, tuple[str, str]] = {
    0x5B81: ("Field", "N"),
    0x5B86: ("IndexField", "NN"),
    0x5B87: ("BankField", "NNT"),
}
BLOCKS: dict[int, tuple[str, str]] = {0xA0: ("If", "T"), 0xA1: ("Else", ""), 0xA2: ("While", "T")}
INTEGERS = {0x0A: 1, 0x0B: 2, 0x0C: 4, 0x0E: 8}
WIDTHS = {"B": 1, "W": 2, "D": 4, "Q": 8}
REGIONS = ("SystemMemory", "SystemIO", "PCI_Config", "EmbeddedControl", "SMBus", "SystemCMOS", "PciBarTarget", "IPMI")
LEAD = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZ_\\^\x2e\x2f")


@dataclass(slots=True)
class Reader:
    """Reads one table.  ``methods`` are the argument counts by path; ``found`` collects path: text."""

    data: bytes
    methods: dict[str, int]
    found: dict[str, str] = field(default_factory=dict)
    at: int = 0
    bodies: bool = True

    # -- bytes

    def byte(self) -> int:
        if self.at >= len(self.data):
            raise AmlError(f"AML ends early, at byte {self.at}")
        self.at += 1
        return self.data[self.at - 1]

    def integer(self, width: int) -> int:
        value = int.from_bytes(self.data[self.at : self.at + width], "little")
        self.at += width
        return value

    def end(self) -> int:
        """Where the package ends whose length stands here."""
        start = self.at
        lead = self.byte()
        more = lead >> 6
        length = lead & 0x3F if more == 0 else lead & 0x0F
        for n in range(more):
            length |= self.byte() << 4 + 8 * n
        if start + length > len(self.data):
            raise AmlError(f"a package of {length} bytes does not fit, at byte {start}")
        return start + length

    def opcode(self) -> int:
        first = self.byte()
        return 0x5B00 | self.byte() if first == 0x5B else first

    # -- names

    def name(self) -> str:
        """A NameString as written: ``\\_SB.PCI0``, ``^S10``, ``FOO_``; "" for the null name."""
        text = ""
        while self.data[self.at : self.at + 1] in (b"\\", b"^"):
            text += chr(self.byte())
        lead = self.data[self.at] if self.at < len(self.data) else 0
        count = 1
        if lead == 0x00:
            self.at += 1
            return text
        if lead == 0x2E:
            self.at += 1
            count = 2
        elif lead == 0x2F:
            self.at += 1
            count = self.byte()
        raw = self.data[self.at : self.at + 4 * count]
        self.at += 4 * count
        segments = [raw[n : n + 4].decode("latin-1").rstrip("_") or "_" for n in range(0, len(raw), 4)]
        return text + ".".join(segments)

    def calls(self, scope: str, name: str) -> int:
        """How many arguments follow ``name`` where it is used in ``scope``; 0 for what is no method."""
        if name.startswith(("\\", "^")) or "." in name:
            return self.methods.get(absolute(scope, name), 0)
        here = scope
        while True:
            found = self.methods.get(absolute(here, name))
            if found is not None:
                return found
            if here == "\\":
                return 0
            here = here.rpartition(".")[0] or "\\"

    # -- terms

    def terms(self, end: int, scope: str) -> list[str]:
        """The statements up to ``end``; what defines a name goes to ``found`` as well."""
        shown = []
        while self.at < end:
            shown.append(self.term(scope))
        return [text for text in shown if text]

    def operands(self, shape: str, scope: str) -> list[str]:
        return [self.operand(kind, scope) for kind in shape]

    def operand(self, kind: str, scope: str) -> str:
        if kind == "N":
            return self.name()
        if kind in WIDTHS:
            return hex(self.integer(WIDTHS[kind]))
        if kind == "S" and (self.at < len(self.data) and (self.data[self.at] in LEAD or self.data[self.at] == 0)):
            return self.name()
        return self.term(scope)

    def term(self, scope: str) -> str:
        if self.at < len(self.data) and self.data[self.at] in LEAD:
            name = self.name()
            arguments = self.operands("T" * self.calls(scope, name), scope)
            return f"{name}({', '.join(arguments)})" if arguments else name
        start = self.at
        code = self.opcode()
        if code in INTEGERS:
            return hex(self.integer(INTEGERS[code]))
        if code in (0x00, 0x01):  # Zero and One are integers in another dress: the same to a guest
            return hex(code)
        if 0x60 <= code <= 0x67:
            return f"Local{code - 0x60}"
        if 0x68 <= code <= 0x6E:
            return f"Arg{code - 0x68}"
        if code == 0x0D:
            return self.string()
        if code == 0x08:
            name = self.name()
            return self.define(scope, name, self.term(scope))
        if code == 0x11:
            return self.buffer(scope)
        if code in (0x12, 0x13):
            return self.package(scope, code)
        if code == 0x14:
            return self.method(scope)
        if code in SCOPES:
            return self.scope(scope, code)
        if code in FIELDS:
            return self.fields(scope, code)
        if code in BLOCKS:
            word, shape = BLOCKS[code]
            end = self.end()
            shown = self.operands(shape, scope)
            return f"{word}({', '.join(shown)}) {{{'; '.join(self.terms(end, scope))}}}"
        if code in NAMED:
            word, before, after = NAMED[code]
            first = self.operands(before, scope)
            name = self.name()
            rest = self.operands(after, scope)
            if word == "OperationRegion":
                space = int(rest[0], 16)
                rest[0] = REGIONS[space] if space < len(REGIONS) else rest[0]
            return self.define(scope, name, f"{word}({', '.join(first + rest)})")
        if code in TERMS:
            word, shape = TERMS[code]
            shown = self.operands(shape, scope)
            return f"{word}({', '.join(shown)})" if shape else word
        raise AmlError(f"AML opcode {code:#x} is unknown, at byte {start}")

    def define(self, scope: str, name: str, text: str) -> str:
        self.found[absolute(scope, name)] = text
        return f"{name} = {text}"

    def string(self) -> str:
        end = self.data.index(b"\0", self.at)
        text = self.data[self.at : end].decode("latin-1")
        self.at = end + 1
        return json.dumps(text)

    def buffer(self, scope: str) -> str:
        end = self.end()
        self.term(scope)  # the size, which the bytes say again
        data = self.data[self.at : end]
        self.at = end
        return f"Buffer({data.hex()})"

    def package(self, scope: str, code: int) -> str:
        end = self.end()
        if code == 0x12:
            self.byte()
        else:
            self.term(scope)
        items = []
        while self.at < end:
            items.append(self.name() if self.data[self.at] in LEAD else self.term(scope))
        return "{" + ", ".join(items) + "}"

    def method(self, scope: str) -> str:
        end = self.end()
        name = self.name()
        flags = self.byte()
        path = absolute(scope, name)
        self.methods[path] = flags & 7
        shown = self.terms(end, path) if self.bodies else []
        self.at = end
        # What a method names exists only while it runs: it is in the body's text, and no object of the machine.
        for inner in [key for key in self.found if key.startswith(path + ".")]:
            del self.found[inner]
        kind = "Method" + ("Serialized" if flags & 8 else "")
        self.found[path] = f"{kind}({flags & 7}) {{{'; '.join(shown)}}}"
        return ""

    def scope(self, scope: str, code: int) -> str:
        word, shape = SCOPES[code]
        end = self.end()
        name = self.name()
        shown = self.operands(shape, scope)
        path = absolute(scope, name)
        if word != "Scope":
            self.found[path] = f"{word}({', '.join(shown)})" if shown else word
        self.terms(end, path)
        self.at = end
        return ""

    def fields(self, scope: str, code: int) -> str:
        word, shape = FIELDS[code]
        end = self.end()
        shown = self.operands(shape, scope)
        flags = self.byte()
        bit = 0
        while self.at < end:
            lead = self.data[self.at]
            if lead == 0x00:  # reserved: bits skipped
                self.at += 1
                bit += self.bits()
            elif lead == 0x01:  # access attributes
                self.at += 3
            elif lead == 0x02:  # connection
                self.at += 1
                self.term(scope) if self.data[self.at] not in LEAD else self.name()
            elif lead == 0x03:  # extended access attributes
                self.at += 4
            else:
                name = self.data[self.at : self.at + 4].decode("latin-1").rstrip("_")
                self.at += 4
                width = self.bits()
                self.define(scope, name, f"{word}({', '.join(shown)}, {flags:#x}, bit {bit}, {width} bits)")
                bit += width
        return ""

    def bits(self) -> int:
        """A length in the package encoding that does not count itself."""
        start = self.at
        lead = self.byte()
        more = lead >> 6
        length = lead & 0x3F if more == 0 else lead & 0x0F
        for n in range(more):
            length |= self.byte() << 4 + 8 * n
        if self.at > len(self.data):
            raise AmlError(f"AML ends early, at byte {start}")
        return length


def absolute(scope: str, name: str) -> str:
    """
    >>> absolute("\\\\_SB.PCI0", "S10")
    '\\\\_SB.PCI0.S10'
    >>> absolute("\\\\_SB.PCI0.S10", "^^LNKA")
    '\\\\_SB.LNKA'
    """
    if name.startswith("\\"):
        return name if name == "\\" else "\\" + name.lstrip("\\")
    while name.startswith("^"):
        name = name[1:]
        scope = scope.rpartition(".")[0] or "\\"
    if not name:
        return scope
    return f"\\{name}" if scope == "\\" else f"{scope}.{name}"


def namespace(bodies: Iterable[bytes]) -> Mapping[str, str]:
    """The named objects of several tables' AML (without their 36-byte headers), by path.

    AmlError if a table is malformed.
    """
    tables = list(bodies)
    methods: dict[str, int] = {}
    for body in tables:
        Reader(body, methods, bodies=False).terms(len(body), "\\")
    found: dict[str, str] = {}
    for body in tables:
        reader = Reader(body, methods)
        reader.terms(len(body), "\\")
        found.update(reader.found)
    return {path: _readable(path, text) for path, text in found.items()}


def _readable(path: str, text: str) -> str:
    """An EISA id as its letters: ``_HID`` 0x80ad041 is ``"PNP0A08"``."""
    if path.rpartition(".")[2] in ("_HID", "_CID") and text.startswith("0x"):
        return json.dumps(eisa_id(int(text, 16)))
    return text


def eisa_id(number: int) -> str:
    """
    >>> eisa_id(0x080AD041)
    'PNP0A08'
    """
    swapped = int.from_bytes(number.to_bytes(4, "little"), "big")
    letters = "".join(chr(0x40 + (swapped >> shift & 0x1F)) for shift in (26, 21, 16))
    return f"{letters}{swapped & 0xFFFF:04X}"
