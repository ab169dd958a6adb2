"""<hub>: more USB ports."""

from __future__ import annotations

from mdtool.guest.table import ElementRow

HUB = ElementRow("hub", choose="@type", drivers={"usb": "usb-hub"}, alias="hub")
