"""<interface>: network devices; where their packets go is the host's."""

from __future__ import annotations

import re

from mdtool.guest.choices import made_up_mac
from mdtool.guest.convert import number, positive, switch
from mdtool.guest.elements.hostdev import NODES
from mdtool.guest.elements.rom import ROM, ROM_HOST, without_rom
from mdtool.guest.engine import address_from_element, virtio_transport
from mdtool.guest.host import by_libvirt, carried, idle
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop, virtio
from mdtool.records import replace

#: Models that are QEMU types under their own names.
PLAIN = (
    "e1000", "e1000-82544gc", "e1000-82545em", "e1000e", "i82550", "i82551", "i82557a", "i82557b", "i82557c", "i82558a",
    "i82558b", "i82559a", "i82559b", "i82559c", "i82559er", "i82562", "i82801", "igb", "lan9118", "ne2k_isa", "ne2k_pci",
    "pcnet", "rtl8139", "smc91c111", "spapr-vlan", "sungem", "sunhme", "tulip", "usb-net", "virtio-net", "vmxnet3",
)  # fmt: skip

#: NICs of ARM boards, where QEMU takes no device for one but ``-net nic``: there libvirt has that for all
#: without a bus; on the virt machine it takes them for PCI devices, which QEMU refuses.
BOARD = ("allwinner-emac", "allwinner-sun8i-emac", "cadence_gem", "ftgmac100", "lan9118", "open_eth", "smc91c111",
         "xgmac")  # fmt: skip

_NET = ("virtio-net-*",)


def mac(value: str) -> str:
    if not re.fullmatch(r"[0-9a-fA-F]{1,2}([:-][0-9a-fA-F]{1,2}){5}", value):
        raise ValueError("six hexadecimal numbers with : between them")
    parts = [part.zfill(2).lower() for part in re.split("[:-]", value)]
    if int(parts[0], 16) & 1:
        raise ValueError("the address of one device: an even first number")
    return ":".join(parts)


def default_model(context: ElementContext) -> str:
    """The model that libvirt takes where the XML names none."""
    guest = context.guest
    if context.get("@type") == "vdpa":
        return "virtio"
    if guest.is_arm:
        return "smc91c111" if guest.machine == "versatilepb" else "virtio" if guest.is_virt else "lan9118"
    return "virtio" if guest.arch.startswith(("s390", "riscv")) else "rtl8139"


def drivers(context: ElementContext) -> dict[str, str]:
    """Model -> driver.  libvirt hands a model that it does not know to QEMU as it stands."""
    known = {**{model: model for model in PLAIN}, **virtio("virtio-net"), "hostdev": "vfio-pci"}
    guest = context.guest
    if guest.is_arm and not guest.is_virt:
        on_bus = virtio("virtio-net") if virtio_transport(guest, address_from_element(context)) == "mmio" else {}
        has_pci = guest.machine == "versatilepb"
        known |= dict.fromkeys(BOARD if has_pci else known.keys() - on_bus.keys() - {"hostdev"} | set(BOARD), "")
    elif guest.family is None:  # another board
        known |= dict.fromkeys(BOARD, "")
    model = context.get("model/@type")
    if model and model not in known and re.fullmatch(r"[a-zA-Z0-9_-]+", model):
        context.report.warn(
            f"interface: mdtool does not know the model '{model}'; it is passed to QEMU unchanged",
            at=context.element.at("model/@type"),
            rule="model-known",
        )
        known[model] = model
    return known


def _choice(context: ElementContext) -> str:
    if context.get("@type") == "hostdev":
        return "hostdev"
    return context.get("model/@type") or default_model(context)


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    wanted = without_rom(context, wanted)
    properties = dict(wanted.properties)
    if wanted.facts["choice"] == "hostdev":
        # The host sets the address of its own function: the guest's device has no such property.
        properties.pop("mac", None)
        return replace(wanted, properties=properties, identifying=frozenset(), alias="hostdev")
    queues = context.number("driver/@queues")
    if wanted.driver.startswith("virtio-net-") and queues > 1:
        properties["mq"] = True
        if wanted.facts.get("transport") == "pci":
            properties["vectors"] = 2 * queues + 2  # one a queue and direction, configuration, control
    if wanted.driver.startswith("virtio-net-") and context.get("teaming/@type") == "persistent":
        properties["failover"] = True
    ordinal = context.numbered.get("nameless", 0)
    address = wanted.facts.get("mac") or context.guest.known.get(("mac", ordinal)) or made_up_mac(context.guest, ordinal)
    properties["mac"] = address
    origin = f"{wanted.kind}/{address}"
    return replace(wanted, properties=properties, origin=origin, identifying=frozenset({"mac"}))


#: what the host, or the guest, does of a packet's work
_OFFLOADS = ("tso4", "tso6", "ecn", "ufo")

INTERFACE = ElementRow(
    "interface",
    choose=_choice,
    reads=("model/@type", "driver/@queues", "rom/@enabled", "teaming/@type"),
    drivers=drivers,
    props={
        "mac": Prop("mac/@address", mac),
        "bootindex": Prop("boot/@order", positive),
        "tx": Prop("driver/@txmode", lambda value: {"iothread": "bh"}.get(value, value), _NET),
        "ioeventfd": Prop("driver/@ioeventfd", switch, _NET),
        "event_idx": Prop("driver/@event_idx", switch, _NET),
        "rss": Prop("driver/@rss", switch, _NET),
        "hash": Prop("driver/@rss_hash_report", switch, _NET),
        "rx_queue_size": Prop("driver/@rx_queue_size", number, _NET),
        "tx_queue_size": Prop("driver/@tx_queue_size", number, _NET),
        **{name: Prop(f"driver/host/@{name}", switch, _NET) for name in ("csum", "gso", "mrg_rxbuf")},
        **{
            f"{side}_{name}": Prop(f"driver/{side}/@{name}", switch, _NET)
            for side, offloads in (("host", _OFFLOADS), ("guest", ("csum", *_OFFLOADS)))
            for name in offloads
        },
        "host_mtu": Prop("mtu/@size", number, _NET),
        **VIRTIO,
        **ROM,
    },
    facts={**NODES, "type": "@type", "source": Prop("source/address/@slot"), "mac": Prop("mac/@address", mac)},
    origin=("mac/@address",),
    match=("mac",),
    alias="net",
    host={
        **ROM_HOST,
        "@managed": by_libvirt("libvirt detaches the host's device", unless=("no",)),
        "@trustGuestRxFilters": by_libvirt("a setting of the host's device", unless=("no",)),
        "source/*": carried("net", "the backend"),
        **dict.fromkeys(("backend/@fqdn", "backend/@hostname"), by_libvirt("what passt tells the guest")),
        **dict.fromkeys(("backend/@tap", "backend/@vhost"), by_libvirt("another device file")),
        **dict.fromkeys(
            ("ip/@peer", "source/ip/*", "source/route/*", "virtualport/parameters/*", "vlan/tag/@nativeMode"),
            by_libvirt("the network behind the backend"),
        ),
        **{
            f"source/@{name}": by_libvirt("a port of another switch")
            for name in ("connectionid", "portgroup", "portgroupid", "portid", "switchid")
        },
        "source/@macTableManager": idle("who keeps the bridge's table"),
        "source/@missing": idle("what libvirt does without it"),
        "source/address/@multifunction": idle("a place of the host's"),
        "source/reconnect/@delay": idle("a disk's, and no chardev's"),
        "driver/@iommufd": by_libvirt("a descriptor of /dev/iommu", unless=("no",)),
        "backend/*": carried("net", "the backend"),
        "backenddomain/*": by_libvirt("the backend"),
        "bandwidth/*": by_libvirt("the backend"),
        "coalesce/*": by_libvirt("the backend"),
        "downscript/*": carried("net", "the backend"),
        "script/*": carried("net", "the backend"),
        "filterref/*": by_libvirt("a filter on the host"),
        "guest/*": by_libvirt("names in a container"),
        "ip/*": carried("net", "the network behind the backend"),
        "route/*": by_libvirt("the network behind the backend"),
        "portForward/*": carried("net", "the backend"),
        "port/@isolated": by_libvirt("the bridge", unless=("no",)),
        "target/*": carried("net", "the backend"),
        "tune/*": carried("net", "the backend"),
        "virtualport/*": carried("net", "the backend"),
        "vlan/*": carried("net", "the backend"),
        "link/@state": by_libvirt("the cable, which QMP plugs and pulls", unless=("up",)),
        "driver/@name": carried("net", "the backend"),
        "teaming/@persistent": idle("the id of the NIC that stands in"),
        "mac/@currentAddress": idle("what the guest made of it: state of the guest and not of the hardware"),
        "driver/@model": idle("the host's driver for a device of the host"),
        "mac/@check": idle("what the hypervisor checks"),
        "mac/@type": idle("where the hypervisor takes the address from"),
    },
    shape=_shape,
)
