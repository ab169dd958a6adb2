"""Numbers as guest XML writes them."""

from __future__ import annotations

from typing import Any

from mdtool.errors import InputError, choices
from mdtool.guest.xml import Element
from mdtool.machine.values import integer

KIB = 1024
MIB = 1024**2

#: libvirt's units of memory, in bytes: powers of 1000 with B, of 1024 without and with iB
SIZES = {
    **dict.fromkeys(("b", "byte", "bytes"), 1),
    **{f"{prefix}b": 1000**power for power, prefix in enumerate("kmgtpe", start=1)},
    **{f"{prefix}": 1024**power for power, prefix in enumerate("kmgtpe", start=1)},
    **{f"{prefix}ib": 1024**power for power, prefix in enumerate("kmgtpe", start=1)},
}


def names(text: str) -> tuple[str, ...]:
    """The words of a text, for tables of names."""
    return tuple(text.split())


def number(element: Element, path: str, *, base: int = 10) -> int | None:
    """An attribute or text as a number; None where it is absent; raises InputError if it is not a number.

    >>> from mdtool.guest.xml import element_from_bytes
    >>> number(element_from_bytes(b"<domain><vcpu current='2'>4</vcpu></domain>", "web01.xml"), "vcpu/@current")
    2
    """
    text = element.get(path)
    if text is None or text == "":
        return None
    try:
        return integer(text, 0 if text.lower().startswith("0x") else base)
    except ValueError:
        raise InputError(f"{text!r} is not a number", at=element.at(path), expected="a number", rule="number") from None


def bytes_of(text: str | None, unit: str | None, element: Element) -> int:
    """``<memory unit='MiB'>512</memory>`` in bytes; without a unit libvirt counts KiB."""
    factor: int | None = SIZES.get((unit or "KiB").lower())
    if factor is None:
        raise InputError(f"unknown unit {unit!r}", at=element.position, expected=choices(SIZES), rule="unit")
    try:
        return integer(text or "", 10) * factor
    except ValueError:
        raise InputError(
            f"<{element.tag}>: {text!r} is not a number", at=element.position, expected="a number", rule="number"
        ) from None


#: bytes that pieces of memory are a multiple of, where that is more than usual: pseries takes whole logical blocks
_GRANULES = {"ppc64": 256 * MIB, "ppc64le": 256 * MIB}


def rounded(size: int, arch: str, *, usual: int = MIB) -> int:
    """The size of a piece of memory that QEMU gets: libvirt rounds up, that of a memory device to 2 MiB.

    >>> rounded(214 * MIB, "ppc64") // MIB, rounded(214 * MIB + 1, "x86_64") // MIB
    (256, 215)
    """
    granule = _GRANULES.get(arch, usual)
    return -(-size // granule) * granule


def on(value: bool) -> str:
    return "on" if value else "off"


def escaped(text: object) -> str:
    """A value inside of QEMU's key=value notation, where a comma is written twice."""
    return str(text).replace(",", ",,")


def switch(element: Element, path: str) -> bool | None:
    """``on``/``yes`` is True, ``off``/``no`` False, absent None; raises InputError for anything else.

    A feature that stands there without its ``state`` is on: ``<pmu/>``.
    """
    text = element.get(path)
    if text is None:
        return True if path.endswith("/@state") and element.first(path.removesuffix("/@state")) is not None else None
    if text in ("on", "yes"):
        return True
    if text in ("off", "no"):
        return False
    raise InputError(f"{text!r} is neither on nor off", at=element.at(path), expected="on or off", rule="switch")


def spelled(value: Any) -> str:
    """A value as key=value notation has it.

    >>> spelled(True), spelled(2048)
    ('on', '2048')
    """
    return on(value) if isinstance(value, bool) else str(value).replace(",", ",,")
