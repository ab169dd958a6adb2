"""<redirdev> and <redirfilter>: USB devices of whoever looks at the screen."""

from __future__ import annotations

from dataclasses import replace

from mdtool.guest.elements.character import SOURCE
from mdtool.guest.model import Wanted
from mdtool.guest.table import Context, Device, Prop, number
from mdtool.guest.xml import Element


def filter_rule(element: Element) -> str:
    """One ``<usbdev>`` as QEMU's filter has it: class:vendor:product:version:allow, -1 for any.

    libvirt's version ``2.56`` is a binary coded decimal: ``0x0256``.
    """
    version = element.attributes.get("version", "-1")
    if "." in version:
        major, _, minor = version.partition(".")
        version = f"0x{major:>02}{minor.ljust(2, '0')[:2]}"

    def code(name: str, width: int) -> str:
        value = element.attributes.get(name, "-1")
        return value if value == "-1" else f"0x{int(value, 0):0{width}X}"

    allow = "1" if element.attributes.get("allow") == "yes" else "0"
    return ":".join([code("class", 2), code("vendor", 4), code("product", 4), version, allow])


def _shape(context: Context, wanted: Wanted) -> Wanted:
    rules = [rule for element in context.by_tag.get("redirfilter", ()) for rule in element.all("usbdev")]
    if not rules:
        return wanted
    return replace(wanted, properties={"filter": "|".join(map(filter_rule, rules)), **wanted.properties})


REDIRDEV = Device(
    "redirdev",
    choose="@bus",
    absent="usb",
    drivers={"usb": "usb-redir"},
    props={"bootindex": Prop("boot/@order", number)},
    alias="redir",
    host=SOURCE,
    ignored={"boot/@loadparm": "s390x firmware alone reads it"},
    shape=_shape,
)

REDIRFILTER = Device(
    "redirfilter",
    drivers={"": ""},
    reads=("usbdev/*",),
    shape=lambda _context, _wanted: None,
)
