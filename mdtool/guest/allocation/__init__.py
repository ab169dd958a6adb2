"""Where devices without an address go: one module a kind of bus, each a pure function over the wanted devices.

order           libvirt's arrays: the order in which devices of a kind are looked at
controllers     controllers as values: the drivers of each model, an implied one as a Wanted
occupied        what is taken besides the wanted devices: built-ins, manual nodes, retired addresses
needs           what each PCI device plugs into
pci_buses       PCI buses being filled, and those that are added
pci             slots, functions, ports and bridges
usb             ports, and hubs where ports run out
drives          controller, bus, target and unit of disks
numbered        buses whose places are numbers: virtio-serial ports, ccid slots, ccw, sPAPR reg, DIMM slots
"""
