"""What libvirt chooses where the XML leaves it open, where that changed over time: a row a choice.

For a fresh guest the newest libvirt's choice counts.  For a described one the description says (``Guest.known``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from mdtool.errors import InputError, MdtoolError
from mdtool.guest.disk_buses import disk_number
from mdtool.guest.machines import emulator, machine_of, machines_of
from mdtool.guest.model import Guest, Wanted
from mdtool.machine.buses.providers import libvirt_index, provider_of
from mdtool.machine.drivers import same_driver
from mdtool.machine.machines import VIRT, family_of
from mdtool.machine.tree import BUILTIN, MANUAL, SECTIONS, Node, Tree
from mdtool.records import NamedTuple, replace

ARM = ("aarch64", "armv7l", "armv6l")


class Choice(NamedTuple):
    """One row: on these architectures (and on the machine ``virt`` alone, where ``virt``) libvirt takes ``now``.

    ``old`` is what libvirt ``until`` took; both were asked: ``virsh domxml-to-native``, QEMU with all models at hand.
    """

    arches: tuple[str, ...]
    now: str
    old: str = ""
    until: str = ""
    since: str = ""
    virt: bool = False


#: the model of a SCSI controller
SCSI_MODEL = (
    Choice(("ppc64", "ppc64le"), "ibmvscsi"),
    Choice(("s390", "s390x"), "virtio-scsi"),
    Choice(ARM, "virtio-scsi", "lsilogic", until="9.0", since="12.8", virt=True),
)
#: the model of a USB controller whose XML names none
USB_MODEL = (
    Choice(("s390", "s390x"), "none"),
    Choice(("aarch64", "ppc64", "ppc64le"), "qemu-xhci"),
    Choice(ARM, "qemu-xhci", "piix3-uhci", until="9.0", since="12.8", virt=True),
)
#: the model of a panic device; libvirt 9.0 refused the ISA one of an ARM machine, which it took
PANIC_MODEL = (
    Choice(("ppc64", "ppc64le"), "pseries"),
    Choice(("s390", "s390x"), "s390"),
    Choice(ARM, "pvpanic", "isa", until="9.0", since="12.8", virt=True),
)


#: the machine types of QEMUs that came before libvirt 9.1, the first one that chooses as the newest does what follows
_OLDER = re.compile(r"-[1-7]\.\d+$")
_LATER = 8  # the major version of the first QEMU after them
#: CPU features that libvirt takes out of the models that once had them
REMOVED_FEATURES = {
    "monitor": "Dhyana EPYC EPYC-IBPB Opteron_G3",
    "intel-pt": "Icelake-Client Icelake-Client-noTSX Icelake-Server Icelake-Server-noTSX",
}
#: the same, since 12.8 or a bit earlier
REMOVED_LATER = {
    "mpx": "Cascadelake-Server Cascadelake-Server-noTSX Icelake-Server Icelake-Server-noTSX Skylake-Client "
    "Skylake-Client-IBRS Skylake-Client-noTSX-IBRS Skylake-Server Skylake-Server-IBRS Skylake-Server-noTSX-IBRS"
}


#: switches of a CPU that libvirt until 9.0 wrote without ``=on``
WRITTEN_ALONE = frozenset({"hv-crash"})


def is_later(machine: str) -> bool:
    """Whether a versioned machine type is younger than libvirt 9.0, which then is not what starts its guests.

    >>> is_later("pc-q35-7.2"), is_later("pc-q35-8.0"), is_later("pc-i440fx-2.12"), is_later("virt-11.1")
    (False, True, False, True)
    """
    return bool(re.search(r"-\d+\.\d+$", machine)) and not _OLDER.search(machine)


def has_newest(guest: Guest) -> bool:
    """Whether the newest libvirt's choices count for a guest's machine type; without a QEMU its own name says it."""
    try:
        return is_later(machine_of(guest).name)
    except InputError:
        return is_later(guest.machine)


def has_newest_qemu(guest: Guest) -> bool:
    """Whether a newer libvirt than 9.0 starts a guest, of an older machine type too: by the QEMU that is at hand.

    To be asked only where a guest that is described keeps what was chosen: another host may have another QEMU.
    """
    try:
        return has_newest(guest) or int(machines_of(emulator(guest)).version.partition(".")[0]) >= _LATER
    except MdtoolError:
        return False


def has_loadparm(guest: Guest) -> bool:
    """Whether what s390x boots is said of each device, as libvirt has it since QEMU 9.2, and not of the machine.

    Where the machine that is described has it, it stays there.
    """
    version = re.search(r"-(\d+)\.(\d+)$", guest.machine if guest.places_only else machine_of(guest).name)
    is_old = version is None or (int(version[1]), int(version[2])) < (9, 2) or ("loadparm", 0) in guest.known
    return guest.is_s390 and not is_old


def has_added_cell(guest: Guest) -> bool:
    """Whether libvirt adds a NUMA cell of all CPUs and memory: where memory can be plugged in and the XML has no cell.

    libvirt 9.0 refused such a guest, but a pseries one.  One that is described without a cell has none.
    """
    if guest.domain.first("maxMemory") is None or guest.domain.first("cpu/numa/cell") is not None:
        return False
    return not guest.is_s390 and (has_newest(guest) or not guest.is_ppc) and ("numa", 0) not in guest.known


def removed_features(model: str | None, machine: str) -> list[str]:
    """The features that libvirt takes out of a CPU model.

    >>> removed_features("EPYC", "pc-q35-7.2"), removed_features("Icelake-Server", "pc-q35-11.1")
    (['monitor'], ['intel-pt', 'mpx'])
    """
    rows = {**REMOVED_FEATURES, **(REMOVED_LATER if is_later(machine) else {})}
    return [feature for feature, models in rows.items() if model in models.split()]


def chosen(rows: tuple[Choice, ...], arch: str, machine: str, absent: str) -> str:
    """The newest libvirt's choice.

    >>> chosen(SCSI_MODEL, "aarch64", "virt-7.2", "lsilogic"), chosen(SCSI_MODEL, "x86_64", "pc", "lsilogic")
    ('virtio-scsi', 'lsilogic')
    """
    is_virt = family_of(machine, arch) is VIRT
    return next((row.now for row in rows if arch in row.arches and (is_virt or not row.virt)), absent)


#: kind of device -> where its XML names the model; where it does not, the machine that is described has made the choice
MODELS: Mapping[str, str] = {
    "controller": "@model",
    "interface": "model/@type",
    "memballoon": "@model",
    "panic": "@model",
    "tpm": "@model",
    "video": "model/@type",
}


def _has_places_alone(tree: Tree) -> bool:
    """Whether it was made of hints, which leave all sections to libvirt."""
    return tree.machine.keys() <= {"type", "arch"} and not any(
        getattr(tree, name) for name in SECTIONS if name != "machine"
    )


def as_described(guest: Guest, tree: Tree) -> Guest:
    """``guest`` with the CPU, the models of controllers, the MAC addresses and the kind of firmware that ``tree`` has, for
    what its XML leaves open.  Raises InputError where it leaves open which interface is which."""
    known: dict[tuple[str, int], str] = dict(_addresses(guest, tree))
    for place in tree.places:
        if place.node.driver in ("usb-storage", "usb-bot"):
            known["disk", disk_number((place.node.origin or "").removeprefix("disk/"))] = place.node.driver
        row = provider_of(place.node.driver)
        index = libvirt_index(place.node, row.type) if row.type in ("scsi", "usb") else None
        if index is not None and not row.model.startswith("ich9-"):  # those come in sets, which the XML lists
            known.setdefault((row.type, index), row.model)
    if _has_places_alone(tree):
        return replace(guest, known=known)
    if tree.firmware.get("secure") and tree.machine.get("properties", {}).get("smm", "on") == "on":
        known["firmware", 0] = "secure"
    if not tree.numa.get("nodes"):
        known["numa", 0] = "none"
    if (loadparm := tree.machine.get("properties", {}).get("loadparm")) is not None:
        known["loadparm", 0] = str(loadparm)
    features, offers = tree.cpu.get("features", {}), guest.offers
    guest = replace(
        guest, known=known, applied=tree.applied, offers=lambda name: features[name] if name in features else offers(name)
    )
    if "model" not in tree.cpu:
        return guest
    # what runs is one of the CPUs that host-model stands for, and stays that one on every host
    cpu = {"model": tree.cpu["model"], "features": tree.applied.get("@cpu", {}).get("features", {})}
    return replace(guest, host_model=lambda: cpu)


def _addresses(guest: Guest, tree: Tree) -> Iterator[tuple[tuple[str, int], str]]:
    """The described MAC addresses of the interfaces whose XML has none: libvirt drew them, and the file was left as it was.

    Of the devices that no other interface is, one keeps the address that mdtool itself makes up; then as many devices of
    a model as there are interfaces go in order.
    """
    places = (place.node for place in tree.places if place.node.origin not in (BUILTIN, MANUAL))
    left = {str(mac).lower(): node for node in places if (mac := node.value("mac"))}
    interfaces = [one for one in guest.devices if one.tag == "interface"]
    for one in interfaces:
        left.pop(str(one.get("mac/@address")).lower().replace("-", ":"), None)
    nameless = dict(enumerate(one for one in interfaces if not one.get("mac/@address")))
    for number in list(nameless):
        if nameless[number].get("@type") == "hostdev" or left.pop(made_up_mac(guest, number), None) is not None:
            del nameless[number]
    models: dict[str, list[int]] = {}
    for number, one in nameless.items():
        models.setdefault(_family(one.get("model/@type") or ""), []).append(number)
    for model, numbers in sorted(models.items(), reverse=True):  # those that name no model come last
        fit = [mac for mac, node in left.items() if model in ("", _family(node.driver))]
        fit = fit if fit or len(numbers) != len(left) else list(left)  # another model of the only ones that there are
        if fit and len(fit) != len(numbers):
            which = ", ".join(f"{left[mac].id} ({mac})" for mac in fit)
            what = f"{len(numbers)} interfaces without a MAC address may be {which}"
            remedy = "write <mac address='...'/> into the interfaces"
            raise InputError(what, at=nameless[numbers[0]].position, remedy=remedy, rule="which-interface")
        for number, mac in zip(numbers, fit, strict=False):
            del left[mac]
            yield ("mac", number), mac


def made_up_mac(guest: Guest, number: int) -> str:
    """An address for the interface without one that is the ``number``th: the same one for the same guest, in QEMU's range.

    libvirt draws a random one when a guest is defined, and writes it into the XML.
    """
    from hashlib import sha256  # few guests need it

    key = f"{guest.uuid or guest.name}/{number}".encode()
    return ":".join(("52:54:00", *(f"{byte:02x}" for byte in sha256(key).digest()[:3])))


def _family(model: str) -> str:
    """A model of <interface>, or a driver, without what virtio has several of."""
    return "virtio" if model.startswith("virtio") else model


def with_described_model(wanted: Wanted, node: Node) -> Wanted:
    """``wanted`` of the node's model, unless another is named: its properties are those that the node has as well."""
    path = MODELS.get(wanted.kind)
    named = path is None or (wanted.element is not None and wanted.element.get(path))
    if named or not wanted.driver or same_driver(wanted.driver, node.driver):
        return wanted
    have = {**node.pins, **node.properties}
    properties = {name: value for name, value in wanted.properties.items() if name in have}
    return replace(wanted, driver=node.driver, properties=properties)
