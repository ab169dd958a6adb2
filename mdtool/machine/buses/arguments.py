"""A node as ``-device`` takes it, in libvirt's spelling."""

from __future__ import annotations

from mdtool.errors import InputError
from mdtool.machine.buses.kinds import PCI, PCI_ADDRESS, kind_of_driver
from mdtool.machine.buses.providers import provider_of
from mdtool.machine.tree import Node, Value

#: Addresses without which a device goes to the first bus that has room: libvirt names none.
_PLACED_BY_QEMU = ("virtio-serial",)


def device_arguments(bus_name: str | None, node: Node, parent: Node | None = None) -> dict[str, Value]:
    """What ``-device`` gets for a node: driver, id, bus, address and properties, as libvirt spells them.

    ``parent`` is the node whose bus it is: on a narrow SCSI controller libvirt names a drive's target alone.

    >>> device_arguments("pci.1", Node("virtio-net-pci", "net0", "00.0", properties={"mac": "52:54:00:00:00:01"}))
    {'driver': 'virtio-net-pci', 'id': 'net0', 'bus': 'pci.1', 'addr': '0x0', 'mac': '52:54:00:00:00:01'}
    """
    kind = kind_of_driver(node.driver)
    arguments: dict[str, Value] = {"driver": node.driver}
    if node.id is not None:
        arguments["id"] = node.id
    if bus_name and kind.named and (node.address is not None or kind.address not in _PLACED_BY_QEMU):
        arguments["bus"] = bus_name
    if node.address is not None and (kind is not PCI or PCI_ADDRESS.match(node.address)):
        try:
            arguments |= kind.write(node.address, node)
        except ValueError:
            raise InputError(
                f"{node.id or node.driver}: {node.address!r} is not a place for {node.driver}",
                at=node.position,
                remedy="give it an address of its own bus, or none",
                rule="address-notation",
            ) from None
    unsaid = provider_of(parent.driver).unsaid if parent is not None else ()
    if not any(map(arguments.get, unsaid)):
        arguments = {name: value for name, value in arguments.items() if name not in unsaid}
    return arguments | dict(node.properties)
