"""libvirt's ``<address>``: a row a type, with the numbers that it has."""

from __future__ import annotations

from collections.abc import Mapping

from mdtool.records import NamedTuple

#: The highest index of a controller: libvirt makes all those below it that a drive's address takes for granted.
MAX_INDEX = 1023


class Number(NamedTuple):
    """One number of an address.

    ``form``     how libvirt writes it; "" where it is not written back
    ``highest``  the highest that libvirt takes, None where there is no limit
    ``key``      whether two addresses that differ in it are two places
    ``text``     whether it is no number but a text (``1.2`` of a USB port)
    """

    form: str = "{}"
    highest: int | None = None
    key: bool = True
    text: bool = False


_CONTROLLER = Number(highest=MAX_INDEX)
ADDRESSES: Mapping[str, Mapping[str, Number]] = {
    "pci": {
        "domain": Number("0x{:04x}", 0),
        "bus": Number("0x{:02x}", 0xFF),
        "slot": Number("0x{:02x}", 0x1F),
        "function": Number("0x{:x}", 7),
    },
    "drive": {"controller": _CONTROLLER, "bus": Number(), "target": Number(), "unit": Number()},
    "usb": {"bus": Number(), "port": Number(text=True)},
    "virtio-serial": {"controller": _CONTROLLER, "bus": Number(), "port": Number()},
    "ccid": {"controller": _CONTROLLER, "slot": Number()},
    "isa": {"iobase": Number("0x{:x}"), "irq": Number("", key=False)},
    "ccw": {
        "cssid": Number("0x{:x}", 0xFE),
        "ssid": Number("0x{:x}", 3),
        "devno": Number("0x{:04x}", 0xFFFF),
    },
    "spapr-vio": {"reg": Number("0x{:08x}")},
    "dimm": {"slot": Number(), "base": Number("0x{:x}", key=False)},
    "virtio-mmio": {},
    "unassigned": {},
}


def key_names(type_: str) -> tuple[str, ...]:
    """The numbers that make an address of a type one place.

    >>> key_names("virtio-serial")
    ('controller', 'bus', 'port')
    """
    return _KEYS.get(type_, ())


#: mdtool's own types beside libvirt's: the zpci device of s390x, and a place in QEMU's words (see ``guest.model.Address``)
_KEYS: Mapping[str, tuple[str, ...]] = {
    **{type_: tuple(name for name, number in row.items() if number.key) for type_, row in ADDRESSES.items()},
    "zpci": ("uid",),
    "qemu": ("on", "at"),
}
