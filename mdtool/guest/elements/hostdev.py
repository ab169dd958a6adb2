"""<hostdev>: devices of the host handed to the guest."""

from __future__ import annotations

from mdtool.guest.convert import positive
from mdtool.guest.elements.rom import ROM, ROM_HOST, without_rom
from mdtool.guest.host import by_libvirt, carried, idle
from mdtool.guest.model import Wanted
from mdtool.guest.table import ElementContext, ElementRow, Prop, virtio
from mdtool.machine.tree import Value
from mdtool.machine.values import integer, numbers_of, uuid_from_text
from mdtool.records import replace

DRIVERS = {
    "pci": "vfio-pci",
    "usb": "usb-host",
    "scsi": "scsi-generic",
    **{f"scsi_host/{model}": driver for model, driver in virtio("vhost-scsi").items()},
    "mdev/vfio-pci": "vfio-pci",
    "mdev/vfio-ccw": "vfio-ccw",
    "mdev/vfio-ap": "vfio-ap",
}


def _nodes(value: str) -> Value:
    if not (found := numbers_of(value)):
        raise ValueError("NUMA nodes: 0-2,5")
    return list(found)


#: the NUMA nodes that ACPI says a PCI device of the host initiates requests for: libvirt makes nothing of it elsewhere
NODES = {"nodes": Prop("acpi/@nodeset", _nodes)}


def _choice(context: ElementContext) -> str:
    kind = context.get("@type")
    if context.get("@mode") == "capabilities":
        return f"capabilities/{kind}"
    if kind == "scsi_host":
        return f"{kind}/{context.get('@model') or 'virtio'}"
    return f"{kind}/{context.get('@model') or 'vfio-pci'}" if kind == "mdev" else kind


def source_of(context: ElementContext) -> str:
    """What stays of the host's device, in one word: an address, a vendor and product, a uuid, a name.

    >>> # <source><address domain='0' bus='6' slot='0x12' function='5'/></source>  ->  0000:06:12.5
    """
    address = context.element.first("source/address")
    given = address.attributes if address is not None else {}

    def number_of(name: str) -> int:
        return integer(given.get(name, "0"))

    try:
        match context.get("@type"):
            case "pci":
                return f"{number_of('domain'):04x}:{number_of('bus'):02x}:{number_of('slot'):02x}.{number_of('function'):x}"
            case "usb" if address is not None:
                return f"{number_of('bus')}.{given.get('device') or given.get('port', '')}"
            case "usb":
                return f"{context.get('source/vendor/@id')}:{context.get('source/product/@id')}"
            case "scsi" if context.get("source/@protocol"):
                return context.get("source/@name")
            case "scsi":
                place = ":".join(given.get(name, "0") for name in ("bus", "target", "unit"))
                return f"{context.get('source/adapter/@name')}:{place}"
            case "scsi_host":
                return context.get("source/@wwpn")
            case _:
                return uuid_from_text(given["uuid"]) if "uuid" in given else ""
    except ValueError:
        expected = "a UUID" if context.get("@type") == "mdev" else "numbers"
        context.error("source/address", "the address of the source is malformed", expected=expected, rule="value-valid")
        return ""


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    wanted = without_rom(context, wanted)
    kind = context.get("@type")
    source = source_of(context)
    properties = dict(wanted.properties)
    if wanted.driver == "vfio-pci" and kind == "mdev":
        properties.setdefault("display", "off")
        if context.get("@ramfb") == "on":
            properties["ramfb"] = True
            wanted = replace(wanted, driver="vfio-pci-nohotplug")
    if kind == "pci" and wanted.address is not None and wanted.address.type == "unassigned":
        wanted = replace(wanted, driver="")  # kept for the guest, and not in it
    if kind == "pci" and context.get("teaming/@type") == "transient":
        properties["failover_pair_id"] = context.get("teaming/@persistent")
    return replace(
        wanted,
        properties=properties,
        origin="/".join(filter(None, (wanted.kind, kind, source))),
        facts={**wanted.facts, "mode": context.get("@mode") or "subsystem", "type": kind, "source": source},
    )


_PARENT = ("", "_fabric_wwn", "_wwnn", "_wwpn")

HOSTDEV = ElementRow(
    "hostdev",
    choose=_choice,
    drivers=DRIVERS,
    props={
        "bootindex": Prop("boot/@order", positive),
        "display": Prop("@display", drivers=("vfio-pci*",)),
        **ROM,
    },
    facts=NODES,
    alias="hostdev",
    reads=("@type", "@mode", "@model", "@ramfb", "rom/@enabled", "teaming/@type", "teaming/@persistent"),
    host={
        **ROM_HOST,
        "@managed": idle("libvirt takes it from its driver; without libvirt it must be free, or QEMU refuses it"),
        "@missing": idle("what libvirt does without it"),
        "@sgio": by_libvirt("which commands the host lets through", unless=("filtered",)),
        "@rawio": by_libvirt("a capability of the process", unless=("no",)),
        "driver/*": carried("hostdev", "how the host hands it over"),
        "source/*": carried("hostdev", "which device of the host"),
        "driver/@iommufd": by_libvirt("a descriptor of /dev/iommu", unless=("no",)),
        "driver/@model": by_libvirt("the host's driver"),
        "source/@guestReset": by_libvirt("whether the guest resets it", unless=("on",)),
        "source/@startupPolicy": idle("what libvirt does where it is missing: QEMU refuses it"),
        "source/@writeFiltering": by_libvirt("which writes the host lets through", unless=("yes",)),
        "source/address/@multifunction": idle("a place of the host's"),
        **dict.fromkeys(("source/auth/*", "source/initiator/*"), by_libvirt("who logs in to the server")),
        "source/host/*": by_libvirt("the server"),
        **dict.fromkeys(("source/block", "source/char", "source/interface"), by_libvirt("containers")),
        **{
            f"source/adapter/{path}": by_libvirt("an adapter that libvirt makes")
            for path in ("@managed", "@wwnn", "parentaddr/*", *(f"@parent{end}" for end in _PARENT))
        },
        "readonly": carried("hostdev", "the backend is opened read-only"),
        "shareable": carried("hostdev", "`share-rw`"),
    },
    refused={"ip/*": "containers alone have it", "route/*": "containers alone have it"},
    shape=_shape,
)
