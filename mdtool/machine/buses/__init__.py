"""What a bus is, in one place: every fact about buses, addresses and the devices that provide buses is a row here.

kinds       a row a kind of bus: its types, what sits there, how an address is written, libvirt's word for it, hot-plug
providers   a row a device that provides buses: how many, of which type, how they are named; libvirt's type and model
pci         a row a PCI controller: what fits on its bus, its slots, its numbers
addresses   a row a type of libvirt's ``<address>``: its numbers, their limits, how they are written
limits      which addresses a bus has: SCSI, IDE, USB ports and speeds
"""
