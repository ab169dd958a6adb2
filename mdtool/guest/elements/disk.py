"""<disk>: what a guest sees of one; where its data is, is the host's."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mdtool.guest.choices import has_newest_qemu
from mdtool.guest.convert import number, one_of, positive, printable, switch, wwn
from mdtool.guest.disk_buses import DISK_BUSES, NAMESPACES, NARROW_UNITS, bus_meant_by, disk_number, nvme_target
from mdtool.guest.engine import part_of
from mdtool.guest.host import by_libvirt, carried, idle, tuned
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop
from mdtool.limits import MAX_INDEX
from mdtool.machine.tree import Value
from mdtool.records import replace

#: bus and device, for virtio with its model too -> QEMU's type
DRIVERS = {f"{bus}/{choice}": driver for bus, row in DISK_BUSES.items() for choice, driver in row.drivers.items()}


def bus_of(context: ElementContext) -> str:
    """The disk's bus: what the XML says, or what its target's name means."""
    fallback = "fdc" if context.get("@device") == "floppy" else bus_meant_by(context.get("target/@dev"))
    return context.get("target/@bus") or fallback


def _target(name: str) -> Value:
    """The target's name; controllers are made up to the number that it says."""
    units = NAMESPACES if nvme_target(name) else NARROW_UNITS
    if disk_number(name) >= MAX_INDEX * units:
        raise ValueError("a name such as sda or vdab")
    return name


def _choice(context: ElementContext) -> str:
    bus, device, model = bus_of(context), context.get("@device") or "disk", context.get("@model")
    if bus == "usb":
        model = model or context.guest.known.get(("disk", disk_number(context.get("target/@dev"))), "")
        if model == "usb-bot" or (not model and device == "cdrom" and has_newest_qemu(context.guest)):
            bus = "usb-bot"
    model = "" if model in ("usb-bot", "usb-storage") else model  # which mean nothing elsewhere
    if bus == "virtio":
        served = context.get("@type") == "vhostuser"  # by another process, which is all that QEMU knows of it
        return f"{'vhostuser' if served else bus}/{device}/{model or 'virtio'}"
    return f"{bus}/{device}/{model}" if model else f"{bus}/{device}"


def spaced(text: str) -> str:
    """A serial as libvirt hands it to QEMU, with a backslash before each space, which the guest sees (measured on 9.0).

    >>> print(spaced("disk 1"))
    disk\\ 1
    """
    return text.replace(" ", r"\ ")


#: values that say nothing: libvirt leaves them out, and a geometry that is not whole
_ABSENT: Mapping[str, Value] = {**dict.fromkeys(("serial", "vendor", "product", "model"), ""), "logical_block_size": 0,
                                "physical_block_size": 0}  # fmt: skip
GEOMETRY = ("cyls", "heads", "secs", "bios-chs-trans")


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    bus, device = bus_of(context), context.get("@device") or "disk"
    facts: dict[str, Any] = {**wanted.facts, "bus": bus, "device": device}
    properties = {name: value for name, value in wanted.properties.items() if _ABSENT.get(name) != value}
    if not all(properties.get(name) for name in GEOMETRY[:3]):
        properties = {name: value for name, value in properties.items() if name not in GEOMETRY}
    if bus == "ide" and not context.guest.has_ide:
        context.error("target/@bus", "this machine has no IDE controller", expected="another bus", rule="machine-has")
    if wanted.driver in ("scsi-hd", "scsi-cd"):
        # QEMU once put the name of the drive into the device identification page, and a serial where there is one.
        if "serial" in properties:
            properties["device_id"] = context.get("serial")
        else:
            facts["device_id"] = True
    if bus == "virtio" and device == "lun":
        properties["scsi"] = True
    if wanted.driver == "floppy" and "bootindex" in properties:
        facts["bootindex"] = properties.pop("bootindex")  # see floppy_boot
    if wanted.driver == "usb-storage":
        properties.setdefault("removable", False)
    if wanted.driver == "usb-bot":  # its drive has all the rest: see drive_of_bot
        facts["drive"] = {name: value for name, value in properties.items() if name != "serial"}
        properties = {name: value for name, value in properties.items() if name == "serial"}
    if bus == "nvme":
        _check_nvme(context)
        facts["serial"] = properties.pop("serial", "")  # the controller's, where that has none
    return replace(wanted, facts=facts, properties=properties, alias=DISK_BUSES[bus].alias or bus)


def _check_nvme(context: ElementContext) -> None:
    if not nvme_target(context.get("target/@dev")):
        what = f"'{context.get('target/@dev')}' is not a target on an NVMe controller"
        context.error("target/@dev", what, expected="controller and namespace: nvme0n1", rule="value-valid")


def drive_of_bot(context: ElementContext, disk: Wanted) -> Iterator[Wanted]:
    """The SCSI drive on a USB mass storage device of model usb-bot, which holds what its guest reads of the disk."""
    if disk.driver != "usb-bot":
        return
    driver = "scsi-cd" if disk.facts["device"] == "cdrom" else "scsi-hd"
    properties = {**disk.facts["drive"], **disk.properties}
    drive = Wanted("device", driver, "", properties=properties, facts={"choice": driver}, element=context.element)
    part = part_of(disk, drive, "device", 0)
    yield replace(part, facts={**part.facts, "number": "0:0:0"})


def floppy_boot(wanted: Iterable[Wanted]) -> dict[str, int]:
    """The boot index of a floppy is a property of its controller: ``bootindexA`` or ``bootindexB``, by its drive."""
    return {
        f"bootindex{'AB'[drive_of(one)]}": one.facts["bootindex"]
        for one in wanted
        if one.driver == "floppy" and "bootindex" in one.facts and drive_of(one) in (0, 1)
    }


def drive_of(floppy: Wanted) -> int:
    """0 for ``fda``, 1 for ``fdb``, unless the address says otherwise."""
    letter = str(floppy.facts.get("target", ""))[2:3]
    return int(floppy.address.get("unit", 0) if floppy.address is not None else letter == "b")


_BLK = ("virtio-blk-*", "vhost-user-blk-*")
_SCSI = ("scsi-hd", "scsi-cd", "scsi-block", "usb-bot")  # on usb-bot sits a SCSI drive

_DRIVER = (
    "@name", "@type", "@cache", "@error_policy", "@rerror_policy", "@io", "@copy_on_read", "@discard", "@discard_no_unref",
    "@detect_zeroes", "metadata_cache/*",
)  # fmt: skip

DISK = ElementRow(
    "disk",
    choose=_choice,
    reads=("target/@bus", "@device", "@model"),
    drivers=DRIVERS,
    props={
        "serial": Prop("serial", spaced),
        "bootindex": Prop("boot/@order", positive),
        "num-queues": Prop("driver/@queues", number, _BLK),
        "queue-size": Prop("driver/@queue_size", number, _BLK),
        "ioeventfd": Prop("driver/@ioeventfd", switch, ("virtio-blk-*",)),
        "event_idx": Prop("driver/@event_idx", switch, _BLK),
        "logical_block_size": Prop("blockio/@logical_block_size", number),
        "physical_block_size": Prop("blockio/@physical_block_size", number),
        "discard_granularity": Prop("blockio/@discard_granularity", number),
        "cyls": Prop("geometry/@cyls", number),
        "heads": Prop("geometry/@heads", number),
        "secs": Prop("geometry/@secs", number),
        "bios-chs-trans": Prop("geometry/@trans", one_of("auto", "none", "lba", "large", "rechs"), ("ide-hd",)),
        "wwn": Prop("wwn", wwn),
        "vendor": Prop("vendor", printable(8), _SCSI),
        "product": Prop("product", printable(16), _SCSI),
        "model": Prop("product", printable(16), ("ide-*",)),
        "rotation_rate": Prop("target/@rotation_rate", number, ("ide-hd", "scsi-hd", "usb-bot")),
        "removable": Prop("target/@removable", switch, ("usb-storage", "scsi-hd", "usb-bot")),
        "dpofua": Prop("target/@dpofua", switch, ("scsi-hd", "usb-bot")),
        **VIRTIO,
    },
    facts={"target": Prop("target/@dev", _target), "removable": Prop("target/@removable", switch)},
    origin=("target/@dev",),
    known_by={"serial": "serial", "wwn": "wwn"},
    host={
        "@type": carried("block", "what kind of backend"),
        "driver/statistics/statistic/@interval": carried("block", "what QEMU counts"),
        "@snapshot": idle("libvirt's snapshots"),
        "@sgio": by_libvirt("which SCSI commands the host lets through", unless=("filtered",)),
        "@rawio": by_libvirt("a capability of the process", unless=("no",)),
        "source/*": carried("block", "the backend"),
        "source/@fdgroup": by_libvirt("descriptors that a client handed over"),
        "source/@index": idle("libvirt's name of a node"),
        "source/@pool": by_libvirt("a storage pool"),
        "source/@volume": by_libvirt("a storage pool"),
        "source/@startupPolicy": idle("what libvirt does where the medium is missing: QEMU refuses it"),
        "source/@tlsHostname": by_libvirt("TLS to the server", unless=("",)),
        "source/address/@multifunction": idle("a place of the host's"),
        "source/cookies/*": by_libvirt("cookies"),
        "source/identity/@agentsock": by_libvirt("a key of the user's"),
        "source/identity/@keyfile": by_libvirt("a key of the user's"),
        "source/identity/@user": by_libvirt("whom a file server knows"),
        "source/privateData": idle("libvirt's own notes"),
        "source/reservations/@migration": idle("what libvirt does at a migration"),
        "source/seclabel/*": tuned("labels of the file"),
        **{
            f"{prefix}encryption/{path}": side
            for prefix in ("", "source/")
            for path, side in (
                ("@engine", by_libvirt("who decrypts", unless=("qemu",))),
                ("cipher/*", idle("how libvirt formats an image")),
                ("ivgen/*", idle("how libvirt formats an image")),
            )
        },
        "backingStore/*": carried("block", "the backend"),
        "mirror/*": by_libvirt("a block job"),
        "auth/*": carried("block", "the backend"),
        "encryption/*": carried("block", "the backend"),
        "iotune/*": carried("layers", "throttling of the backend"),
        "throttlefilters/*": carried("layers", "throttling of the backend"),
        **{f"driver/{path}": carried("block", "the backend") for path in _DRIVER},
        "driver/statistics/latency-histogram/*": by_libvirt("how long requests take, as QEMU counts it"),
        "driver/@iothread": carried("block", "the thread that serves the disk"),
        "driver/iothreads/*": carried("block", "the threads that serve the disk"),
        "transient/*": carried("layers", "an overlay on the host"),
        "shareable": carried("block", "`share-rw`"),
        "readonly": carried("block", "the backend is opened read-only"),
        "target/@tray": by_libvirt("how the drive stands at start", unless=("closed",)),
        "backenddomain/*": by_libvirt("Xen's backend"),
        "privateData": idle("libvirt's own notes"),
    },
    shape=_shape,
    also=drive_of_bot,
)
