"""Nodes of a description as libvirt's places, and back to the devices that the XML wants."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mdtool.guest.model import Address, Wanted
from mdtool.machine.buses.kinds import KINDS, PCI_ADDRESS, Kind, kind_of_bus, kind_of_driver
from mdtool.machine.buses.pci import targets_of
from mdtool.machine.buses.providers import NARROW, buses_of, controller_of, libvirt_index
from mdtool.machine.tree import BUILTIN, Node, Tree
from mdtool.machine.values import decimal, small_number
from mdtool.records import dataclass, replace


def address_from_node(bus_name: str, node: Node, tree: Tree) -> Address | None:
    """libvirt's place of a node on a bus; None if libvirt cannot express it.

    On a bus of a device that libvirt did not number (of <qemu:commandline>, added by hand) it is of type ``qemu``: bus
    and address as QEMU has them.  A PCI address says ``alone`` where function 0 does not announce further functions:
    nothing may be put beside it, since its guest would notice.  A node without a driver stands for an address alone: its
    bus says what kind it is.
    """
    provider = _providers_of(tree).get(bus_name)
    if provider is None:
        return _on_named_bus(bus_name, node)
    if provider.index is None:
        return Address("qemu", {"on": bus_name, "at": node.address}) if node.address is not None else None
    return _on_controller(provider, provider.index, node)


@dataclass(frozen=True, slots=True)
class _Provider:
    """The controller of a bus in libvirt's terms, and the number of the bus on it; no index where libvirt has none."""

    type: str
    index: int | None
    model: str = ""
    bus: int = 0


def _providers_of(tree: Tree) -> Mapping[str, _Provider]:
    """Bus name -> controller, for every bus of a tree; made once a tree."""
    known: dict[str, _Provider] | None = tree.__dict__.get("_providers")
    if known is None:
        known = dict(_providers(tree))
        tree.__dict__["_providers"] = known  # as cached_property would: the tree itself is frozen
    return known


#: Names that QEMU gives to PCI bus 0.
_ROOT_BUSES = ("pci.0", "pcie.0", "pci")


def _providers(tree: Tree) -> Iterator[tuple[str, _Provider]]:
    q35 = "q35" in str(tree.machine.get("type", ""))
    # A bridge may be called pci.0 where the root is pcie.0, as Proxmox calls one
    roots = {bus.name for bus in tree.buses if bus.name in _ROOT_BUSES} or set(_ROOT_BUSES)
    for bus in tree.all_buses.values():
        if bus.name in roots:
            yield bus.name, _Provider("pci", 0)
        elif re.fullmatch(r"ide\.\d+", bus.name):
            number = small_number(bus.name[4:])
            yield bus.name, _Provider("sata", 0, bus=number) if q35 or number > 1 else _Provider("ide", 0, bus=number)
        elif bus.type == "floppy-bus":
            yield bus.name, _Provider("fdc", 0)
        elif bus.type == "virtual-css-bus" or bus.name.startswith("virtual-css"):
            yield bus.name, _Provider("ccw", 0)
    # A pxb's bus is really that of a bridge which the pxb makes: the device that has an id has the last word.
    for place in sorted(tree.places, key=lambda place: place.node.id is not None):
        node = place.node
        buses = (*node.buses, *buses_of(node.driver, node.id))
        names = {bus.name for bus in buses}
        if not names or re.match(r"ide\.\d+$", min(names)):
            continue
        found, model = controller_of(node.driver)
        type_ = next((kind_of_bus(bus.type).controller for bus in buses if kind_of_bus(bus.type).controller), found)
        if not type_:
            continue
        index = _index(node, type_)
        for name in names - roots:
            suffix = name.rpartition(".")[2]
            number = small_number(suffix) if name != node.id else 0
            yield name, _Provider(type_, index, model, number)


def _index(node: Node, type_: str) -> int | None:
    if node.origin == BUILTIN or (node.id is None and node.origin is None):
        return 0 if type_ != "pci" else None  # the machine's own, of which libvirt numbers no bridge
    return libvirt_index(node, type_)


#: The kind of bus of libvirt's types of controllers other than PCI.
_ON: Mapping[str, Kind] = {kind.controller: kind for kind in KINDS.values()} | {"ide": KINDS["ide"]}


def _on_controller(provider: _Provider, index: int, node: Node) -> Address | None:
    if provider.type == "pci":
        return _on_pci(index, node)
    if provider.type == "sata":
        return Address("drive", {"controller": index, "bus": 0, "target": 0, "unit": provider.bus})
    if node.address is None or provider.type not in _ON:
        return None
    kind = _ON[provider.type]
    try:
        numbers = kind.numbers(node.address)
    except ValueError:
        return None
    if provider.type == "scsi" and provider.model in NARROW:
        numbers = {"bus": provider.bus, "target": 0, "unit": numbers["target"]}
    elif provider.type in ("ide", "fdc"):
        numbers = {"bus": provider.bus, "target": 0, **numbers}
    controller = {"ccw": {}, "usb": {"bus": index}}.get(provider.type, {"controller": index})
    return Address(kind.address, {**controller, **numbers})


def _on_pci(index: int, node: Node) -> Address | None:
    match = PCI_ADDRESS.match(node.address or "")
    if not match:
        return None
    numbers: dict[str, Any] = {"domain": 0, "bus": index, "slot": int(match[1], 16), "function": int(match[2])}
    multifunction = node.value("multifunction")
    if multifunction in (True, "on"):
        numbers["multifunction"] = True
    elif node.properties.get("multifunction") in (False, "off"):
        numbers["multifunction"] = False  # somebody said so
    elif numbers["function"] == 0 and node.driver:
        numbers["alone"] = True
    return Address("pci", numbers)


def _on_named_bus(bus_name: str, node: Node) -> Address | None:
    """The place on a bus that no controller of libvirt's provides."""
    if node.address is None:
        return None
    start = bus_name.partition(".")[0]
    name = {"isa": "isa", "s390-pcibus": "zpci", "spapr-vio": "spapr-vio"}.get(start, "")
    if not bus_name and kind_of_driver(node.driver) is KINDS["dimm"]:
        name = "dimm"
    if not name:
        return None
    try:
        numbers = KINDS[name].numbers(node.address)
    except ValueError:
        return None
    if name == "zpci":
        numbers["fid"] = node.value("fid")
    return Address(name, numbers)


def on_root(address: Address | None) -> Address | None:
    """A place in QEMU's words that is one on the root PCI bus, in libvirt's; None for any other."""
    match = (
        PCI_ADDRESS.match(address["at"])
        if address is not None and address.type == "qemu" and address["on"] in _ROOT_BUSES
        else None
    )
    return Address("pci", {"bus": 0, "slot": int(match[1], 16), "function": int(match[2])}) if match else None


def addresses_from_tree(tree: Tree) -> dict[str, Address]:
    """Name -> libvirt's place, of every node that has one."""
    return {
        place.name: address
        for place in tree.places
        if (address := address_from_node(place.bus.name if place.bus else "", place.node, tree)) is not None
    }


def indices_taken(nodes: Iterable[Node]) -> frozenset[int]:
    """Numbers that new PCI controllers must not have beside these: those in ids (``pci.7``), and chassis numbers."""
    found: set[int] = set()
    for node in nodes:
        if targets_of(node.driver) or controller_of(node.driver)[0] == "pci":
            have = {**node.pins, **node.properties}
            words = [str(have.get("chassis", "")), str(have.get("chassis_nr", "")), (node.id or "").removeprefix("pci.")]
            found |= {index for word in words if (index := decimal(word)) is not None}
    return frozenset(found)


def survivor(wanted: Wanted, node: Node, address: Address | None) -> Wanted:
    """``wanted`` where its node is: the node's id and place, and a controller's numbers that the XML leaves out."""
    have = {**node.pins, **node.properties}
    facts: dict[str, Any] = {}
    if wanted.kind == "controller":
        facts = {target.fact: have[name] for name, target in targets_of(node.driver).items() if name in have}
    properties = (
        {"fid": have["fid"], **wanted.properties} if wanted.driver == "zpci" and "fid" in have else wanted.properties
    )
    return replace(
        wanted, id=node.id, address=address or wanted.address, properties=properties, facts={**facts, **wanted.facts}
    )
