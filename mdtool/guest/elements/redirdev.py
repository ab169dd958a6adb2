"""<redirdev> and <redirfilter>: USB devices of the person at the screen."""

from __future__ import annotations

import re

from mdtool.errors import InputError
from mdtool.guest.convert import number, positive
from mdtool.guest.elements.character import SOURCE
from mdtool.guest.model import Wanted
from mdtool.guest.table import ElementContext, ElementRow, Prop
from mdtool.guest.xml import Element
from mdtool.records import replace


def filter_rule(element: Element) -> str:
    """One ``<usbdev>`` as QEMU's filter has it: class:vendor:product:version:allow, -1 for any.

    libvirt's version ``2.56`` is a binary coded decimal: ``0x0256``.  Raises ValueError if a number is malformed.
    """

    def code(name: str, width: int) -> str:
        value = element.attributes.get(name, "-1")
        return value if value == "-1" else f"0x{number(value):0{width}X}"

    version = element.attributes.get("version", "-1")
    if version != "-1":
        parts = re.fullmatch(r"([0-9]{1,2})\.([0-9]{1,2})", version)
        if not parts:
            raise ValueError("a version such as 2.56")
        version = f"0x{parts[1]:>02}{parts[2]:0<2}"
    allow = "1" if element.attributes.get("allow") == "yes" else "0"
    return ":".join([code("class", 2), code("vendor", 4), code("product", 4), version, allow])


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    rules = []
    for element in (rule for holder in context.by_tag.get("redirfilter", ()) for rule in holder.all("usbdev")):
        try:
            rules.append(filter_rule(element))
        except ValueError as expected:
            context.report.error(
                InputError(
                    "a rule of the filter has a malformed number",
                    at=element.position,
                    expected=str(expected),
                    rule="value-valid",
                )
            )
    return replace(wanted, properties={"filter": "|".join(rules), **wanted.properties}) if rules else wanted


REDIRDEV = ElementRow(
    "redirdev",
    choose="@bus",
    absent="usb",
    drivers={"usb": "usb-redir"},
    props={"bootindex": Prop("boot/@order", positive)},
    alias="redir",
    host=SOURCE,
    shape=_shape,
)

REDIRFILTER = ElementRow(
    "redirfilter",
    drivers={"": ""},
    reads=("usbdev/*",),
    shape=lambda _context, _wanted: None,
)
