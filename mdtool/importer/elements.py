"""A device of the machine as the element of guest XML that asks for it: one row a kind.

An element says the host side; the guest's side is in the description, whatever the element implies.  Where the XML has
no words for a device's host side, the device stays an option, in <qemu:commandline> (see ``machine``).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.commandline.placeholder.options import on as is_on
from mdtool.commandline.sizes import bytes_of
from mdtool.errors import Report
from mdtool.guest.elements.controller import COMPANIONS, DRIVERS
from mdtool.importer import block, char, net
from mdtool.importer.markup import Keys, NoWords, on, tag, text
from mdtool.machine.values import number
from mdtool.qemu.replies import RawBus, RawDevice


class Made(NamedTuple):
    """One element, and what its device is called from now on; ``used`` are the back ends that it speaks for."""

    xml: str
    id: str
    used: tuple[str, ...] = ()


@dataclass
class One:
    """A device on its way: as QEMU has it (``properties``, with those behind a virtio proxy), and ``keys``, what its
    option says of the host, to be taken by the row that knows it; ``bag`` is all that its option says."""

    bus: RawBus
    device: RawDevice
    driver: str
    properties: Mapping[str, Any]
    keys: Keys
    bag: Mapping[str, Any] = field(default_factory=dict)

    def behind(self, name: str) -> str:
        """The name of the back end that its option names, or that a property holds; "" for none."""
        self.keys.take(name)
        return str(self.bag.get(name) or self.properties.get(name) or "").removeprefix("#").rpartition("/")[2]


@dataclass
class Writer:
    """What rows need to know besides: the host side, the machine, and libvirt's counters."""

    host: HostSide
    machine: str
    absolute: Callable[[str], str]
    report: Report
    counts: dict[str, int] = field(default_factory=dict)
    indexes: dict[str, int] = field(default_factory=dict)
    masters: dict[str, int] = field(default_factory=dict)  # bus of a USB controller -> its index
    audios: dict[str, int] = field(default_factory=dict)

    def made(self, one: One) -> Made | None:
        """Its element; None where no row knows the driver.  Raises NoWords where the element cannot say its host side."""
        for pattern, row in ROWS.items():
            if pattern.fullmatch(one.driver):
                before = dict(self.counts), dict(self.indexes)
                try:
                    found = row(self, one)
                    one.keys.done()
                except NoWords:
                    self.counts, self.indexes = before
                    raise
                return found
        return None

    def count(self, name: str) -> int:
        self.counts[name] = self.counts.get(name, -1) + 1
        return self.counts[name]

    def audio(self, one: One) -> str:
        """<audio id=...> of a card."""
        name = one.behind("audiodev")
        return tag("audio", id=self.audios[name]) if name in self.audios else ""


# --- rows ----------------------------------------------------------------------------------------------------------


def _boot(one: One) -> str:
    order = number(one.properties.get("bootindex"), -1)
    return tag("boot", order=order) if order > 0 else ""


def _virtio_model(driver: str, plain: str = "virtio") -> str:
    """libvirt's word for a virtio device that is transitional or is not."""
    return next((f"virtio-{end}" for end in ("non-transitional", "transitional") if driver.endswith(end)), plain)


def _transport(one: One) -> str:
    """The address type that tells virtio-mmio from PCI."""
    return tag("address", type_="virtio-mmio") if one.bus.type == "virtio-bus" else ""


def nic(writer: Writer, one: One) -> Made:
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
    model = _virtio_model(one.driver, model)
    xml = tag("interface", tag("mac", address=one.properties["mac"]), inner, tag("model", type_=model), _boot(one),
              _rom(one), _transport(one), type_=kind)  # fmt: skip
    return Made(xml, f"net{writer.count('net')}", (name, str(bag.get("chardev", ""))))


def _rom(one: One) -> str:
    """An option ROM of the user's."""
    path = one.keys.take("romfile")
    return tag("rom", file=path) if path else ""


_BUS = {"sd": "sd", "ide": "ide", "scsi": "scsi", "usb": "usb", "floppy": "fdc", "virtio": "virtio"}
_PREFIX = {"virtio": "vd", "ide": "hd", "fdc": "fd"}


def disk(writer: Writer, one: One) -> Made:
    name = one.behind("drive")
    given = writer.host.drives.get(name)
    kind = "cdrom" if one.driver.endswith("-cd") else "floppy" if one.driver == "floppy" else "disk"
    kind = "lun" if one.driver == "scsi-block" else kind
    where = _BUS[one.driver.partition("-")[0]]
    if where == "ide" and "q35" in writer.machine:
        where = "sata"
    bag = dict(given.bag) if given is not None else {}
    if one.driver == "usb-storage" and bag.get("media") == "cdrom":
        raise NoWords("usb-storage that is a CD drive")  # it is one by -drive media=cdrom alone
    named = {node: other.bag for node, other in writer.host.drives.items()}
    for key in ("werror", "rerror"):
        if (value := one.keys.take(key)) is not None:
            bag[key] = value
    for key in _LEGACY:
        bag.pop(key, None)
    write_cache = is_on(one.keys.take("write-cache", True))
    image = block.image(bag, named, writer.absolute, write_cache=write_cache)
    thread = one.keys.take("iothread")
    driver = {**image.driver, "iothread": _thread(writer, thread), "ioeventfd": on(one.keys.switch("ioeventfd"))}
    prefix = _PREFIX.get(where, "sd")
    place = writer.count(prefix)
    if where == "ide":
        place = int(one.bus.name.rpartition(".")[2]) * 2 + number(one.properties.get("unit"))
    if where == "fdc":
        place = number(one.properties.get("unit"))
    target = {"dev": prefix + _letters(place), "bus": where}
    if where == "usb" and is_on(one.properties.get("removable")):
        target["removable"] = "on"
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
        _boot(one),
        _transport(one),
        type_=image.kind,
        device=kind,
        model=_virtio_model(one.driver, "") or None,
    )
    ids = {"virtio": f"virtio-disk{place}", "fdc": f"fdc0-0-{place}"}
    id = ids.get(where, f"{where}0-{place // 2}-{place % 2}" if where == "ide" else f"{where}0-0-{place}")
    return Made(xml, id, (name, *image.used))


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


def _thread(writer: Writer, name: Any) -> int | None:
    """libvirt numbers its I/O threads; QEMU names them."""
    if name is None:
        return None
    threads = [id for id, given in writer.host.objects.items() if given.bag.get("qom-type") == "iothread"]
    return threads.index(str(name)) + 1 if name in threads else None


def _source(writer: Writer, one: One) -> tuple[str, str, str]:
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


#: driver -> (type of <target>, its model) of a serial port
_SERIALS = {
    "isa-serial": ("isa-serial", "isa-serial"),
    "pci-serial": ("pci-serial", "pci-serial"),
    "usb-serial": ("usb-serial", "usb-serial"),
    "isa-debugcon": ("isa-debug", "isa-debugcon"),
    "spapr-vty": ("spapr-vio-serial", "spapr-vty"),
}


def serial(writer: Writer, one: One) -> Made:
    kind, inner, name = _source(writer, one)
    if one.driver == "isa-parallel":
        place = writer.count("parallel")
        return Made(tag("parallel", inner, tag("target", port=place), type_=kind), f"parallel{place}", (name,))
    if one.driver.startswith("sclp"):
        target = tag("target", type_=one.driver.removesuffix("console"), port=0)
        return Made(tag("console", inner, target, type_=kind), f"console{writer.count('console')}", (name,))
    target_type, model = _SERIALS[one.driver]
    place = writer.count("serial")
    target = tag("target", tag("model", name=model), type_=target_type, port=place)
    where = ""
    if one.driver == "isa-debugcon":
        where = tag("address", type_="isa", iobase=hex(number(one.properties.get("iobase"))))
    return Made(tag("serial", inner, target, where, type_=kind), f"serial{place}", (name,))


def channel(writer: Writer, one: One) -> Made:
    kind, inner, name = _source(writer, one)
    if one.driver == "virtconsole":
        return Made(
            tag("console", inner, tag("target", type_="virtio"), type_=kind), f"console{writer.count('console')}", (name,)
        )
    target = tag("target", type_="virtio", name=one.properties.get("name") or None)
    return Made(tag("channel", inner, target, type_=kind), f"channel{writer.count('channel')}", (name,))


def redirection(writer: Writer, one: One) -> Made:
    kind, inner, name = _source(writer, one)
    return Made(tag("redirdev", inner, _boot(one), bus="usb", type_=kind), f"redir{writer.count('redir')}", (name,))


def smartcard(writer: Writer, one: One) -> Made:
    kind, inner, name = _source(writer, one)
    xml = tag("smartcard", inner, mode="passthrough", type_=kind)
    return Made(xml, f"smartcard{writer.count('smartcard')}", (name,))


#: driver -> (type, model), of libvirt's controllers; nvme takes its drive as a disk would
_CONTROLLERS: dict[str, tuple[str, str]] = {
    "usb-ccid": ("ccid", "usb-ccid"),
    "ich9-ahci": ("sata", "ahci"),
    "ioh3420": ("pci", "pcie-root-port"),
    "lsi53c895a": ("scsi", "lsilogic"),
    **{f"virtio-{name}{end}": (kind, model) for end in ("", "-pci", "-ccw", "-device")
       for name, kind, model in (("scsi", "scsi", "virtio-scsi"), ("serial", "virtio-serial", "virtio"))},
    **{f"virtio-{name}-pci-{end}": (kind, f"virtio-{end}") for end in ("transitional", "non-transitional")
       for name, kind in (("scsi", "scsi"), ("serial", "virtio-serial"))},
    **{driver: (choice.partition("/")[0], choice.partition("/")[2]) for choice, driver in DRIVERS.items()
       if driver and "*" not in driver and driver not in ("nvme", "usb-ccid")},
}  # fmt: skip


def controller(writer: Writer, one: One) -> Made:
    kind, model = _CONTROLLERS[one.driver]
    first = 0 if kind == "pci" or (kind == "sata" and "q35" in writer.machine) else -1
    master = ""
    if model in COMPANIONS and (owner := str(one.properties.get("masterbus", ""))) in writer.masters:
        index = writer.masters[owner]
        master = tag("master", startport=number(one.properties.get("firstport")))
    else:
        index = writer.indexes[kind] = writer.indexes.get(kind, first) + 1
    writer.masters |= {bus.name: index for bus in one.device.buses if kind == "usb"}
    driver = tag("driver", iothread=_thread(writer, one.keys.take("iothread")), ioeventfd=on(one.keys.switch("ioeventfd")))
    inner = driver if driver != "<driver/>" else ""
    if one.driver == "ioh3420":
        inner += tag("model", name="ioh3420")
    if kind == "pci":
        inner += _pci(one, model)
    said = None if (kind, model) in (("virtio-serial", "virtio"), ("sata", "ahci"), ("ccid", "usb-ccid")) else model
    ids = {"pci": f"pci.{index}", "usb": "usb" if index == 0 else f"usb{index}"}
    id = ids.get(kind, f"{kind}{index}")
    return Made(tag("controller", inner, master, _transport(one), type_=kind, index=index, model=said), id)


_NUMBERED_PORTS = ("pcie-root-port", "pcie-switch-downstream-port")


def _pci(one: One, model: str) -> str:
    """What libvirt writes of a port or bridge, and would otherwise number itself."""
    facts = {
        "chassis": one.properties.get("chassis") if model in _NUMBERED_PORTS else None,
        "port": f"0x{number(one.properties.get('port')):x}" if model in _NUMBERED_PORTS else None,
        "chassisNr": one.properties.get("chassis_nr") if model == "pci-bridge" else None,
        "busNr": one.properties.get("bus_nr"),
    }
    facts = {name: value for name, value in facts.items() if value not in (None, "", 0)}
    return tag("target", **facts) if facts else ""


_VIDEO = {
    "VGA": "vga", "cirrus-vga": "cirrus", "qxl-vga": "qxl", "qxl": "qxl", "virtio-vga": "virtio", "ramfb": "ramfb",
    "virtio-gpu-pci": "virtio", "virtio-gpu-ccw": "virtio", "virtio-gpu-device": "virtio", "bochs-display": "bochs",
    "vmware-svga": "vmvga", "virtio-vga-gl": "virtio", "virtio-gpu-gl-pci": "virtio", "secondary-vga": "vga",
}  # fmt: skip


def video(writer: Writer, one: One) -> Made:
    size = number(one.properties.get("vgamem_mb"))
    vram = size * 1024 if one.driver in ("VGA", "vmware-svga") and size else None
    model = tag(
        "model",
        tag("acceleration", accel3d="yes") if "-gl" in one.driver else "",
        type_=_VIDEO[one.driver],
        vram=vram,
        heads=one.properties.get("max_outputs"),
    )
    for key in ("display", "head"):
        one.keys.take(key)
    return Made(tag("video", model), f"video{writer.count('video')}")


def input_(writer: Writer, one: One) -> Made:
    bus, _, kind = re.sub(r"-(pci|device|ccw)(-(non-)?transitional)?$", "", one.driver).partition("-")
    for key in ("display", "head"):
        one.keys.take(key)
    kind = {"kbd": "keyboard", "input-host": "passthrough"}.get(kind, kind)
    source = tag("source", evdev=one.keys.take("evdev")) if kind == "passthrough" else ""
    return Made(tag("input", source, _transport(one), type_=kind, bus=bus), f"input{writer.count('input')}")


_SOUND = {
    "AC97": "ac97",
    "ES1370": "es1370",
    "sb16": "sb",
    "intel-hda": "ich6",
    "ich9-intel-hda": "ich9",
    "usb-audio": "usb",
}
CODECS = {"hda-duplex": "duplex", "hda-micro": "micro", "hda-output": "output"}


def sound(writer: Writer, one: One) -> Made:
    if one.driver.endswith("-hda") and not any(bus.devices for bus in one.device.buses):
        raise NoWords("a sound controller without a codec")  # to libvirt one belongs to the card
    audio = writer.audio(one)
    return Made(tag("sound", audio, model=_SOUND[one.driver]), f"sound{writer.count('sound')}")


def with_codec(writer: Writer, card: str, one: One) -> str:
    """A sound card's element with one more codec, and the back end that it plays through."""
    codec, audio = tag("codec", type_=CODECS[one.driver]), writer.audio(one)
    one.keys.done()
    card = card.removesuffix("/>") + "></sound>" if card.endswith("/>") and not card.endswith("</sound>") else card
    if audio and audio not in card:
        codec += audio
    # <audio> comes after the codecs
    head = card.removesuffix("</sound>")
    before, found, after = head.partition("<audio ")
    return f"{before}{codec}{found}{after}</sound>"


def rng(writer: Writer, one: One) -> Made:
    name = one.behind("rng")
    given = writer.host.objects.get(name)
    keys = Keys(given.bag if given is not None else {"qom-type": "rng-builtin"})
    kind = str(keys.take("qom-type"))
    keys.take("id")
    if kind == "rng-random":
        backend = text("backend", keys.take("filename", "/dev/urandom"), model="random")
    elif kind == "rng-builtin":
        backend = tag("backend", model="builtin")
    elif kind == "rng-egd" and (bag := writer.host.chars.get(str(keys.take("chardev")))) is not None:
        type_, inner = char.character(bag.bag)
        backend = tag("backend", inner, model="egd", type_=type_)
    else:
        raise NoWords(kind)
    keys.done()
    rate, period = number(one.keys.take("max-bytes")), one.keys.take("period")
    limit = tag("rate", bytes=rate, period=period) if rate else ""
    xml = tag("rng", limit, backend, _transport(one), model=_virtio_model(one.driver))
    return Made(xml, f"rng{writer.count('rng')}", (name,))


def watchdog(writer: Writer, one: One) -> Made:
    xml = tag("watchdog", model=one.driver, action=writer.host.watchdog)
    return Made(xml, f"watchdog{writer.count('watchdog')}")


def balloon(writer: Writer, one: One) -> Made:
    thread = one.keys.take("iothread")
    if thread:
        raise NoWords("iothread")
    return Made(tag("memballoon", _transport(one), model=_virtio_model(one.driver)), f"balloon{writer.count('balloon')}")


def tpm(writer: Writer, one: One) -> Made:
    name = one.behind("tpmdev")
    given = writer.host.tpms.get(name)
    keys = Keys(given.bag if given is not None else {})
    kind = keys.take("type")
    keys.take("id")
    used: tuple[str, ...] = (name,)
    if kind == "passthrough":
        inner = tag("backend", tag("device", path=keys.take("path", "/dev/tpm0")), type_="passthrough")
    elif kind == "emulator" and (bag := writer.host.chars.get(chardev := str(keys.take("chardev")))) is not None:
        type_, source = char.character(bag.bag)
        if type_ != "unix":
            raise NoWords("a TPM that is not behind a unix socket")
        used += (chardev,)
        inner = tag("backend", source.replace("<source ", "<source type='unix' ", 1), type_="external")
    else:
        raise NoWords(f"tpmdev {kind}")
    keys.done()
    return Made(tag("tpm", inner, model=one.driver.removesuffix("-device")), f"tpm{writer.count('tpm')}", used)


_ACCESS = {"passthrough": "passthrough", "mapped": "mapped", "mapped-xattr": "mapped", "none": "squash"}


def filesystem(writer: Writer, one: One) -> Made:
    number_of, tag_of = writer.count("fs"), str(one.properties.get("mount_tag") or one.properties.get("tag") or "")
    if one.driver.startswith("vhost-user-fs"):
        name = one.behind("chardev").removeprefix("import-")
        given = writer.host.chars.get(name)
        keys = Keys(given.bag if given is not None else {})
        path = keys.take("path")
        for key in ("backend", "id"):
            keys.take(key)
        keys.done()
        queue = one.properties.get("queue-size")
        driver = tag("driver", type_="virtiofs", queue=queue if queue != 128 else None)
        inner = (driver, tag("source", socket=path), tag("target", dir=tag_of), _boot(one))
        return Made(tag("filesystem", *inner, type_="mount"), f"fs{number_of}", (name,))
    name = one.behind("fsdev")
    given = writer.host.folders.get(name) or writer.host.folders.get(tag_of)
    keys = Keys(given.bag if given is not None else {})
    if keys.take("fsdriver") != "local":
        raise NoWords("an fsdev that is no folder")
    keys.take("id")
    mode = keys.one_of(_ACCESS, "security_model") or keys.one_of(_ACCESS, "security-model")
    path = writer.absolute(str(keys.take("path")))
    policy = keys.one_of({"immediate": "immediate"}, "writeout")
    xml = tag(
        "filesystem",
        tag("driver", type_="path", wrpolicy=policy),
        tag("source", dir=path),
        tag("target", dir=tag_of),
        tag("readonly") if _take_switch(keys, "readonly") else "",
        type_="mount",
        accessmode=mode,
        multidevs=keys.take("multidevs"),
        fmode=keys.take("fmode"),
        dmode=keys.take("dmode"),
        model=_virtio_model(one.driver, "") or None,
    )
    keys.done()
    return Made(xml, f"fs{number_of}", (name,))


def _take_switch(keys: Keys, name: str) -> bool:
    return bool(keys.switch(name, False))


def host_pci(writer: Writer, one: One) -> Made:
    address = str(one.keys.take("host") or "")
    match = re.fullmatch(r"(?:(\w{4}):)?(\w\w):(\w\w)\.(\w)", address)
    if match is None:
        raise NoWords("a passed-through device that is not named by its PCI address")
    names = ("domain", "bus", "slot", "function")
    where = tag("address", **{name: f"0x{part or '0000'}" for name, part in zip(names, match.groups(), strict=True)})
    display = on(one.keys.switch("display"))
    xml = tag(
        "hostdev", tag("source", where), _boot(one), _rom(one), mode="subsystem", type_="pci", managed="no", display=display
    )
    return Made(xml, f"hostdev{writer.count('hostdev')}")


def host_usb(writer: Writer, one: One) -> Made:
    keys = one.keys
    vendor, product, bus, address = (keys.take(key) for key in ("vendorid", "productid", "hostbus", "hostaddr"))
    if bus and address:
        source = tag("source", tag("address", bus=number(bus), device=number(address)))
    elif vendor and product:
        ids = (("vendor", vendor), ("product", product))
        source = tag("source", *(tag(name, id=f"0x{number(value):04x}") for name, value in ids))
    else:
        raise NoWords("a USB device of the host that is named by neither ids nor address")
    return Made(
        tag("hostdev", source, _boot(one), mode="subsystem", type_="usb", managed="no"), f"hostdev{writer.count('hostdev')}"
    )


def vsock(writer: Writer, one: One) -> Made:
    cid = tag("cid", auto="no", address=one.properties.get("guest-cid"))
    return Made(tag("vsock", cid, model=_virtio_model(one.driver)), f"vsock{writer.count('vsock')}")


def shared_memory(writer: Writer, one: One) -> Made:
    name = one.behind("memdev")
    given = writer.host.objects.get(name)
    keys = Keys(given.bag if given is not None else {})
    path, size = str(keys.take("mem-path")), bytes_of(keys.take("size"))
    kind, shared = keys.take("qom-type"), keys.switch("share", False)
    keys.take("id")
    if kind != "memory-backend-file" or not path.startswith("/dev/shm/") or not shared or size is None or size % (1 << 20):
        raise NoWords("shared memory that is no file of /dev/shm")
    keys.done()
    inner = (tag("model", type_="ivshmem-plain"), tag("size", str(size >> 20), unit="M"))
    xml = tag("shmem", *inner, name=path.removeprefix("/dev/shm/"), role=one.keys.take("role"))
    return Made(xml, f"shmem{writer.count('shmem')}", (name,))


def memory(writer: Writer, one: One) -> Made:
    name = one.behind("memdev")
    given = writer.host.objects.get(name)
    bag = given.bag if given is not None else {}
    size = bytes_of(bag.get("size"))
    if size is None or name != f"mem{one.device.id}":  # its name is in a migration's stream, and libvirt's is this one
        raise NoWords(f"memory called {name}")
    target = tag("target", tag("size", str(size), unit="b"), text("node", one.properties.get("node") or 0))
    return Made(tag("memory", target, model="dimm"), f"dimm{writer.count('dimm')}", (name,))


def simple(element: str, prefix: str, **attributes: Any) -> Callable[[Writer, One], Made]:
    """An element that says nothing but its kind; ``{driver}`` in a value is the driver's own word."""

    def row(writer: Writer, one: One) -> Made:
        said = {key: value.format(driver=one.driver) for key, value in attributes.items()}
        return Made(tag(element, _transport(one), **said), f"{prefix}{writer.count(prefix)}")

    return row


def _iommu(writer: Writer, one: One) -> Made:
    model = {"intel-iommu": "intel", "amd-iommu": "amd"}.get(one.driver, "virtio")
    return Made(tag("iommu", model=model), f"iommu{writer.count('iommu')}")


def crypto(writer: Writer, one: One) -> Made:
    name = one.behind("cryptodev")
    given = writer.host.objects.get(name)
    kind = str(given.bag.get("qom-type")) if given is not None else "cryptodev-backend-builtin"
    if not kind.endswith(("-builtin", "-lkcf")):
        raise NoWords(kind)
    backend = tag("backend", model=kind.rpartition("-")[2], queues=given.bag.get("queues") if given is not None else None)
    return Made(tag("crypto", backend, model="virtio", type_="qemu"), f"crypto{writer.count('crypto')}", (name,))


_NICS = (
    r"virtio-net-(pci|device|ccw)(-(non-)?transitional)?|e1000|e1000e|e1000-8254\w+|rtl8139|ne2k_pci|ne2k_isa|pcnet|i825\w+"
    r"|i82801|vmxnet3|tulip|igb|sungem|usb-net|spapr-vlan|lan9118|smc91c111"
)
_ENDS = r"(-pci|-ccw|-device)(-(non-)?transitional)?"
Row = Callable[[Writer, One], Made]


def _of(names: Mapping[str, Any]) -> str:
    return "|".join(map(re.escape, names))


#: driver -> its row
ROWS: Mapping[re.Pattern[str], Row] = {
    re.compile(pattern): row
    for pattern, row in {
        _NICS: nic,
        rf"sd-card|ide-(hd|cd)|scsi-(hd|cd|block)|virtio-blk{_ENDS}|usb-storage|floppy": disk,
        r"isa-parallel|sclpconsole|sclplmconsole|" + _of(_SERIALS): serial,
        r"virtconsole|virtserialport": channel,
        r"usb-redir": redirection,
        r"ccid-card-passthru": smartcard,
        _of(_CONTROLLERS): controller,
        _of(_VIDEO): video,
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
        r"intel-iommu|amd-iommu|virtio-iommu-pci": _iommu,
        r"usb-hub": simple("hub", "hub", type_="usb"),
        r"pvpanic": simple("panic", "panic", model="isa"),
    }.items()
}
