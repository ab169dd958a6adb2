"""<smartcard>: a card in a USB reader."""

from __future__ import annotations

from mdtool.guest.elements.character import SOURCE
from mdtool.guest.model import Wanted
from mdtool.guest.table import ElementContext, ElementRow
from mdtool.records import replace

DEFAULT_DATABASE = "/etc/pki/nssdb"


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    mode = wanted.facts["choice"]
    properties = dict(wanted.properties)
    if mode == "host":
        properties["backend"] = "nss-emulated"
    if mode == "host-certificates":
        properties["backend"] = "certificates"
        properties |= {
            f"cert{count}": element.text for count, element in enumerate(context.element.all("certificate"), start=1)
        }
        properties["db"] = context.get("database") or DEFAULT_DATABASE
    return replace(wanted, properties=properties, facts={**wanted.facts, "mode": mode})


SMARTCARD = ElementRow(
    "smartcard",
    choose="@mode",
    drivers={
        "host": "ccid-card-emulated",
        "host-certificates": "ccid-card-emulated",
        "passthrough": "ccid-card-passthru",
    },
    alias="smartcard",
    reads=("certificate", "database"),
    host=SOURCE,
    ignored={"target/*": "there is one kind"},
    shape=_shape,
)
