"""Machine types: a row a family, with what it has by itself.

A machine without a row is left to QEMU: nothing is reported as missing from it, and where the guest XML says which root
its PCI buses have, that is believed.  Measured on QEMU 7.2 and 11.1 (``info qtree``) and on libvirt 9.0 (``virsh
domxml-to-native``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType

from mdtool.machine.tree import Tree, Value
from mdtool.machine.values import plain
from mdtool.records import NamedTuple
from mdtool.text import pattern


class Preferred(NamedTuple):
    """Slots of the root bus in the order in which they are tried.

    ``bare``           only for a device without an <address>: else libvirt looks where any other device goes
    ``multifunction``  whether other functions of the slot are for its companions
    """

    slots: tuple[int, ...]
    bare: bool = False
    multifunction: bool = False


class Family(NamedTuple):
    """One row.

    ``types``      machine types: the name itself and what begins with it and a ``-``
    ``arches``     libvirt's architectures, where the name alone does not say it
    ``aliases``    other names of the newest one
    ``root``       libvirt's model of PCI controller 0, "" for a machine without PCI
    ``root_bus``   the name that QEMU gives to PCI bus 0
    ``buses``      all buses that it has, empty where these rows do not list them
    ``devices``    bus -> address -> its own device there (``1f.*``: the whole slot)
    ``parts``      its own devices that can be left out -> the machine property that does it, and its value then
    ``usb``        address on the root bus -> what the machine property ``usb`` brings there
    ``controllers``  libvirt's (type, model) of its own controllers of index 0 -> slot and function on the root bus
    ``preferred``  where real hardware has it: (type, model) of a controller, or ("sound", driver) -> Preferred
    ``video``      the slot of the primary video card, None where it takes the next that is free
    ``has_isa``    whether it has an ISA bus
    ``has_mmio``   whether a virtio device at a virtio-mmio slot has the others beside it there
    ``has_ide``    whether it has an IDE controller, ``ide_units`` how many drives are on each of its buses
    ``families``   buses that a controller brings, whose names start so
    ``ram``        the name of its RAM, where no binary is at hand to ask
    """

    types: tuple[str, ...]
    root: str = ""
    root_bus: str = ""
    arches: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    buses: tuple[str, ...] = ()
    devices: Mapping[str, Mapping[str, str]] = MappingProxyType({})
    parts: Mapping[str, tuple[str, Value]] = MappingProxyType({})
    usb: Mapping[str, str] = MappingProxyType({})
    controllers: Mapping[tuple[str, str], tuple[int, int]] = MappingProxyType({})
    preferred: Mapping[tuple[str, str], Preferred] = MappingProxyType({})
    video: int | None = None
    has_ide: bool = False
    has_isa: bool = False
    has_mmio: bool = False
    ide_units: int = 1
    families: tuple[str, ...] = ("usb-bus.", "ide.", "floppy-bus.", "i2c", "virtio-mmio-bus.", "pxb")
    ram: str | None = None

    def reserved(self, tree: Tree) -> dict[str, dict[str, str]]:
        """{bus: {address: driver}} of this tree's machine."""
        properties = tree.machine.get("properties", {})
        gone = {who for who, (name, _) in self.parts.items() if plain(properties.get(name, True)) == "off"}
        found = {bus: {at: who for at, who in held.items() if who not in gone} for bus, held in self.devices.items()}
        if self.usb and plain(properties.get("usb", False)) == "on":
            found[self.root_bus] |= self.usb
        return found

    def slots(self) -> tuple[tuple[int, int], ...]:
        """Slot and function of its own devices on the root bus, beside its host bridge."""
        places = ((int(at[:2], 16), int(at[3])) for at in self.devices.get(self.root_bus, {}))
        return tuple(place for place in places if place[0])


_ISA = ("isa.0", "main-system-bus")
_PC_PARTS: Mapping[str, tuple[str, Value]] = {
    "hpet": ("hpet", False),
    "vmport": ("vmport", "off"),
    "i8042": ("i8042", False),
    "isa-pit": ("pit", "off"),
}
Q35 = Family(
    ("pc-q35",),
    "pcie-root",
    "pcie.0",
    aliases=("q35",),
    buses=("pcie.0", *_ISA, *(f"ide.{unit}" for unit in range(6))),
    devices={"pcie.0": {"00.0": "mch", "1f.0": "ICH9-LPC", "1f.2": "ich9-ahci", "1f.3": "ICH9-SMB"}},
    parts={**_PC_PARTS, "ich9-ahci": ("sata", False), "ICH9-SMB": ("smbus", False)},
    usb={**{f"1d.{n - 1}": f"ich9-usb-uhci{n}" for n in (1, 2, 3)}, "1d.7": "ich9-usb-ehci1"},
    controllers={("sata", "ahci"): (0x1F, 2)},
    preferred={
        ("usb", "ich9-uhci1"): Preferred((0x1D, 0x1A), multifunction=True),
        ("pci", "dmi-to-pci-bridge"): Preferred((0x1E,), bare=True),
        ("sound", "ich9-intel-hda"): Preferred((0x1B,)),
    },
    video=1,
    has_isa=True,
    ram="pc.ram",
)
I440FX = Family(
    ("pc-i440fx", "pc-0", "pc-1"),
    "pci-root",
    "pci.0",
    aliases=("pc",),
    buses=("pci.0", *_ISA, "ide.0", "ide.1", "floppy-bus.0"),
    devices={"pci.0": {"00.0": "i440FX", "01.0": "PIIX3", "01.1": "piix3-ide", "01.3": "PIIX4_PM"}},
    parts={**_PC_PARTS, "PIIX4_PM": ("acpi", "off")},
    usb={"01.2": "piix3-usb-uhci"},
    controllers={
        **dict.fromkeys([("ide", "piix3"), ("ide", "piix4"), ("ide", "ich6")], (1, 1)),
        ("usb", "piix3-uhci"): (1, 2),
    },
    video=2,
    has_isa=True,
    has_ide=True,
    ide_units=2,
    ram="pc.ram",
)
VIRT = Family(
    ("virt",),
    "pcie-root",
    "pcie.0",
    arches=("aarch64", "arm", "armv7l", "armv6l", ""),
    buses=("pcie.0", "main-system-bus"),
    devices={"pcie.0": {"00.0": "gpex-root"}},
    has_mmio=True,
    ram="mach-virt.ram",
)

#: the first row that names a machine counts; the last ones stand for whatever else an architecture has
FAMILIES: tuple[Family, ...] = (
    Q35,
    I440FX,
    VIRT,
    VIRT._replace(arches=("riscv64", "riscv32"), ram="riscv_virt_board.ram"),
    VIRT._replace(arches=("loongarch64",), has_mmio=False, ram="loongarch.ram"),
    Family(("isapc",), has_ide=True, has_isa=True),
    Family(("microvm",), has_isa=True, ram="microvm.ram"),
    Family(("pseries",), "pci-root", "pci.0", ram="ppc_spapr.ram"),
    Family(("s390-ccw-virtio",), "pci-root", "pci.0", ram="s390.ram"),
    Family(("g3beige",), "pci-root", "pci.0", has_ide=True),
    Family(("mac99", "bamboo", "sam460ex"), "pci-root", "pci.0"),
    Family(("40p", "pegasos2"), "pci-root", "pci.0", has_isa=True),
    Family(("malta", "sun4u"), "pci-root", "pci", has_ide=True, has_isa=True),
    Family(("clipper",), "pci-root", "pci", has_isa=True),
    Family(("versatilepb", "versatileab", "r2d"), "pci-root", "pci"),
    Family((), "pci-root", "pci.0", arches=("ppc", "ppc64", "ppc64le", "s390", "s390x")),
    Family((), "pci-root", "pci", arches=("alpha", "sh4", "sh4eb", "sparc64")),
)


_TARGET = pattern(r"qemu-system-(\w+)[^/]*$")  # of the file, and of no folder


def target_of_binary(path: str) -> str | None:
    """The architecture that the name of a QEMU says, in QEMU's word; None where it says none, as ``qemu-kvm``.

    >>> target_of_binary("/usr/bin/qemu-system-ppc64"), target_of_binary("/opt/qemu-system-arm/qemu-kvm")
    ('ppc64', None)
    """
    found = _TARGET.search(path)
    return found[1] if found else None


@lru_cache(maxsize=256)
def family_of(machine: str, arch: str = "") -> Family | None:
    """The row of a machine type; None for one that no row knows.

    ``arch`` is libvirt's, "" where it is not known.

    >>> family_of("q35").root_bus, family_of("mac99", "ppc").root, family_of("raspi3b", "aarch64")
    ('pcie.0', 'pci-root', None)
    """
    for row in FAMILIES:
        named = machine in row.aliases or any(
            machine == name or machine.startswith((f"{name}-", f"{name}.")) for name in row.types
        )
        if (named or not row.types) and (not row.arches or arch in row.arches):
            return row
    return None


_NUMBERED = pattern(r".+[-.]\d.*")


def is_version(machine: str) -> bool:
    """Whether a name is one machine type for good, and no alias of the newest one; distributions have names of their own.

    >>> [is_version(name) for name in ("pc-q35-7.2", "virt-rhel9.6.0", "pc-i440fx-noble", "q35", "virt", "mac99")]
    [True, True, True, False, False, False]
    """
    return bool(_NUMBERED.fullmatch(machine)) or any(
        machine.startswith(f"{name}-") for row in FAMILIES for name in row.types
    )


def is_other_board(machine: str, other: str, arch: str = "") -> bool:
    """Whether two machine types are of two rows; None for a type without a row.

    >>> is_other_board("pc", "pc-q35-7.2"), is_other_board("q35", "pc-q35-rhel9.6.0"), is_other_board("q35", "raspi3b")
    (True, False, False)
    """
    rows = family_of(machine, arch), family_of(other, arch)
    return None not in rows and rows[0] is not rows[1]


#: machine types, and what is theirs unless QEMU is started with -nodefaults: a driver, or all that is on a kind of bus;
#: since which version
_BY_DEFAULT = (
    (pattern(r"powernv\d*"), "pnv-phb-root-port", 0),
    (pattern("40p"), "prep-systemio", 0),
    (pattern("sam460ex"), "sii3112", 0),
    (pattern("A400|B160L|C3700"), "lsi53c895a", 8),
    (pattern("715"), "lasi-ncr710", 8),
    (pattern(r"ast\d.*|.*-bmc"), "SSI", 8),
)


#: options for what QEMU adds by default, and the elements that stand for it
DEFAULTS: Mapping[str, tuple[str, ...]] = {
    "serial": ("serial", "console"), "parallel": ("parallel",), "monitor": (), "net": (), "vga": (),
}  # fmt: skip


def is_by_default(machine: str, version: int, own: Iterable[tuple[str, str]]) -> bool:
    """Whether a machine has what it lacks with -nodefaults; ``own`` are its own drivers, each with its kind of bus.

    >>> is_by_default("powernv9", 7, [("pnv-phb-root-port", "pnv-phb4-root")]), is_by_default("powernv9", 7, [])
    (True, False)
    """
    names = {driver for types, driver, since in _BY_DEFAULT if version >= since and types.fullmatch(machine)}
    return bool(names) and any(not names.isdisjoint(one) for one in own)


#: aliases, and an example of what they stand for
ALIASES = {"q35": "pc-q35-7.2", "pc": "pc-i440fx-7.2", "virt": "virt-7.2", "pseries": "pseries-7.2"} | {
    "s390-ccw-virtio": "s390-ccw-virtio-7.2"
}
#: beginnings of the boards whose own sound takes its back end from ``-machine audiodev``
_SOUND_ON_BOARD = (
    "40p", "fuloong2e", "integratorcp", "musicpal", "pegasos", "q800", "realview-", "versatile", "vexpress-", "xlnx-zcu102",
    "akita", "borzoi", "cheetah", "n800", "n810", "spitz", "terrier", "z2",
)  # fmt: skip


def needs_audiodev(machine: str, version: Callable[[], tuple[int, ...]]) -> bool:
    """Whether a board's own sound needs a back end, or QEMU opens the host's or does not start.

    >>> needs_audiodev("versatilepb", lambda: (11, 1)), needs_audiodev("versatilepb", lambda: (7, 2))
    (True, False)
    """
    return machine.startswith(_SOUND_ON_BOARD) and version() >= (8, 2)


#: libvirt's architecture -> the machine that it takes where the XML names none
PREFERRED: Mapping[str, str] = {
    "x86_64": "pc",
    "i686": "pc",
    "aarch64": "virt",
    "armv7l": "virt",
    "riscv64": "virt",
    "s390x": "s390-ccw-virtio",
    "ppc64": "pseries",
    "ppc64le": "pseries",
    "ppc": "g3beige",
    "alpha": "clipper",
    "sparc64": "sun4u",
    "mips": "malta",
    "mipsel": "malta",
}
