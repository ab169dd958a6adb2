"""<input>: mice, keyboards, tablets, and event devices of the host handed through."""

from __future__ import annotations

from mdtool.guest.host import carried
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow
from mdtool.records import replace


def default_bus(context: ElementContext) -> str:
    """The bus that libvirt takes: PS/2 for the mouse and the keyboard of an x86 machine, USB for everything else."""
    guest, kind = context.guest, context.get("@type")
    if kind in ("passthrough", "evdev"):
        return "virtio" if kind == "passthrough" else ""
    if guest.is_s390:
        return "virtio"
    return "ps2" if kind in ("mouse", "keyboard") and guest.is_x86 else "usb"


def _choice(context: ElementContext) -> str:
    kind = context.get("@type")
    return kind if kind == "evdev" else f"{context.get('@bus') or default_bus(context)}/{kind}"


def _shape(context: ElementContext, wanted: Wanted) -> Wanted | None:
    bus, _, kind = wanted.facts["choice"].partition("/")
    if bus == "evdev":
        return None
    return replace(wanted, facts={**wanted.facts, "bus": bus, "type": kind})


INPUT = ElementRow(
    "input",
    choose=_choice,
    drivers={
        "ps2/mouse": "",
        "ps2/keyboard": "",
        "usb/mouse": "usb-mouse",
        "usb/keyboard": "usb-kbd",
        "usb/tablet": "usb-tablet",
        "virtio/mouse": "virtio-mouse-*",
        "virtio/keyboard": "virtio-keyboard-*",
        "virtio/tablet": "virtio-tablet-*",
        "virtio/passthrough": "virtio-input-host-*",
        "evdev": "",
    },
    props={**VIRTIO},
    alias="input",
    reads=("@type", "@bus"),
    host={
        "source/@evdev": carried("misc", "the event device that is handed through"),
        "source/@dev": carried("misc", "the event device that drives the machine's own mouse and keyboard"),
        "source/@grab": carried("misc", "the host's keyboard"),
        "source/@repeat": carried("misc", "the host's keyboard"),
        "source/@grabToggle": carried("misc", "the host's keyboard"),
    },
    ignored={"@model": "an input device has no transitional form"},
    shape=_shape,
)
