"""<controller>: PCI bridges and ports, USB, SCSI, SATA, IDE, floppy, virtio-serial and smartcard controllers."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from mdtool.guest.allocation.controllers import is_placed, scsi_model
from mdtool.guest.choices import USB_MODEL, chosen
from mdtool.guest.convert import kib, number, one_of, switch, up_to
from mdtool.guest.engine import address_from_element
from mdtool.guest.host import carried
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop, virtio
from mdtool.guest.xml import Element
from mdtool.machine.buses.addresses import MAX_INDEX
from mdtool.machine.buses.pci import HOST_BRIDGE
from mdtool.machine.buses.providers import DEFAULT_MODELS
from mdtool.machine.buses.providers import DRIVERS as CONTROLLERS
from mdtool.machine.values import decimal
from mdtool.records import replace

COMPANIONS = ("ich9-uhci1", "ich9-uhci2", "ich9-uhci3")

#: type/model -> QEMU's type; a virtio model takes its ending from the transport
DRIVERS = {
    **{f"{type_}/{model}": driver for (type_, model), driver in CONTROLLERS.items() if not driver.startswith("virtio-")},
    **{f"scsi/{'virtio-scsi' if model == 'virtio' else model}": driver for model, driver in virtio("virtio-scsi").items()},
    **{f"virtio-serial/{model}": driver for model, driver in virtio("virtio-serial").items()},
}


def _choice(context: ElementContext) -> str:
    kind = context.get("@type")
    model = context.get("@model")
    if not model or model == "auto":
        model = default_model(context.guest, kind, int(context.numbered.get("index", context.number("@index"))))
    return f"{kind}/{model}"


def default_model(guest: Guest, kind: str, index: int = 0) -> str:
    """The model of a controller whose XML names none, as libvirt has it; ``''`` where it has no default.

    On PCI that is the root alone: what other PCI controllers are is a matter of the addresses on them.
    """
    if kind == "usb" and (kind, index) in guest.known:
        return guest.known[kind, index]
    if kind == "usb":
        return chosen(USB_MODEL, guest.arch, guest.machine, "piix3-uhci")
    if kind == "scsi":
        return scsi_model(guest, index)
    if kind == "pci" and index == 0:
        return guest.family.root if guest.family is not None else ""
    return DEFAULT_MODELS.get(kind, "") if kind != "pci" else ""


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    kind, _, model = wanted.facts["choice"].partition("/")
    facts = {**wanted.facts, "type": kind, "model": model, "index": wanted.facts.get("index", 0)}
    properties = dict(wanted.properties)
    driver = wanted.driver
    if kind == "pci" and driver:
        driver = context.get("model/@name") or driver
    if kind == "pci" and model == "pci-root" and facts["index"] and context.guest.is_ppc:
        driver = HOST_BRIDGE
        properties |= {"numa_node": node} if (node := facts.get("node")) is not None else {}
    if kind == "sata" and facts["index"] == 0 and context.guest.is_q35:
        driver = ""  # the chipset's own
    if kind == "fdc":
        driver = driver if context.guest.is_q35 and context.numbered.get("floppies") else ""
    _check_chipset(context, kind, model, facts["index"])
    origin = wanted.origin
    if kind == "usb" and model in COMPANIONS:
        origin += f"/{model}"
    alias = "usb" if kind == "usb" else kind
    return replace(wanted, driver=driver, facts=facts, properties=properties, origin=origin, alias=alias)


MAX_PCI = 255


def _check_chipset(context: ElementContext, kind: str, model: str, index: int) -> None:
    """Errors that libvirt has too: a controller that this machine lacks, or that it has elsewhere."""
    guest = context.guest
    if kind == "ide" and not guest.has_ide:
        remedy = "put its disks on another bus: <target bus='sata'/>"
        context.error("@type", "this machine has no IDE controller", remedy=remedy, rule="machine-has")
    if kind == "pci" and index > MAX_PCI:
        context.error("@index", f"PCI controller {index}", expected=f"an index of at most {MAX_PCI}", rule="value-valid")
    if kind == "pci" and index == 0 and (root := default_model(guest, kind)) not in ("", model):
        what = f"the PCI controller of index 0 is a {model}"
        remedy = f"add <controller type='pci' index='0' model='{root}'/>, or give this one another index"
        context.error("@model", what, expected=root, remedy=remedy, rule="pci-root")
    at = guest.family.controllers.get((kind, model)) if guest.family is not None else None
    address = address_from_element(context)
    if index or at is None or not is_placed(address) or address is None or address.type != "pci":
        return
    if (address.get("bus", 0), address.get("slot", 0), address.get("function", 0)) != (0, *at):
        expected = f"bus 0, slot {at[0]:#x}, function {at[1]}"
        what = f"the chipset's own {kind} controller is elsewhere"
        context.error("address/@type", what, expected=expected, remedy="leave the address out", rule="address-type")


_RESERVING = ("pcie-root-port", "pci-bridge")
_SERIAL = ("virtio-serial-*",)
_SCSI = ("virtio-scsi-*",)
_XHCI = ("qemu-xhci", "nec-usb-xhci")

CONTROLLER = ElementRow(
    "controller",
    choose=_choice,
    reads=("@type", "@model", "model/@name"),
    drivers=DRIVERS,
    props={
        "hotplug": Prop("target/@hotplug", switch),
        "mem-reserve": Prop("target/@memReserve", kib, _RESERVING),
        "numa_node": Prop("target/node", number, ("pxb", "pxb-pcie")),
        "cmd_per_lun": Prop("driver/@cmd_per_lun", number, _SCSI),
        "max_sectors": Prop("driver/@max_sectors", number, _SCSI),
        "num_queues": Prop("driver/@queues", number, _SCSI),
        "ioeventfd": Prop("driver/@ioeventfd", switch, _SCSI),
        "p2": Prop("@ports", number, _XHCI),
        "p3": Prop("@ports", number, _XHCI),
        "max_ports": Prop("@ports", number, _SERIAL),
        "vectors": Prop("@vectors", number, _SERIAL),
        "serial": Prop("serial", drivers=("nvme",)),
        **VIRTIO,
    },
    facts={
        "index": Prop("@index", up_to(MAX_INDEX)),
        "chassis": Prop("target/@chassis", number),
        "chassisNr": Prop("target/@chassisNr", number),
        "port": Prop("target/@port", number),
        "busNr": Prop("target/@busNr", number),
        "targetIndex": Prop("target/@index", number),
        "hotplug": Prop("target/@hotplug", one_of("on", "off")),
        "node": Prop("target/node", number),
        "ports": Prop("@ports", number),
        "vectors": Prop("@vectors", number),
        "master": Prop("master/@startport", number),
        "pcihole64": Prop("pcihole64", number),
        "pcihole64_unit": Prop("pcihole64/@unit"),
    },
    origin=("@type", "index"),
    host={
        "driver/@iothread": carried("misc", "the thread that serves the controller"),
        "driver/iothreads/*": carried("misc", "the threads that serve it"),
    },
    ignored=dict.fromkeys(("@maxGrantFrames", "@maxEventChannels"), "Xen alone has it"),
    shape=_shape,
)


def indices(controllers: list[Element], reserved: int = 0) -> Mapping[int, int]:
    """Element identity -> index, for every controller, as libvirt numbers those that have none.

    The lowest free number of its type, beyond the ``reserved`` SCSI controllers that host devices bring along; but an
    ICH9 USB controller belongs to the one before it, where that is of ICH9 too and its number lacks this model yet.
    """
    found: dict[int, int] = {}
    models: dict[tuple[str, int], set[str]] = {}  # type and index -> models

    def note(element: Element, index: int) -> None:
        found[id(element)] = index
        models.setdefault((element.attributes.get("type", ""), index), set()).add(element.attributes.get("model", ""))

    for element in controllers:
        given = element.attributes.get("index", "")
        if (index := decimal(given)) is not None:
            note(element, index)
    before: Element | None = None
    lowest = {"scsi": reserved}  # everything below is taken
    for element in controllers:
        kind, model = element.attributes.get("type", ""), element.attributes.get("model", "")
        if id(element) not in found:
            index = found[id(before)] if before is not None and _is_ich9(element) and _is_ich9(before) else -1
            if index < 0 or model in models[kind, index]:
                index = next(number for number in count(lowest.get(kind, 0)) if (kind, number) not in models)
                lowest[kind] = index
            note(element, index)
        if kind == "usb":
            before = element
    return found


def _is_ich9(element: Element) -> bool:
    return element.attributes.get("type") == "usb" and element.attributes.get("model", "").startswith("ich9-")
