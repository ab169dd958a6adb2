"""What libvirt implies: the devices of a guest whose XML does not name them.

Each rule looks at the guest and at what is wanted so far, and gives the devices to add.  The order is libvirt's, since
addresses are given out in it.  Nothing is placed here (see ``allocate``).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence

from mdtool.errors import InputError
from mdtool.guest.allocation.controllers import controllers_of, implied, index_of, model_of, scsi_model, type_of
from mdtool.guest.allocation.drives import bus_of, wish_of
from mdtool.guest.allocation.zpci import with_zpci
from mdtool.guest.choices import has_newest, has_newest_qemu
from mdtool.guest.disk_buses import LAYOUTS
from mdtool.guest.elements.disk import floppy_boot
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.platform.machine import needs_iommu
from mdtool.machine.buses.providers import DEFAULT_MODELS
from mdtool.records import replace

Rule = Callable[[Guest, Sequence[Wanted]], Iterator[Wanted]]


def with_defaults(guest: Guest, wanted: Sequence[Wanted]) -> list[Wanted]:
    """``wanted`` and after it what libvirt adds: roots, controllers, mouse and keyboard, video, memballoon,
    zpci devices.

    An implied device has no element; its origin is that of an element that would ask for it (``controller/usb/0``), so
    that writing it out later changes nothing.
    """
    devices = [_with_master(one) for one in _with_iommu(guest, _with_silent(guest, wanted))]
    for rule in RULES:
        devices += rule(guest, devices)
    return with_zpci(guest, _with_mmio(guest, _with_serials(devices)))


def _with_iommu(guest: Guest, wanted: Sequence[Wanted]) -> Sequence[Wanted]:
    """On a machine with more than 255 CPUs an Intel IOMMU in extended interrupt mode, as the newest libvirt has it."""
    if not needs_iommu(guest):
        return wanted
    given = {"intremap": "on", "eim": "on"}
    if not any(one.kind == "iommu" for one in wanted):
        facts = {"choice": "intel"}
        return [*wanted, Wanted("iommu", "intel-iommu", "iommu/intel", alias="iommu", properties=given, facts=facts)]
    return [replace(one, properties={**given, **one.properties}) if one.driver == "intel-iommu" else one for one in wanted]


#: USB companions -> the first port of their master's that is theirs.
_START_PORTS = {"ich9-uhci1": 0, "ich9-uhci2": 2, "ich9-uhci3": 4}


def _with_master(one: Wanted) -> Wanted:
    """A companion whose XML names no master belongs to the EHCI controller of its index."""
    start = _START_PORTS.get(str(one.facts.get("model")))
    if start is None or "master" in one.facts:
        return one
    return replace(one, facts={**one.facts, "master": start})


def _with_serials(wanted: Sequence[Wanted]) -> list[Wanted]:
    """NVMe controllers with the serial number of their first disk, where they have none; InputError where none has one."""
    serials: dict[int, str] = {}
    for one in wanted:
        if bus_of(one) == "nvme" and one.facts.get("serial"):
            serials.setdefault(wish_of(one), one.facts["serial"])
    return [_with_serial(one, serials, wanted) if type_of(one) == "nvme" else one for one in wanted]


def _with_serial(one: Wanted, serials: Mapping[int, str], wanted: Sequence[Wanted]) -> Wanted:
    if "serial" in one.properties:
        return one
    if index_of(one) not in serials:
        disk = next((disk for disk in wanted if bus_of(disk) == "nvme" and wish_of(disk) == index_of(one)), one)
        raise InputError(
            f"NVMe controller {index_of(one)} without a serial number",
            at=one.position or disk.position,
            expected="<serial> of the controller, or of a disk on it",
            rule="serial",
        )
    return replace(one, properties={**one.properties, "serial": serials[index_of(one)]})


def _with_mmio(guest: Guest, wanted: list[Wanted]) -> list[Wanted]:
    """On a virt machine one virtio device at a virtio-mmio slot brings along all those that say nothing."""
    has_mmio = guest.family is not None and guest.family.has_mmio
    if not (has_mmio and any(one.address is not None and one.address.type == "virtio-mmio" for one in wanted)):
        return wanted
    return [
        replace(one, driver=one.driver[: -len("pci")] + "device", facts={**one.facts, "transport": "mmio"})
        if one.address is None and one.facts.get("transport") == "pci" and one.driver.endswith("-pci")
        else one
        for one in wanted
    ]


#: Elements that libvirt numbers, also where one of them is no device of its own: the others are named after their position.
_NUMBERED = ("input", "console", "channel")


def _with_silent(guest: Guest, wanted: Sequence[Wanted]) -> list[Wanted]:
    """``wanted`` with a Wanted without driver for each numbered element that is no device, at its place."""
    order = {id(element): number for number, element in enumerate(guest.devices)}
    there = {(one.kind, id(one.element)) for one in wanted}
    silent: dict[str, list[Wanted]] = {kind: [] for kind in _NUMBERED}
    if _has_stub_console(guest, wanted):
        silent["console"].append(Wanted("console", "", "console/serial", alias="console", facts={"choice": "serial"}))
    for element in guest.devices:
        if element.tag in silent and (element.tag, id(element)) not in there:
            origin = f"{element.tag}/silent/{order[id(element)]}"
            silent[element.tag].append(Wanted(element.tag, "", origin, alias=element.tag, element=element))
    found: list[Wanted] = []
    for one in wanted:
        waiting = silent.get(one.kind, [])
        while waiting and order.get(id(waiting[0].element), -1) < order.get(id(one.element), -1):
            found.append(waiting.pop(0))
        found.append(one)
    return found + [one for waiting in silent.values() for one in waiting]


def _has_stub_console(guest: Guest, wanted: Sequence[Wanted]) -> bool:
    """Whether libvirt adds a first console that is the first serial port, seen from the other side."""
    first = next((element for element in guest.devices if element.tag == "console"), None)
    if first is not None and first.get("target/@type") in (None, "serial"):
        return False
    serial = next((one for one in wanted if one.kind == "serial"), None)
    return serial is not None and serial.facts.get("type") not in ("usb-serial", "pci-serial", "isa-debugcon", "isa-debug")


def _has(guest: Guest, tag: str) -> bool:
    return any(element.tag == tag for element in guest.devices)


def pci_root(guest: Guest) -> str:
    """The model of PCI controller 0, "" for a machine without PCI.

    >>> pci_root(Guest("", None, "", None, "x86_64", "q35", None))
    'pcie-root'
    """
    return guest.family.root if guest.family is not None else ""


def _scsi_for_hostdevs(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[Wanted]:
    drives = [one for one in wanted if one.kind == "hostdev" and bus_of(one) == "scsi"]
    if drives:
        yield from _up_to(guest, wanted, "scsi", scsi_model(guest), max(map(wish_of, drives)))


def _usb(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[Wanted]:
    model = "qemu-xhci" if guest.is_q35 or guest.is_ppc else "piix3-uhci" if guest.is_x86 else ""
    if model and 0 not in controllers_of(wanted, "usb"):
        yield implied(guest, "usb", guest.known.get(("usb", 0), model), 0)


def _sata(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[Wanted]:
    if guest.is_q35 and 0 not in controllers_of(wanted, "sata"):
        yield implied(guest, "sata", "ahci", 0)


def _root(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[Wanted]:
    root = pci_root(guest)
    if root and 0 not in controllers_of(wanted, "pci"):
        yield implied(guest, "pci", root, 0)


def _input(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[Wanted]:
    """The machine's own mouse and keyboard; on POWER, whose screen needs them, USB ones, where a tablet is a mouse too.

    The newest libvirt does not count those whose XML names no bus.
    """
    bus = "ps2" if guest.is_x86 else "usb" if guest.is_ppc and _has(guest, "graphics") else ""
    there = [one for one in wanted if one.kind == "input"]
    if guest.is_ppc and has_newest(guest):
        there = [one for one in there if one.element is not None and one.element.get("@bus")]
    have = {(one.facts.get("bus"), one.facts.get("type")) for one in there}
    if (bus, "tablet") in have:
        have.add((bus, "mouse"))
    drivers = {("usb", "mouse"): "usb-mouse", ("usb", "keyboard"): "usb-kbd"}
    order = ("keyboard", "mouse") if bus == "usb" else ("mouse", "keyboard")
    for kind in order if bus else ():
        if (bus, kind) not in have:
            facts = {"choice": f"{bus}/{kind}", "bus": bus, "type": kind}
            origin = f"input/{bus}/{kind}"
            second = "#2" if any(one.origin == origin for one in wanted) else ""
            yield Wanted("input", drivers.get((bus, kind), ""), origin + second, alias="input", facts=facts)


def _video(guest: Guest, _: Sequence[Wanted]) -> Iterator[Wanted]:
    """A screen needs a graphics card."""
    if not _has(guest, "graphics") or _has(guest, "video"):
        return
    if guest.is_x86 or (guest.arch.startswith("arm") and not guest.is_virt):
        model, driver, properties = "cirrus", "cirrus-vga", {}
    elif guest.is_ppc:
        model, driver, properties = "vga", "VGA", {"vgamem_mb": 16}
    else:
        name = "virtio-vga" if guest.arch == "riscv64" else f"virtio-gpu-{guest.transport}"
        model, driver, properties = "virtio", name, {"max_outputs": 1}
    facts = {"choice": model, "model": model, "primary": True}
    yield Wanted("video", driver, f"video/{model}", alias="video", facts=facts, properties=properties)


def _memballoon(guest: Guest, _: Sequence[Wanted]) -> Iterator[Wanted]:
    bus = guest.transport
    if not guest.is_arm and not _has(guest, "memballoon"):
        facts = {"choice": "virtio", "transport": bus}
        yield Wanted("memballoon", f"virtio-balloon-{bus}", "memballoon", alias="balloon", facts=facts)


def _scsi_like_the_others(guest: Guest, wanted: Sequence[Wanted]) -> str:
    """The newest libvirt adds SCSI controllers of the model that the one of the lowest index has, where none is usual."""
    there = controllers_of(wanted, "scsi")
    return model_of(there[min(there)]) if there and guest.is_x86 and has_newest_qemu(guest) else scsi_model(guest)


def _drives(type_: str) -> Rule:
    """Controllers 0 to the highest that a drive of a type is on."""

    def rule(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[Wanted]:
        highest = max((wish_of(one) for one in wanted if one.kind == "disk" and bus_of(one) == type_), default=-1)
        model = _scsi_like_the_others(guest, wanted) if type_ == "scsi" else DEFAULT_MODELS[type_]
        boot = floppy_boot(wanted) if type_ == "fdc" else {}
        for one in _up_to(guest, wanted, type_, model, highest):
            yield replace(one, properties=boot) if boot else one

    return rule


def _up_to(guest: Guest, wanted: Sequence[Wanted], type_: str, model: str, highest: int) -> Iterator[Wanted]:
    have = controllers_of(wanted, type_)
    for index in range(highest + 1):
        if index not in have:
            yield implied(guest, type_, guest.known.get((type_, index), model), index)


def _virtio_serial(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[Wanted]:
    have = set(controllers_of(wanted, "virtio-serial"))
    for driver in ("virtserialport", "virtconsole"):
        for one in (one for one in wanted if one.driver == driver and one.kind != "commandline"):
            index = (
                one.address.get("controller", 0) if one.address is not None and one.address.type == "virtio-serial" else 0
            )
            if index not in have:
                have.add(index)
                yield implied(guest, "virtio-serial", "virtio", index)


def _readers(guest: Guest, wanted: Sequence[Wanted]) -> Iterator[Wanted]:
    """One card reader for each smartcard."""
    cards = [one for one in wanted if one.kind == "smartcard"]
    highest = max(
        (one.address.get("controller", 0) if one.address is not None else at for at, one in enumerate(cards)), default=-1
    )
    yield from _up_to(guest, wanted, "ccid", "usb-ccid", highest)


#: In libvirt's order.
RULES: tuple[Rule, ...] = (
    _scsi_for_hostdevs,
    _usb,
    _sata,
    _root,
    _memballoon,
    _input,
    _video,
    *map(_drives, LAYOUTS),
    _virtio_serial,
    _readers,
)
