"""What a bus is, in one place: every fact about buses, addresses and the devices that provide buses is a row here.

kinds       a row a kind of bus: its types, what sits there, how an address is written, libvirt's word for it, hot-plug
providers   a row a device that provides buses: how many, of which type, how they are named; libvirt's type and model
pci         a row a PCI controller: what fits on its bus, its slots, its numbers
addresses   a row a type of libvirt's ``<address>``: its numbers, their limits, how they are written
limits      which addresses a bus has: SCSI, IDE, USB ports and speeds
"""

from mdtool.machine.buses.addresses import ADDRESSES
from mdtool.machine.buses.kinds import (
    EXCLUSIVE,
    EXPANDERS,
    KINDS,
    KNOWN_BUSES,
    PCI_BUSES,
    PORTS_ONLY,
    SHARED,
    Kind,
    bus_of_the_machine,
    form_of,
    homes,
    is_hot_plugged,
    kind_of_bus,
    kind_of_driver,
)
from mdtool.machine.buses.pci import PCI_MODELS, is_port
from mdtool.machine.buses.providers import (
    PROVIDERS,
    buses_of,
    controller_of,
    libvirt_index,
    provider_of,
)

__all__ = [
    "ADDRESSES",
    "EXCLUSIVE",
    "EXPANDERS",
    "KINDS",
    "KNOWN_BUSES",
    "PCI_BUSES",
    "PCI_MODELS",
    "PORTS_ONLY",
    "PROVIDERS",
    "SHARED",
    "Kind",
    "bus_of_the_machine",
    "buses_of",
    "controller_of",
    "form_of",
    "homes",
    "is_hot_plugged",
    "is_port",
    "kind_of_bus",
    "kind_of_driver",
    "libvirt_index",
    "provider_of",
]
