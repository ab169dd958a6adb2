"""A device of the machine as the element of guest XML that asks for it: one row a kind.

An element says the host side; the guest's side is in the description, whatever the element implies.  Where the XML has
no way to express a device's host side, the device stays an option, in <qemu:commandline> (see ``machine``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from mdtool.commandline.placeholder.options import on as is_on
from mdtool.guest.disk_buses import DISK_BUSES
from mdtool.guest.elements.character import BY_TARGET
from mdtool.guest.elements.controller import COMPANIONS
from mdtool.guest.elements.disk import GEOMETRY
from mdtool.guest.elements.hub import HUB
from mdtool.guest.elements.interface import BOARD
from mdtool.guest.elements.iommu import IOMMU
from mdtool.guest.elements.panic import PANIC
from mdtool.guest.elements.sound import CODEC, SOUND
from mdtool.guest.elements.video import PRIMARY, SECONDARY
from mdtool.guest.table import ElementRow
from mdtool.importer import block, char, net
from mdtool.importer.host_devices import crypto, filesystem, host_pci, host_usb, memory, rng, shared_memory, tpm, vsock
from mdtool.importer.markup import NoWords, on, tag, text
from mdtool.importer.row import DeviceView, Writer, Written, boot_of, rom_of, thread_of, transport, virtio_model
from mdtool.machine.buses.pci import HOST_BRIDGE
from mdtool.machine.buses.providers import CONTROLLERS, provider_of
from mdtool.machine.values import number
from mdtool.text import pattern

Row = Callable[[Writer, DeviceView], Written]

# --- rows ----------------------------------------------------------------------------------------------------------


def nic(writer: Writer, one: DeviceView) -> Written:
    name = one.behind("netdev")
    given = writer.host.nets.get(name)
    if given is None:
        raise NoWords("a NIC without a network")
    bag = dict(given.bag)
    bag |= {key: writer.absolute(bag[key]) for key in ("script", "downscript") if bag.get(key) not in (None, "", "no")}
    kind, inner = net.network(bag, lambda id: writer.host.chars[id].bag)
    facts = {
        attribute: on(one.keys.switch(key)) for key, attribute in (("ioeventfd", "ioeventfd"), ("event_idx", "event_idx"))
    }
    facts |= {"txmode": one.keys.one_of({"timer": "timer", "bh": "iothread"}, "tx")}
    more = {name: value for name, value in facts.items() if value is not None}
    if more:
        driver = tag("driver", **more)
        inner = inner.replace("<driver ", driver[:-2] + " ", 1) if "<driver " in inner else inner + driver
    model = re.sub(r"virtio-net-(pci|device|ccw).*", "virtio", one.driver)
    model = virtio_model(one.driver, model)
    xml = tag("interface", tag("mac", address=one.properties["mac"]), inner, tag("model", type_=model), boot_of(one),
              rom_of(writer, one), transport(one), type_=kind)  # fmt: skip
    return Written(xml, f"net{writer.count('net')}", (name, str(bag.get("chardev", ""))))


_BUS = {"sd": "sd", "ide": "ide", "scsi": "scsi", "usb": "usb", "floppy": "fdc", "virtio": "virtio"}


def disk(writer: Writer, one: DeviceView) -> Written:
    name = one.behind("drive")
    given = writer.host.drives.get(name)
    kind = "cdrom" if one.driver.endswith("-cd") else "floppy" if one.driver == "floppy" else "disk"
    kind = "lun" if one.driver == "scsi-block" else kind
    where = _BUS[one.driver.partition("-")[0]]
    if where == "ide" and ("q35" in writer.machine or id(one.bus) in writer.sata):
        where = "sata"
    bag = dict(given.bag) if given is not None else {}
    inside = [inner.properties for bus in one.device.buses for inner in bus.devices] if one.driver == "usb-storage" else ()
    if (inside and bag.get("media") == "cdrom") or any(
        inner.get("device_id", "") not in ("", one.properties.get("serial")) for inner in inside
    ):
        raise NoWords("what usb-storage has of its -drive")  # its SCSI name, and media=cdrom: no property sets them
    named = {node: other.bag for node, other in writer.host.drives.items()}
    for key in ("werror", "rerror"):
        if (value := one.keys.take(key)) is not None:
            bag[key] = value
    for key in _LEGACY:
        bag.pop(key, None)
    write_cache = is_on(one.keys.take("write-cache", True))
    image = block.image(bag, named, writer.absolute, write_cache=write_cache)
    thread = one.keys.take("iothread")
    driver = {**image.driver, "iothread": thread_of(writer, thread), "ioeventfd": on(one.keys.switch("ioeventfd"))}
    prefix = DISK_BUSES[where].target
    place = writer.count(prefix) if where != "sd" else 0
    if where == "ide":
        place = int(one.bus.name.rpartition(".")[2]) * 2 + number(one.properties.get("unit"))
    if where == "fdc":
        place = number(one.properties.get("unit"))
    if where == "sd":
        place = number(bag.get("index"), writer.count("card"))
    target = {"dev": prefix + _letters(place), "bus": where}
    if where == "usb" and is_on(one.properties.get("removable")):
        target["removable"] = "on"
    shape = {name.removeprefix("bios-chs-"): one.bag[name] for name in GEOMETRY if name in one.bag}
    xml = tag(
        "disk",
        tag("driver", **driver) if image.source or set(driver.values()) - {"qemu", "raw", None} else "",
        image.source,
        tag("target", **target),
        tag("readonly") if kind == "cdrom" or image.readonly else "",
        tag("shareable") if is_on(one.keys.take("share-rw")) else "",
        text("serial", one.properties.get("serial"))
        if not re.fullmatch(r"QM\d{5}", str(one.properties.get("serial")))
        else "",
        tag("geometry", **shape) if {"cyls", "heads", "secs"} <= shape.keys() else "",
        boot_of(one),
        transport(one),
        type_=image.kind,
        device=kind,
        model=virtio_model(one.driver, "") or None,
    )
    names = {"virtio": f"virtio-disk{place}", "fdc": f"fdc0-0-{place}", "ide": f"ide0-{place // 2}-{place % 2}"}
    return Written(xml, names.get(where, f"{where}0-0-{place}"), (name, *image.used))


#: keys of a -drive that its device has taken
_LEGACY = ("serial", "cyls", "heads", "secs", "trans", "addr", "bootindex", "boot")


def _letters(place: int) -> str:
    """``a``, ..., ``z``, ``aa``: how disks are counted.

    >>> _letters(0), _letters(26)
    ('a', 'aa')
    """
    found = ""
    while place >= 0:
        found, place = chr(ord("a") + place % 26) + found, place // 26 - 1
    return found


def _source(writer: Writer, one: DeviceView) -> tuple[str, str, str]:
    """(type, children, chardev) of a character device."""
    name = one.behind("chardev")
    given = writer.host.chars.get(name)
    bag = given.bag if given is not None else {"backend": "null"}
    if bag.get("backend") == "chardev":
        name = str(bag["name"])
        given = writer.host.chars.get(name)
        bag = given.bag if given is not None else {"backend": "null"}
    if bag.get("backend") in ("none", ""):
        bag = {"backend": "null"}
    if bag.get("backend") == "spicevmc" and not writer.host.has_spice:
        raise NoWords("a channel of SPICE without SPICE")
    waits = bag.get("backend") == "socket" and is_on(bag.get("server")) and bag.get("wait", "on") != "off"
    kind, inner = char.character({**bag, **({"path": writer.absolute(bag["path"])} if _is_path(bag) else {})})
    if waits and given is not None:
        what = f"-{given.option.name}: the guest starts without waiting for a client"
        writer.report.warn(what, at=given.option.position, rule="chardev-wait")
    return kind, inner, name


def _is_path(bag: Mapping[str, Any]) -> bool:
    return bool(bag.get("path")) and bag.get("backend") in (
        "file",
        "pipe",
        "socket",
        "serial",
        "tty",
        "parallel",
        "parport",
    )


#: driver -> type of a serial port's <target>; its model is called as the driver
_SERIALS = {driver: target for target, driver in BY_TARGET.items() if driver != "sclpconsole"}


def serial(writer: Writer, one: DeviceView) -> Written:
    kind, inner, name = _source(writer, one)
    if one.driver == "isa-parallel":
        place = writer.count("parallel")
        return Written(tag("parallel", inner, tag("target", port=place), type_=kind), f"parallel{place}", (name,))
    if one.driver.startswith("sclp"):
        target = tag("target", type_=one.driver.removesuffix("console"), port=0)
        return Written(tag("console", inner, target, type_=kind), f"console{writer.count('console')}", (name,))
    place = writer.count("serial")
    target = tag("target", tag("model", name=one.driver), type_=_SERIALS[one.driver], port=place)
    where = ""
    if one.driver == "isa-debugcon":
        where = tag("address", type_="isa", iobase=hex(number(one.properties.get("iobase"))))
    return Written(tag("serial", inner, target, where, type_=kind), f"serial{place}", (name,))


def channel(writer: Writer, one: DeviceView) -> Written:
    kind, inner, name = _source(writer, one)
    if one.driver == "virtconsole":
        return Written(
            tag("console", inner, tag("target", type_="virtio"), type_=kind), f"console{writer.count('console')}", (name,)
        )
    target = tag("target", type_="virtio", name=one.properties.get("name") or None)
    return Written(tag("channel", inner, target, type_=kind), f"channel{writer.count('channel')}", (name,))


def redirection(writer: Writer, one: DeviceView) -> Written:
    kind, inner, name = _source(writer, one)
    return Written(tag("redirdev", inner, boot_of(one), bus="usb", type_=kind), f"redir{writer.count('redir')}", (name,))


def smartcard(writer: Writer, one: DeviceView) -> Written:
    kind, inner, name = _source(writer, one)
    xml = tag("smartcard", inner, mode="passthrough", type_=kind)
    return Written(xml, f"smartcard{writer.count('smartcard')}", (name,))


#: controllers without an element here: nvme takes its drive as a disk would, and the others would become another driver
_NO_ELEMENT = ("nvme", HOST_BRIDGE, "pci-bridge-seat")


def controller(writer: Writer, one: DeviceView) -> Written:
    row = provider_of(one.driver)
    kind, model = row.type, row.model
    first = 0 if kind == "pci" or (kind == "sata" and "q35" in writer.machine) else -1
    master = ""
    if model in COMPANIONS and (owner := str(one.properties.get("masterbus", ""))) in writer.masters:
        index = writer.masters[owner]
        master = tag("master", startport=number(one.properties.get("firstport")))
    else:
        index = writer.indexes[kind] = writer.indexes.get(kind, first) + 1
    writer.masters |= {bus.name: index for bus in one.device.buses if kind == "usb"}
    writer.sata |= {id(bus) for bus in one.device.buses if kind == "sata"}
    ioeventfd = on(one.keys.switch("ioeventfd")) if kind == "scsi" else None
    driver = tag("driver", iothread=thread_of(writer, one.keys.take("iothread")), ioeventfd=ioeventfd)
    inner = driver if driver != "<driver/>" else ""
    if one.driver == "ioh3420":
        inner += tag("model", name="ioh3420")
    if kind == "pci":
        inner += _pci(one, model)
    written = model if row.written and (kind, model) != ("virtio-serial", "virtio") else None
    names = {"pci": f"pci.{index}", "usb": "usb" if index == 0 else f"usb{index}"}
    xml = tag("controller", inner, master, transport(one), type_=kind, index=index, model=written)
    return Written(xml, names.get(kind, f"{kind}{index}"))


_NUMBERED_PORTS = ("pcie-root-port", "pcie-switch-downstream-port")


def _pci(one: DeviceView, model: str) -> str:
    """What libvirt writes of a port or bridge, and would otherwise number itself."""
    facts = {
        "chassis": one.properties.get("chassis") if model in _NUMBERED_PORTS else None,
        "port": f"0x{number(one.properties.get('port')):x}" if model in _NUMBERED_PORTS else None,
        "chassisNr": one.properties.get("chassis_nr") if model == "pci-bridge" else None,
        "busNr": one.properties.get("bus_nr"),
    }
    facts = {name: value for name, value in facts.items() if value not in (None, "", 0)}
    return tag("target", **facts) if facts else ""


_VIRTIO_VIDEO = r"virtio-vga(-gl)?|virtio-gpu(-gl)?-(pci|ccw|device)"
_VIDEO = {driver: model for model, driver in (*SECONDARY.items(), *PRIMARY.items())} | {"secondary-vga": "vga"}


def video(writer: Writer, one: DeviceView) -> Written:
    size = number(one.properties.get("vgamem_mb"))
    vram = size * 1024 if one.driver in ("VGA", "vmware-svga") and size else None
    model = tag(
        "model",
        tag("acceleration", accel3d="yes") if "-gl" in one.driver else "",
        type_=_VIDEO.get(one.driver, "virtio"),
        vram=vram,
        heads=one.properties.get("max_outputs"),
    )
    for key in ("display", "head"):
        one.keys.take(key)
    return Written(tag("video", model), f"video{writer.count('video')}")


def input_(writer: Writer, one: DeviceView) -> Written:
    bus, _, kind = re.sub(r"-(pci|device|ccw)(-(non-)?transitional)?$", "", one.driver).partition("-")
    for key in ("display", "head"):
        one.keys.take(key)
    kind = {"kbd": "keyboard", "input-host": "passthrough"}.get(kind, kind)
    source = tag("source", evdev=one.keys.take("evdev")) if kind == "passthrough" else ""
    return Written(tag("input", source, transport(one), type_=kind, bus=bus), f"input{writer.count('input')}")


_SOUND = SOUND.choices


def sound(writer: Writer, one: DeviceView) -> Written:
    if one.driver.endswith("-hda") and not any(bus.devices for bus in one.device.buses):
        raise NoWords("a sound controller without a codec")  # to libvirt one belongs to the card
    audio = writer.audio(one)
    return Written(tag("sound", audio, model=_SOUND[one.driver]), f"sound{writer.count('sound')}")


def with_codec(writer: Writer, card: str, one: DeviceView) -> str:
    """A sound card's element with one more codec, and the back end that it plays through."""
    codec, audio = tag("codec", type_=CODEC.choices[one.driver]), writer.audio(one)
    one.keys.done()
    card = card.removesuffix("/>") + "></sound>" if card.endswith("/>") and not card.endswith("</sound>") else card
    if audio and audio not in card:
        codec += audio
    # <audio> comes after the codecs
    head = card.removesuffix("</sound>")
    before, found, after = head.partition("<audio ")
    return f"{before}{codec}{found}{after}</sound>"


def watchdog(writer: Writer, one: DeviceView) -> Written:
    xml = tag("watchdog", model=one.driver, action=writer.host.watchdog)
    return Written(xml, f"watchdog{writer.count('watchdog')}")


def balloon(writer: Writer, one: DeviceView) -> Written:
    thread = one.keys.take("iothread")
    if thread:
        raise NoWords("iothread")
    return Written(tag("memballoon", transport(one), model=virtio_model(one.driver)), f"balloon{writer.count('balloon')}")


def simple(element: ElementRow, attribute: str = "model") -> Row:
    """An element that its choice alone says, in ``attribute``."""

    def row(writer: Writer, one: DeviceView) -> Written:
        driver = one.driver if one.driver in element.choices else one.driver.removesuffix("-pci")
        xml = tag(element.element, transport(one), **{attribute: element.choices[driver]})
        prefix = element.alias or element.element
        return Written(xml, f"{prefix}{writer.count(str(prefix))}")

    return row


_NICS = (
    r"virtio-net-(pci|device|ccw)(-(non-)?transitional)?|e1000|e1000e|e1000-8254\w+|rtl8139|ne2k_pci|ne2k_isa|pcnet|i825\w+"
    r"|i82801|vmxnet3|tulip|igb|sungem|usb-net|spapr-vlan|" + "|".join(BOARD)
)
_ENDS = r"(-pci|-ccw|-device)(-(non-)?transitional)?"


def _of(names: Iterable[str]) -> str:
    return "|".join(map(re.escape, names))


#: driver -> its row
ROWS: Mapping[re.Pattern[str], Row] = {
    pattern(text): row
    for text, row in {
        _NICS: nic,
        rf"sd-card|ide-(hd|cd)|scsi-(hd|cd|block)|virtio-blk{_ENDS}|usb-storage|floppy": disk,
        r"isa-parallel|sclpconsole|sclplmconsole|" + _of(_SERIALS): serial,
        r"virtconsole|virtserialport": channel,
        r"usb-redir": redirection,
        r"ccid-card-passthru": smartcard,
        _of(driver for driver in CONTROLLERS if driver not in _NO_ELEMENT): controller,
        _of(driver for driver in _VIDEO if driver) + rf"|{_VIRTIO_VIDEO}": video,
        rf"usb-(tablet|mouse|kbd)|virtio-(tablet|mouse|keyboard|input-host){_ENDS}": input_,
        _of(_SOUND): sound,
        rf"virtio-rng{_ENDS}": rng,
        r"i6300esb|ib700|diag288": watchdog,
        rf"virtio-balloon{_ENDS}": balloon,
        r"tpm-(tis|crb|spapr|tis-device)": tpm,
        rf"virtio-9p{_ENDS}|vhost-user-fs{_ENDS}": filesystem,
        r"vfio-pci": host_pci,
        r"usb-host": host_usb,
        rf"vhost-vsock{_ENDS}": vsock,
        r"ivshmem-plain": shared_memory,
        r"pc-dimm": memory,
        r"virtio-crypto-(pci|ccw)": crypto,
        r"intel-iommu|amd-iommu|virtio-iommu-pci": simple(IOMMU),
        _of(HUB.choices): simple(HUB, "type"),
        r"pvpanic": simple(PANIC),
    }.items()
}
