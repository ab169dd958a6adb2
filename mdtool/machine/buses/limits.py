"""Which addresses a bus has: SCSI by controller, IDE, floppies, codecs, cards, serial ports, and USB ports with speeds."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping

from mdtool.machine.tree import Node, Place, Properties
from mdtool.machine.values import plain

#: largest (channel, id, lun) by controller
_SCSI: Mapping[str, tuple[int, int, int]] = {
    "virtio-scsi": (0, 255, 16383),
    "vhost": (0, 255, 16383),
    "lsi": (0, 7, 0),
    "megasas": (0, 64, 255),
    "pvscsi": (0, 64, 0),
    "am53c974": (0, 7, 7),
    "dc": (0, 7, 7),
    "mptsas1068": (0, 8, 1),
    "spapr-vscsi": (7, 63, 31),
    "usb-uas": (0, 0, 255),
    "usb-bot": (0, 0, 15),
}

#: a device, the controller of its bus (None: the machine's own), the drives on an IDE bus of the machine -> what is
#: expected where the address is out of range, None where it is fine
Limit = Callable[[Place, Node | None, int], str | None]


def _scsi(place: Place, provider: Node | None, _: int) -> str | None:
    most = next((most for name, most in _SCSI.items() if provider and provider.driver.startswith(name)), None)
    if most is None:
        return None
    said = [int(part) for part in str(place.node.address).split(":")]
    fits = all(0 <= value <= limit for value, limit in zip(said, most, strict=True))
    names = ("channel", "id", "lun")
    return None if fits else ", ".join(f"{n} 0 to {m}" if m else f"{n} 0" for n, m in zip(names, most, strict=True))


def _ide(place: Place, provider: Node | None, ide_units: int) -> str | None:
    is_ahci = provider is not None and provider.driver.endswith("ahci")
    units = 2 if provider is not None and not is_ahci else 1 if is_ahci else ide_units
    return None if int(str(place.node.address)) < units else "unit 0" if units == 1 else "unit 0 or 1"


def _up_to(highest: int, says: str) -> Limit:
    """A limit that is the same on every controller."""
    return lambda place, _provider, _ide_units: None if int(str(place.node.address)) <= highest else says


def _serial_port(place: Place, provider: Node | None, _: int) -> str | None:
    most = _count(provider, "max_ports", 31) if provider else 31
    first = 1 if place.node.driver == "virtserialport" else 0
    return None if first <= int(str(place.node.address)) < most else f"{first} to {most - 1}"


LIMITS: Mapping[str, Limit] = {
    "SCSI": _scsi,
    "IDE": _ide,
    "floppy-bus": _up_to(1, "unit 0 or 1"),
    "HDA": _up_to(14, "a codec address from 0 to 14"),
    "ccid-bus": _up_to(0, "slot 0, the only one"),
    "virtio-serial-bus": _serial_port,
}

# --- USB -------------------------------------------------------------------------------------------------------------

_LOW = frozenset({"full"})  # low and full speed go together on every controller
_HIGH, _SUPER = frozenset({"high"}), frozenset({"super"})
_SPEEDS: Mapping[str, frozenset[str]] = {
    "usb-uas": _HIGH | _SUPER,
    **dict.fromkeys(("usb-bot", "usb-storage"), _LOW | _HIGH | _SUPER),
    **dict.fromkeys(("usb-tablet", "usb-kbd", "usb-mouse", "usb-mtp"), _LOW | _HIGH),
    **dict.fromkeys(
        ("usb-hub", "usb-ccid", "usb-wacom-tablet", "usb-net", "usb-audio", "usb-serial", "usb-braille", "u2f-passthru"),
        _LOW,
    ),
}


def usb_speeds(driver: str, properties: Properties) -> frozenset[str]:
    """The speeds that a USB device can use; empty where the host's device decides (usb-host, usb-redir)."""
    if driver in ("usb-tablet", "usb-kbd", "usb-mouse") and plain(properties.get("usb_version")) == "1":
        return _LOW
    return _SPEEDS.get(driver, frozenset())


def usb_ports(bus: str, provider: Node | None, places: Iterable[Place]) -> dict[str, frozenset[str]]:
    """{port: speeds} of a USB bus with the hubs on it; empty where the controller is not known."""
    ports = _controller_ports(provider) if provider is not None else {}
    if not ports:
        return {}
    places = list(places)
    if ports["1"] == _HIGH:
        for place in places:  # companions take over what is too slow for the controller
            if plain(place.node.properties.get("masterbus")) == bus:
                first = _count(place.node, "firstport", 0)
                for count in range(first + 1, first + len(_controller_ports(place.node)) + 1):
                    ports[str(count)] = ports.get(str(count), frozenset()) | _LOW
    for place in places:
        if place.bus is not None and place.bus.name == bus and place.node.driver == "usb-hub":
            for count in range(1, _count(place.node, "ports", 8) + 1):
                ports[f"{place.node.address}.{count}"] = _LOW
    return ports


def _controller_ports(node: Node) -> dict[str, frozenset[str]]:
    if re.match(r"(qemu|nec-usb)-xhci", node.driver):
        usb2, usb3 = (min(max(_count(node, name, 4), 1), 15) for name in ("p2", "p3"))
        return {
            str(count): (_LOW | _HIGH if count <= usb2 else frozenset()) | (_SUPER if count <= usb3 else frozenset())
            for count in range(1, max(usb2, usb3) + 1)
        }
    if "ehci" in node.driver:
        return {str(count): _HIGH for count in range(1, 7)}
    if "uhci" in node.driver:
        return {str(count): _LOW for count in (1, 2)}
    if node.driver == "pci-ohci":
        return {str(count): _LOW for count in range(1, _count(node, "num-ports", 3) + 1)}
    return {}


def _count(node: Node, name: str, absent: int) -> int:
    """A number among the properties; ``absent`` if there is none, or if it is not a number."""
    text = str(plain(node.value(name, absent)))
    return int(text) if re.fullmatch(r"-?[0-9]+", text) else absent
