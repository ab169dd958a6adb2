"""<serial>, <parallel>, <console>, <channel>: character devices; what is behind them is the host's."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import count

from mdtool.guest.convert import number
from mdtool.guest.host import HostRow, by_libvirt, carried, idle, tuned
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.table import ElementContext, ElementRow, Prop
from mdtool.guest.xml import Element
from mdtool.machine.values import decimal
from mdtool.records import replace

#: What libvirt's chardev source may hold, all of it the host's.
SOURCE: Mapping[str, HostRow] = {
    "@type": carried("char", "what kind of backend"),
    "@tty": idle("what a running guest's terminal was called"),
    "source/@master": by_libvirt("another hypervisor's null modem"),
    "source/@slave": by_libvirt("another hypervisor's null modem"),
    "source/reconnect/@delay": idle("a disk's, and no chardev's"),
    "source/seclabel/*": tuned("labels of the file"),
    "source/*": carried("char", "the backend"),
    "log/*": carried("char", "a copy of the output on the host"),
    "protocol/*": carried("char", "the backend"),
    "binary/*": carried("char", "the backend"),
}

SERIAL_DRIVERS = {
    "isa-serial": "isa-serial",
    "usb-serial": "usb-serial",
    "pci-serial": "pci-serial",
    "isa-debugcon": "isa-debugcon",
    "spapr-vty": "spapr-vty",
    "sclpconsole": "sclpconsole",
    "sclplmconsole": "sclplmconsole",
    "pl011": "",
    "16550a": "",
}
#: type of a serial port's <target> -> its model, where that has another name
BY_TARGET = {
    "isa-serial": "isa-serial",
    "usb-serial": "usb-serial",
    "pci-serial": "pci-serial",
    "isa-debug": "isa-debugcon",
    "spapr-vio-serial": "spapr-vty",
    "sclp-serial": "sclpconsole",
}


def serial_model(context: ElementContext) -> str:
    """What a serial port is: its model, what its target means, or what the machine has."""
    model, target = context.get("target/model/@name"), context.get("target/@type")
    # isa-serial without a model is what x86 guests say of any first port: elsewhere libvirt takes the machine's own.
    anything = ("", "system-serial", "serial") if context.guest.has_isa else ("", "system-serial", "serial", "isa-serial")
    if model or target not in anything:
        return model or BY_TARGET.get(target, target)
    return default_serial(context.guest)


def default_serial(guest: Guest) -> str:
    """The serial port that libvirt takes where the XML says nothing.

    The boards of ARM and RISC-V have theirs built in.
    """
    if guest.is_s390:
        return "sclpconsole"
    if guest.is_ppc and guest.machine.startswith("pseries"):
        return "spapr-vty"
    if guest.arch.startswith("riscv"):
        return "16550a"
    return "isa-serial" if guest.is_x86 else "pl011"


ISA_PORTS = 4


def _serial(context: ElementContext, wanted: Wanted) -> Wanted:
    port = wanted.facts.get("port", 0)
    properties = dict(wanted.properties)
    if wanted.driver == "isa-serial":
        properties["index"] = port
        if port >= ISA_PORTS:
            what = f"this is ISA serial port {port}, and a machine has {ISA_PORTS}"
            remedy = "give it another port, or another type of target"
            context.error("target/@port", what, expected=f"0 to {ISA_PORTS - 1}", remedy=remedy, rule="port-range")
    if wanted.driver in ("isa-serial", "isa-debugcon") and wanted.address is not None:
        properties |= {name: value for name, value in wanted.address.numbers.items() if name in ("iobase", "irq")}
    facts = {**wanted.facts, "type": wanted.facts["choice"], "port": port}
    return replace(wanted, properties=properties, facts=facts)


SERIAL = ElementRow(
    "serial",
    choose=serial_model,
    drivers=SERIAL_DRIVERS,
    facts={"port": Prop("target/@port", number)},
    origin=("choice", "port"),
    alias="serial",
    reads=("target/@type", "target/model/@name"),
    host=SOURCE,
    shape=_serial,
)

PARALLEL = ElementRow(
    "parallel",
    absent="isa-parallel",
    drivers={"isa-parallel": "isa-parallel"},
    facts={"port": Prop("target/@port", number)},
    origin=("port",),
    alias="parallel",
    host=SOURCE,
    ignored={"target/@type": "there is one type", "target/model/@name": "there is one model"},
)


def _console_type(context: ElementContext) -> str:
    return context.get("target/@type") or "serial"


def stands_for_serial(context: ElementContext) -> bool:
    """The first console is another view of the first serial port, where its target is one."""
    consoles = context.by_tag.get("console", ())
    return _console_type(context) == "serial" and bool(consoles) and consoles[0] is context.element


def _console(context: ElementContext, wanted: Wanted) -> Wanted | None:
    if wanted.facts["choice"] != "serial":
        return replace(wanted, facts={**wanted.facts, "type": wanted.facts["choice"]})
    if context.by_tag.get("serial") or not stands_for_serial(context):
        return None
    # A console without a serial port: libvirt makes the port.
    model = default_serial(context.guest)
    driver = SERIAL_DRIVERS[model]
    port = replace(
        wanted,
        kind="serial",
        driver=driver,
        alias="serial",
        origin=f"serial/{model}/0",
        facts={**wanted.facts, "choice": model, "type": model, "port": 0},
    )
    return _serial(context, port)


CONSOLE = ElementRow(
    "console",
    choose=_console_type,
    drivers={
        "serial": "",
        "virtio": "virtconsole",
        "sclp": "sclpconsole",
        "sclplm": "sclplmconsole",
    },
    facts={"port": Prop("target/@port", number)},
    origin=("choice", "port"),
    alias="console",
    reads=("target/@type",),
    host=SOURCE,
    ignored={"target/model/@name": "a console has none"},
    shape=_console,
)


def _channel(context: ElementContext, wanted: Wanted) -> Wanted | None:
    if wanted.facts["choice"] == "guestfwd":
        return None  # a rule of the user network backend: the guest sees an address, and no device
    properties = dict(wanted.properties)
    if wanted.facts["choice"] == "virtio" and context.get("@type") == "spicevmc":
        properties.setdefault("name", "com.redhat.spice.0")  # SPICE's agent knows its port by this name
    origin = wanted.origin if "name" in properties else f"channel/{wanted.facts['choice']}"
    if "name" in properties:
        origin = f"channel/{properties['name']}"
    return replace(wanted, properties=properties, origin=origin, facts={**wanted.facts, "type": wanted.facts["choice"]})


CHANNEL = ElementRow(
    "channel",
    choose="target/@type",
    drivers={"virtio": "virtserialport", "guestfwd": ""},
    props={"name": Prop("target/@name")},
    facts={"name": "target/@name", "port": Prop("target/@port", number)},
    match=("name",),
    alias="channel",
    host={
        **SOURCE,
        "target/@address": carried("char", "the user network"),
        "target/@state": idle("whether an agent answered"),
    },
    refused={"target/xen": "Xen alone has it"},
    shape=_channel,
)


def serial_ports(elements: list[Element]) -> dict[int, int]:
    """Element identity -> port number of every <serial>, as libvirt numbers.

    One whose target says that it is an ISA port takes the lowest that no other of these has; every other one without a
    number the next after the highest of all, wherever that stands.
    """
    found = _given_ports(elements)
    isa = [element for element in elements if element.get("target/@type") == "isa-serial"]
    taken = {found[id(element)] for element in isa if id(element) in found}
    free = (port for port in count() if port not in taken)
    found |= {id(element): next(free) for element in isa if id(element) not in found}
    after = count(max(found.values(), default=-1) + 1)
    return found | {id(element): next(after) for element in elements if id(element) not in found}


def parallel_ports(elements: list[Element]) -> dict[int, int]:
    """The same for <parallel>: one without a number takes the next after the highest before it."""
    given, found = _given_ports(elements), dict[int, int]()
    for element in elements:
        found[id(element)] = given.get(id(element), max(found.values(), default=-1) + 1)
    return found


def console_ports(elements: list[Element]) -> dict[int, int]:
    """The same for <console>: its position, whatever number the XML gives it."""
    return {id(element): place for place, element in enumerate(elements)}


#: Tag -> the port numbers of the elements of that tag.
PORTS: Mapping[str, Callable[[list[Element]], dict[int, int]]] = {
    "serial": serial_ports,
    "parallel": parallel_ports,
    "console": console_ports,
}


def _given_ports(elements: list[Element]) -> dict[int, int]:
    return {id(one): port for one in elements if (port := decimal(one.get("target/@port") or "")) is not None}
