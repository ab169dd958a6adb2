"""<watchdog>: what counts down while the guest lives."""

from __future__ import annotations

from mdtool.guest.host import carried
from mdtool.guest.table import ElementRow

WATCHDOG = ElementRow(
    "watchdog",
    choose="@model",
    drivers={"i6300esb": "i6300esb", "ib700": "ib700", "diag288": "diag288", "itco": ""},
    alias="watchdog",
    host={"@action": carried("misc", "what the host does when it runs out")},
)
