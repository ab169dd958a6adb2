"""What each property of a device is to the guest: data, and nothing else.

    guest      the guest sees it, or its migration stream depends on it: in the description
    host       the host side of a device: in the guest XML
    effective  what the host made of it: recorded apart, since two hosts differ there and nothing else
    state      what the device is doing at the moment: nowhere

A property without a row is taken for a guest property.  The rows were read off the property
tables of QEMU 7.2 to 11.1 (``DEFINE_PROP_*`` in hw/) and what each of them does in its driver.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Literal

from mdtool.machine.tree import Tree, Value
from mdtool.text import pattern

Role = Literal["guest", "host", "effective", "state"]

#: by property, for every driver that has it
ROLES: Mapping[str, Role] = {
    # back ends, by the kind of object they name
    "drive": "host",
    "drive0": "host",
    "drive1": "host",
    "netdev": "host",
    "chardev": "host",
    "chrA": "host",
    "chrB": "host",
    "memdev": "host",
    "pmrdev": "host",
    "lsa": "host",
    "volatile-memdev": "host",
    "persistent-memdev": "host",
    "volatile-dc-memdev": "host",
    "iothread": "host",
    "iothread-vq-mapping": "host",
    "audiodev": "host",
    "fsdev": "host",
    "tpmdev": "host",
    "host-path": "host",
    "jsonfile": "host",
    "cryptodev": "host",
    "rng": "host",
    "canbus": "host",
    "canbus0": "host",
    "canbus1": "host",
    "bmc": "host",
    "hostmem": "host",
    "filename": "host",
    "evdev": "host",
    "display": "host",
    "head": "host",
    "pcap": "host",
    "rendernode": "host",
    "wayland-socket-path": "host",
    "log": "host",
    "shmdev": "host",
    "subsys-dev": "host",
    **{f"chardev{number}": "host" for number in range(9)},
    "mad-chardev": "host",
    "ibdev": "host",
    "hidraw": "host",
    # files and folders, whose names are the host's even where they are not absolute
    "rootdir": "host",
    "cdat": "host",
    "frudatafile": "host",
    "sdrfile": "host",
    # passed-through devices: which one of the host's
    "host": "host",
    "sysfsdev": "host",
    "fd": "host",
    "iommufd": "host",
    "vfio-display": "host",
    "hostbus": "host",
    "hostaddr": "host",
    "hostport": "host",
    "hostdevice": "host",
    "vendorid": "host",
    "productid": "host",
    "guest-reset": "host",
    "guest-resets-all": "host",
    "loglevel": "host",
    "isobufs": "host",
    "isobsize": "host",
    "vhostfd": "host",
    "vhostforce": "host",
    "vhost-scsi": "host",
    "wwpn": "host",
    # how hard the host works, and what it does about errors
    "ioeventfd": "host",
    "rerror": "host",
    "werror": "host",
    "account-invalid": "host",
    "account-failed": "host",
    "stats-intervals": "host",
    "backend_defaults": "host",
    "share-rw": "host",
    "x-txtimer": "host",
    "x-txburst": "host",
    "tx": "host",
    "debug": "host",
    "period": "host",
    "max-bytes": "host",
    "dynamic-memslots": "host",
    "guest-stats-polling-interval": "host",
    "use-timer": "host",
    "buffer-count": "host",
    "latency-micro": "host",
    "xbzrle": "host",
    "prealloc": "host",
    # a disk's default geometry follows from its size
    "cyls": "effective",
    "heads": "effective",
    "secs": "effective",
    "bios-chs-trans": "effective",
    "max_io_size": "effective",
    # what is going on
    "attached": "state",
    "subch_id": "state",
    "size-so-far": "state",
    "hotplugged": "state",
    "realized": "state",
    "sha256": "state",  # of flash: the section ``firmware`` has it
    # what the firmware sets when the guest starts
    "busnr": "state",
    "MCFG": "state",
    "smb_io_base": "state",
}

#: by driver and property, where a driver means something else by it; ``None`` for all of a driver's other properties
BY_DRIVER: Mapping[tuple[str, str], Role] = {
    ("usb-storage", "removable"): "guest",
    ("isa-debugcon", "readback"): "guest",
    ("virtio-mem-pci", "memdev"): "host",
    ("virtio-mem-pci", "size"): "state",
    ("pcie-root-port", "debug"): "guest",
    ("loader", "file"): "host",
    ("guest-loader", "kernel"): "host",
    ("guest-loader", "initrd"): "host",
    ("s390-ipl", "kernel"): "host",
    ("s390-ipl", "initrd"): "host",
    ("hv-syndbg", "host_ip"): "host",
    ("hv-syndbg", "host_port"): "host",
    ("vfio-pci", "display"): "host",
    ("vfio-pci", "vf-token"): "host",
    ("usb-redir", "filter"): "host",
    **{("ccid-card-emulated", name): "host" for name in ("backend", "cert1", "cert2", "cert3", "db")},
}

#: Guest properties that a person chooses, with QEMU's defaults.  They go to the tree document when they
#: differ from that, and all others to the pins.  A table, so that no QEMU has to be asked what its defaults are.
UNCHOSEN: Mapping[str, tuple[Value, ...]] = {
    # identity
    "mac": (),
    "serial": ("",),
    "wwn": (0,),
    "port_wwn": (0,),
    "name": ("",),
    "guid": ("00000000-0000-0000-0000-000000000000",),
    "uuid": ("00000000-0000-0000-0000-000000000000",),
    "vendor": ("", "QEMU", 0),
    "product": ("", "QEMU HARDDISK", "QEMU CD-ROM"),
    "model": ("", "QEMU HARDDISK", "QEMU DVD-ROM"),
    "nsid": (0,),
    "mount_tag": (),
    "tag": (),
    # place
    "bootindex": (-1, None),
    "bootindexA": (-1, None),
    "bootindexB": (-1, None),
    "multifunction": (False,),
    "chassis": (0,),
    "chassis_nr": (0,),
    "port": (0,),
    "slot": (0,),
    "bus_nr": (0,),
    "numa_node": (128, 65535, 4294967295),
    "node": (0,),
    "acpi-index": (0,),
    "failover_pair_id": ("",),
    "fid": (4294967295,),
    "target": ("",),
    # what people change by hand, and want to see
    "p2": (4,),
    "p3": (4,),
    "rombar": (1, -1),  # -1 since QEMU 10
    "mq": (False,),
    "packed": (False,),
    "iommu_platform": (False,),
    "removable": (False,),
}

#: properties of machines that QEMU types OnOffAuto: a string and no bool
ON_OFF_AUTO = frozenset({"smm", "acpi", "pit", "pic", "vmport", "virt-ssd", "rtas"})

#: machine properties that are the host's, the names of objects, what is in another section, or what goes on
NOT_THE_GUESTS = frozenset({
    "type", "accel", "usb", "dump-guest-core", "mem-merge", "memory-backend", "memory-encryption", "aux-ram-share",
    "confidential-guest-support", "pflash0", "pflash1", "pcspk-audiodev", "audiodev", "kernel", "initrd", "append", "dtb",
    "dumpdtb", "firmware", "shim", "phandle-start", "suppress-vmdesc", "kvm-type", "device-memory-region-size",
    "max-fw-size", "bus-lock-ratelimit", "x-change-vmfd-on-reset", "vfio-no-msix-emulation", "igd-passthru",
})  # fmt: skip

#: serials that QEMU numbers itself
NUMBERED = pattern(r"QM\d{5}")

#: strings that a guest reads, and that every version of QEMU has: where a dump has none, it was empty
STRINGS = frozenset({
    "serial", "device_id", "product", "vendor", "ver", "model", "name", "label", "mount_tag", "tag", "guid", "uuid",
    "failover_pair_id", "loadparm",
})  # fmt: skip

#: strings whose emptiness says something: ``romfile`` empty is "no option ROM"
EMPTY_SAYS = frozenset({"romfile"})


def role(driver: str, name: str) -> Role:
    """What a property is to the guest.

    >>> role("virtio-net-pci", "mac"), role("virtio-net-pci", "netdev"), role("ide-hd", "cyls")
    ('guest', 'host', 'effective')
    """
    return BY_DRIVER.get((driver, name)) or ROLES.get(name, "guest")


def is_hosts(driver: str, name: str, value: Value) -> bool:
    """Whether a value is of the host: a property's of its side, or a ROM in a file of its own.

    >>> is_hosts("e1000", "romfile", "/srv/x.rom"), is_hosts("e1000", "romfile", "efi-e1000.rom")
    (True, False)
    """
    return role(driver, name) == "host" or (name == "romfile" and "/" in str(value))


def chosen(driver: str, name: str, value: Value) -> bool:
    """Whether a guest property belongs in the tree document, as something that was chosen, and not in the pins.

    >>> chosen("virtio-net-pci", "mac", "52:54:00:11:22:33"), chosen("pcie-root-port", "multifunction", False)
    (True, False)
    """
    unchosen = UNCHOSEN.get(name)
    if unchosen is None or any(value == one and type(value) is type(one) for one in unchosen):
        return False
    return not (name == "serial" and NUMBERED.fullmatch(str(value)))


def is_told(name: str, value: Value) -> bool:
    """Whether a value says anything: not where nothing is set, and never a path of the host or a QOM link.

    >>> is_told("serial", ""), is_told("romfile", ""), is_told("romfile", "/usr/share/x.rom"), is_told("mount_tag", "/x")
    (False, True, False, True)
    """
    if value is None:
        return False
    if isinstance(value, str):
        is_path = value.startswith("/") and name not in UNCHOSEN  # a name that a person chose is not one of them
        return not is_path and (value != "" or name in EMPTY_SAYS)
    return True


# --- secrets that a guest reads from its hardware: systemd's credentials, the configuration of Ignition ------------------

_STRING = ("io.systemd.credential:", "io.systemd.credential.binary:")
_FILE = ("opt/io.systemd.credentials/", "opt/com.coreos/config", "opt/org.flatcar-linux/config")
_WORD = ("systemd.set_credential=", "systemd.set_credential_binary=")
REMEDY = "hand it over as a file, of which a description has the hash alone: <entry name='opt/...' file='PATH'/>"


def credentials(tree: Tree) -> Iterator[tuple[str, str, str]]:
    """(section, key, what is said of it) for each that a description has in the clear; never the secret itself."""
    texts: Any = (tree.smbios.get("type11", ()), tree.features.get("fw_cfg", {}), str(tree.boot.get("append", "")).split())
    found = [("smbios", "type11", text.partition("=")[0]) for text in map(str, texts[0]) if text.startswith(_STRING)]
    found += [("features", "fw_cfg", name) for name in texts[1] if str(name).startswith(_FILE)]
    found += [("boot", "append", word.partition(":")[0]) for word in texts[2] if word.startswith(_WORD)]
    for section, key, name in found:
        yield section, key, f"{section}: {name} is a secret of the guest, and stands in the description in the clear"
