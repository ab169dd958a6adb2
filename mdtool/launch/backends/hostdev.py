"""Devices of the host that go to the guest."""

from __future__ import annotations

import re
from collections.abc import Callable

from mdtool.errors import InputError
from mdtool.guest.xml import Element
from mdtool.launch.backends.base import Backend, Host, given, option, refused, whole
from mdtool.machine.tree import Node
from mdtool.machine.values import uuid_from_text
from mdtool.text import quoted


def hostdev(element: Element, node: Node | None, host: Host) -> Backend:
    """The host's address of a <hostdev> in the notation of its driver."""
    kind = element.get("@type") or ""
    make = KINDS.get(kind)
    if make is None or element.get("@mode") not in (None, "subsystem"):
        raise refused(element, f"a host device of type {kind!r}")
    return make(element, node, host)


def pci_name(source: Element) -> str:
    """``0000:03:00.1``, from an <address> with domain, bus, slot, function."""
    parts = [whole(source, f"address/@{name}") for name in ("domain", "bus", "slot", "function")]
    if source.first("address") is None:
        raise InputError("<source> without <address>", at=source.position, expected="<address>", rule="missing")
    domain, bus, slot, function = (part or 0 for part in parts)
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def _source(element: Element) -> Element:
    source = element.first("source")
    if source is None:
        raise InputError(f"<{element.tag}> without <source>", at=element.position, expected="<source>", rule="missing")
    return source


def pci(element: Element, _node: Node | None, _host: Host) -> Backend:
    return Backend(properties={"host": pci_name(_source(element))})


def _usb(element: Element, _node: Node | None, _host: Host) -> Backend:
    source = _source(element)
    found: dict[str, str | int] = {}
    bus, device = whole(source, "address/@bus"), whole(source, "address/@device")
    port = source.get("address/@port")
    if bus is not None and port is not None:  # whatever is plugged in there
        if not re.fullmatch(r"[0-9]{1,3}(\.[0-9]{1,3}){0,5}", port):
            what, expected = f"{quoted(port)} is not a USB port", "a number, and another for each hub: 1.2"
            raise InputError(what, at=source.at("address"), expected=expected, rule="number")
        found |= {"hostbus": bus, "hostport": port}
    elif bus is not None and device is not None:
        found["hostdevice"] = f"/dev/bus/usb/{bus:03d}/{device:03d}"
    for tag, name in (("vendor", "vendorid"), ("product", "productid")):
        number = whole(source, f"{tag}/@id")
        if number is not None and bus is None:
            found[name] = number
    if not found:
        raise InputError("a USB host device without an address or ids", at=source.position, rule="missing")
    return Backend(properties=found)


def _scsi(element: Element, node: Node | None, _host: Host) -> Backend:
    source = _source(element)
    if source.get("@protocol") == "iscsi":
        raise refused(element, "a SCSI device behind iSCSI", path="source/@protocol")
    name = given(source, "adapter/@name").removeprefix("scsi_host")
    bus, target, unit = (whole(source, f"address/@{part}") or 0 for part in ("bus", "target", "unit"))
    id = f"{node.id if node is not None else 'hostdev'}-drive"
    # The generic device's name is only known to sysfs; its link is stable
    path = f"/dev/bsg/{name}:{bus}:{target}:{unit}"
    readonly = element.first("readonly") is not None
    words = option("-blockdev", driver="host_device", node_name=id, filename=path, read_only=readonly)
    shared = {"share-rw": True} if element.first("shareable") is not None else {}
    return Backend(words, {"drive": id, **shared})


def _scsi_host(element: Element, _node: Node | None, _host: Host) -> Backend:
    return Backend(properties={"wwpn": given(_source(element), "@wwpn")})


def _mdev(element: Element, _node: Node | None, _host: Host) -> Backend:
    source = _source(element)
    try:
        uuid = uuid_from_text(given(source, "address/@uuid"))
    except ValueError as expected:
        at = source.at("address/@uuid")
        raise InputError("<hostdev>: not the uuid of a device", at=at, expected=str(expected), rule="uuid") from None
    return Backend(properties={"sysfsdev": f"/sys/bus/mdev/devices/{uuid}"})


KINDS: dict[str, Callable[[Element, Node | None, Host], Backend]] = {
    "pci": pci,
    "usb": _usb,
    "scsi": _scsi,
    "scsi_host": _scsi_host,
    "mdev": _mdev,
}
