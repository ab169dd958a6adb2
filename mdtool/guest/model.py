"""What a guest XML asks for, before anything is placed.

    Guest      the XML as read: name, uuid, machine type, architecture, the <domain> element
    Wanted     one device that the XML asks for: driver, properties, libvirt's address where there is one
    Address    a place in libvirt's terms: <address type='pci' bus='0x01' slot='0x00' function='0x0'/>

The stages that work on them, all pure functions:

    guest.devices.wanted_from_guest     Guest -> Wanted..., with what libvirt implies (controllers, models, memballoon, ...)
    reconcile.match                     Wanted <-> Node, by identity; a survivor's Address and id come from its node
    guest.allocate.allocate             Wanted... -> Wanted..., every Address filled, with the ports and controllers needed
    guest.alias.with_ids                Wanted... -> Wanted..., every id filled, as libvirt names devices
    guest.place.placed                  Wanted... -> (bus name, Node): libvirt's addresses in QEMU's terms
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mdtool.errors import Position
from mdtool.guest.xml import Element
from mdtool.machine.machines import I440FX, Q35, VIRT, Family, family_of
from mdtool.machine.tree import Properties
from mdtool.machine.values import uuid_from_text
from mdtool.records import dataclass, field

QEMU_NS = "{http://libvirt.org/schemas/domain/qemu/1.0}"


@dataclass(frozen=True, slots=True)
class Address:
    """A libvirt address: its type and its numbers, ``Address("pci", {"bus": 1, "slot": 0, "function": 0})``.

    Types and numbers, each a plain int:
      pci            domain bus slot function (multifunction: bool where the XML says so)
      drive          controller bus target unit
      usb            bus port (port a str: "1.2")
      virtio-serial  controller bus port
      ccid           controller slot
      isa            iobase irq
      ccw            cssid ssid devno
      spapr-vio      reg
      dimm           slot base
      virtio-mmio    (none)
      unassigned, none
      qemu           on at: a place in QEMU's words, bus and address, on a bus that libvirt has no number for

    ``numbers`` may lack any of them: <address type='pci'/> is a wish for the type only, and what is missing is allocated.
    """

    type: str
    numbers: Mapping[str, Any] = field(default_factory=dict)

    def __getitem__(self, name: str) -> Any:
        return self.numbers[name]

    def get(self, name: str, absent: Any = None) -> Any:
        return self.numbers.get(name, absent)


@dataclass(frozen=True, slots=True)
class Wanted:
    """One device that the XML asks for.

    ``kind``        the XML element, and the table row: ``interface``, ``disk``, ``controller``; what is a part of
                    another device says so: ``sound/codec``
    ``driver``      QEMU's type name; "" for what exists in the XML but is a built-in of the machine (``pci.0`` itself, the
                    ide controller of i440fx, the ps2 mouse): it takes its place and its id, and makes no ``-device``
    ``origin``      what stays of the element: ``interface/52:54:00:11:22:33``, ``disk/vda``, ``controller/pci/1``
    ``identities``  weaker ways to know it again, strongest first: ``serial/WD-1234``, ``alias/net0``
    ``id``          the user's alias (``ua-...``) or libvirt's, from the XML; None before ``with_ids``
    ``alias``       libvirt's prefix for the id, ``net``, ``virtio-disk``, for ``with_ids``; "" where the id is fixed
    ``address``        where the XML puts it; None where the XML does not say and the kind needs no address
    ``properties``  guest-visible properties in QEMU's names; never addresses, ids or the host side
    ``identifying`` names of properties that are identity (``mac``): another value is another device
    ``facts``       what the stages need to know and no property says: {"index": 1, "model": "pcie-root-port"};
                    ``made_up``: generated properties, for a new device alone
    ``element``     the XML element; None where libvirt (and so mdtool) implies the device
    """

    kind: str
    driver: str
    origin: str
    identities: tuple[str, ...] = ()
    id: str | None = None
    alias: str = ""
    address: Address | None = None
    properties: Properties = field(default_factory=dict)
    identifying: frozenset[str] = frozenset()
    facts: Mapping[str, Any] = field(default_factory=dict)
    element: Element | None = field(default=None, compare=False, repr=False)

    @property
    def position(self) -> Position | None:
        return self.element.position if self.element is not None else None


def offers_all(_feature: str) -> bool | None:
    """For ``Guest.offers`` without a QEMU to ask."""
    return True


def unknown() -> None:
    """For ``Guest.host_model`` without a libvirt to ask."""


@dataclass(frozen=True, slots=True)
class Guest:
    """A guest XML as read.

    ``arch`` is libvirt's (``x86_64``, ``aarch64``, ``armv7l``, ``s390x``, ``ppc64``, ``riscv64``); ``machine`` is what the
    XML says (``pc``, ``q35``, ``pc-q35-7.2``, ``virt-7.2``), not yet resolved to a versioned type; ``emulator`` is None
    where the XML names none; ``source`` is its text in UTF-8.

    ``host_model`` says which CPU ``host-model`` stands for on this host (``{"model": ..., "features": {...}}``), None where
    that is not known; where the machine is described, it is the described one.

    ``offers`` says whether a CPU has a feature here that the XML calls optional; of a described one, whether it has it.

    ``applied`` is what the XML last set of the description's sections, None for a fresh guest.

    ``known``: what the XML leaves open, the machine that is described has chosen: the models of the controllers, by type
    and index, and of USB disks, by the number of their target; the addresses of interfaces without one, in their order
    (``mac``); whether the firmware is ``secure`` (``firmware``, 0).

    ``migratable``: the XML is libvirt's for a migration or a saved guest, which leaves out what every libvirt adds itself.

    ``places_only``: where devices sit is all that is asked for, perhaps where there is neither a QEMU nor firmware.
    """

    file: str
    domain: Element
    name: str
    uuid: str | None
    arch: str
    machine: str
    emulator: str | None
    source: bytes = field(default=b"", compare=False, repr=False)
    host_model: Callable[[], Mapping[str, Any] | None] = field(default=unknown, compare=False, repr=False)
    offers: Callable[[str], bool | None] = field(default=offers_all, compare=False, repr=False)
    applied: Mapping[str, Any] | None = field(default=None, compare=False, repr=False)
    known: Mapping[tuple[str, int], str] = field(default_factory=dict, compare=False, repr=False)
    migratable: bool = field(default=False, compare=False, repr=False)
    places_only: bool = field(default=False, compare=False, repr=False)

    def implies(self, section: str, *path: str) -> bool:
        """Whether libvirt's own choice is to be there: in a fresh guest, and where an earlier reconcile set it."""
        found: Any = self.applied
        for key in (f"@{section}", *path):
            found = found.get(key) if isinstance(found, Mapping) else None
        return self.applied is None or found is not None

    @property
    def key(self) -> str:
        """What its private directories and locks are named by: the uuid; without one, a uuid made from the name.

        No text of the XML becomes a part of a path.
        """
        if self.uuid is not None:
            return self.uuid
        from hashlib import sha256  # few guests have no uuid

        return uuid_from_text(sha256(b"mdtool guest:" + self.name.encode(errors="surrogateescape")).hexdigest()[:32])

    @property
    def devices(self) -> list[Element]:
        holder = self.domain.first("devices")
        return list(holder) if holder is not None else []

    @property
    def arguments(self) -> list[Element]:
        """The words of ``<qemu:commandline>``; none in most guests."""
        return [
            word
            for holder in self.domain
            if holder.tag == f"{QEMU_NS}commandline"
            for word in holder
            if word.tag == f"{QEMU_NS}arg"
        ]

    @property
    def family(self) -> Family | None:
        """What the machine has by itself; None for a machine type that mdtool does not know."""
        return family_of(self.machine, self.arch)

    @property
    def is_x86(self) -> bool:
        return self.arch in ("x86_64", "i686", "i386")

    @property
    def is_arm(self) -> bool:
        return self.arch.startswith(("arm", "aarch64"))

    @property
    def is_ppc(self) -> bool:
        return self.arch.startswith("ppc64")

    @property
    def is_s390(self) -> bool:
        return self.arch in ("s390", "s390x")

    @property
    def transport(self) -> str:
        """How a virtio device reaches a guest that says nothing of it: ``pci``, ``ccw`` or ``mmio``."""
        if self.is_s390:
            return "ccw"
        return "mmio" if self.is_arm and self.machine.startswith("vexpress") else "pci"

    @property
    def is_q35(self) -> bool:
        return self.family is Q35

    @property
    def is_i440fx(self) -> bool:
        return self.family is I440FX

    @property
    def is_virt(self) -> bool:
        return self.family is VIRT

    @property
    def has_isa(self) -> bool:
        """Whether the board has an ISA bus; of a board that mdtool does not know, whether its architecture may have one."""
        if self.family is not None and self.family.types:
            return self.family.has_isa
        return not self.arch.startswith(("aarch64", "arm", "riscv", "loongarch", "s390"))

    @property
    def has_ide(self) -> bool:
        """Whether the board has an IDE controller: libvirt adds none to another one."""
        return self.family is not None and self.family.has_ide
