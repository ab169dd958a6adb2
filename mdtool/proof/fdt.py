"""Flattened device tree blobs (what arm's and riscv's virt machines hand to their firmware), read into paths.

Version 17 of the format, Devicetree Specification 0.4, chapter 5.  It is five tokens, so that no library is needed.
"""

from __future__ import annotations

from collections.abc import Mapping

from mdtool.errors import MdtoolError

MAGIC, BEGIN, END, PROPERTY, NOP, FINISH = 0xD00DFEED, 1, 2, 3, 4, 9
#: random at every start, by design
RANDOM = frozenset({"rng-seed", "kaslr-seed"})

Fdt = Mapping[str, Mapping[str, bytes]]


def fdt_from_bytes(blob: bytes) -> Fdt:
    """Properties by the path of their node: ``{"/": {"compatible": b"linux,dummy-virt\\0"}, "/memory@40000000": ...}``.

    MdtoolError where the bytes are no device tree.
    """

    def word(at: int) -> int:
        return int.from_bytes(blob[at : at + 4], "big")

    if len(blob) < 40 or word(0) != MAGIC:
        raise MdtoolError("not a device tree blob", expected=f"magic {MAGIC:#x}")
    at, strings = word(8), word(12)
    found: dict[str, dict[str, bytes]] = {}
    path: list[str] = []
    while at + 4 <= len(blob):
        token, at = word(at), at + 4
        if token == BEGIN:
            end = blob.index(b"\0", at)
            path.append(blob[at:end].decode())
            found[_joined(path)] = {}
            at = end + 4 & ~3
        elif token == END:
            path.pop()
        elif token == PROPERTY:
            size, name = word(at), strings + word(at + 4)
            found[_joined(path)][blob[name : blob.index(b"\0", name)].decode()] = blob[at + 8 : at + 8 + size]
            at = at + 8 + size + 3 & ~3
        elif token == FINISH:
            return found
        elif token != NOP:
            raise MdtoolError(f"a device tree blob with token {token:#x}, at byte {at - 4}")
    raise MdtoolError("a device tree blob that ends early")


def _joined(path: list[str]) -> str:
    return "/".join(path) or "/"


def facts(fdt: Fdt) -> dict[str, dict[str, str]]:
    """The tree as text: strings quoted, cells in hex; seeds say only that they are there."""
    return {
        node: {name: "random" if name in RANDOM else value_to_text(value) for name, value in properties.items()}
        for node, properties in fdt.items()
    }


def value_to_text(value: bytes) -> str:
    """
    >>> value_to_text(b"arm,pl011\\0arm,primecell\\0")
    '"arm,pl011", "arm,primecell"'
    >>> value_to_text(bytes([0, 0, 0, 2]))
    '<0x2>'
    """
    if not value:
        return "true"
    if value[-1] == 0 and all(part and all(0x20 <= c < 0x7F for c in part) for part in value[:-1].split(b"\0")):
        return ", ".join(f'"{part.decode()}"' for part in value[:-1].split(b"\0"))
    if len(value) % 4 == 0:
        return f"<{' '.join(hex(int.from_bytes(value[n : n + 4], 'big')) for n in range(0, len(value), 4))}>"
    return f"[{value.hex()}]"


def compatible(fdt: Fdt, name: str) -> Mapping[str, bytes] | None:
    """The first node that says it is compatible with ``name``; None where none does."""
    wanted = name.encode()
    return next((node for node in fdt.values() if wanted in node.get("compatible", b"").split(b"\0")), None)


def cells(value: bytes, widths: list[int]) -> list[int]:
    """The first entry of a ``reg`` or ``ranges``, cut into numbers of so many cells each."""
    numbers = []
    at = 0
    for width in widths:
        numbers.append(int.from_bytes(value[at : at + 4 * width], "big"))
        at += 4 * width
    return numbers
