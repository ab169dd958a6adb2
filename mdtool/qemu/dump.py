"""A running machine as a tree: everything the guest sees, in a constant number of round trips.

Reading is split in two.  ``RawBus`` and ``RawDevice`` are what QEMU says, whichever way it was asked; from there on a
tree is made by pure functions: virtio proxies folded, addresses read, properties divided by their roles.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from mdtool.document import canonical
from mdtool.qemu.qtree import RawBus, RawDevice, buses_from_qtree
from mdtool.qemu.roles import chosen, is_told, role
from mdtool.qemu.session import Refused, Session
from mdtool.tree import BUILTIN, Bus, Node, Tree, Value

NO_UUID = "00000000-0000-0000-0000-000000000000"


@dataclass(slots=True)
class Raw:
    """What was read of a machine, before anything is made of it."""

    buses: list[RawBus]
    users: Mapping[str, str]  # QOM path of what -device or device_add made: its driver
    answers: Mapping[str, Any] = field(default_factory=dict)


def dump(session: Session) -> Tree:
    """The machine behind a session, built-ins and all.  Raises MonitorError; sends nothing but queries."""
    raw = read(session)
    return tree_from_raw(raw, session.version)


# --- reading ---------------------------------------------------------------------------------------------------------


def _machine(name: str) -> tuple[str, Mapping[str, Any]]:
    return "qom-get", {"path": "/machine", "property": name}


#: what is asked besides the devices, one round trip each: answer: (command, arguments)
QUESTIONS: Mapping[str, tuple[str, Mapping[str, Any] | None]] = {
    "name": ("query-name", None),
    "uuid": ("query-uuid", None),
    "target": ("query-target", None),
    "type": _machine("type"),
    "smp": _machine("smp"),
    "boot": _machine("boot"),
    "memory": _machine("memory"),
    "acpi": _machine("acpi"),
    "cpus": ("query-hotpluggable-cpus", None),
    "memdev": ("query-memdev", None),
    "memory devices": ("query-memory-devices", None),
    "objects": ("qom-list", {"path": "/objects"}),
    "peripheral": ("qom-list", {"path": "/machine/peripheral"}),
    "peripheral-anon": ("qom-list", {"path": "/machine/peripheral-anon"}),
}


def read(session: Session) -> Raw:
    answers = {name: _asked(session, *question) for name, question in QUESTIONS.items()}
    users = {
        f"/machine/{folder}/{entry['name']}": entry["type"][6:-1]
        for folder in ("peripheral", "peripheral-anon")
        for entry in answers[folder] or ()
        if entry["type"].startswith("child<")
    }
    if answers["cpus"] is None:
        answers["cpus"] = _cpus(session)
    first = next((cpu["qom-path"] for cpu in reversed(answers["cpus"] or []) if "qom-path" in cpu), None)
    if first and answers["target"]["arch"] in ("x86_64", "i386"):
        answers["feature-words"] = _asked(session, "qom-get", {"path": first, "property": "feature-words"})
    buses = buses_from_qtree(session.hmp("info qtree"), f"{session.source}: info qtree")
    _find_paths(session, buses, users)
    for device in _all(buses):
        for name in _boot_indexes(device) if device.path in users else ():
            device.properties[name] = _asked(session, "qom-get", {"path": device.path, "property": name})
    return Raw(buses, users, answers)


def _asked(session: Session, command: str, arguments: Mapping[str, Any] | None) -> Any:
    """The answer, or None where this QEMU or this machine has none."""
    try:
        return session.execute(command, arguments)
    except Refused:
        return None


def _cpus(session: Session) -> list[dict[str, Any]]:
    """The CPUs of a machine that cannot hotplug any, in the form of query-hotpluggable-cpus."""
    found = session.execute("query-cpus-fast")
    kind = _asked(session, "qom-get", {"path": found[0]["qom-path"], "property": "type"}) if found else None
    return [{"props": cpu.get("props", {}), "qom-path": cpu["qom-path"], "type": kind} for cpu in reversed(found)]


#: boot indexes are QOM properties that `info qtree` leaves out; drivers with others than ``bootindex``
BOOT_INDEXES: Mapping[str, tuple[str, ...]] = {"isa-fdc": ("bootindexA", "bootindexB"), "sysbus-fdc": ()}
_BOOTABLE = frozenset({"drive", "netdev", "mac"})
_BOOTABLE_DRIVERS = re.compile(r"vfio-pci|vfio-ccw|usb-host|usb-redir|vhost-user-(blk|fs)-.*|vhost-(user-)?scsi-.*")


def _boot_indexes(device: RawDevice) -> tuple[str, ...]:
    """The boot indexes of a device: of disks and NICs, and of what may hide one."""
    inside = (d for bus in device.buses if bus.type in FOLDED for d in bus.devices)
    boots = bool(_BOOTABLE_DRIVERS.fullmatch(device.driver)) or any(
        not _BOOTABLE.isdisjoint(d.properties) for d in (device, *inside)
    )
    return BOOT_INDEXES.get(device.driver, ("bootindex",) if boots else ())


def _all(buses: Iterable[RawBus]) -> Iterable[RawDevice]:
    for bus in buses:
        for device in bus.devices:
            yield device
            yield from _all(device.buses)


def _find_paths(session: Session, buses: list[RawBus], users: Mapping[str, str]) -> None:
    """Give every device that a user made its QOM path; what has none afterwards is a built-in.

    An id says it.  An anonymous device is known by its driver, where all of that driver were made by users; only where
    some were not is QEMU asked for their bus, one trip each, and they are counted from the youngest on.
    """
    anonymous: dict[str, list[tuple[RawBus, RawDevice]]] = {}
    for bus, device in _placed(buses):
        path = f"/machine/peripheral/{device.id}"
        if device.id and users.get(path) == device.driver:
            device.path = path
        elif not device.id:
            anonymous.setdefault(device.driver, []).append((bus, device))
    paths: dict[str, list[str]] = {}
    for path, driver in users.items():
        if path.startswith("/machine/peripheral-anon/"):
            paths.setdefault(driver, []).append(path)
    for driver, made in paths.items():
        made.sort(key=_number)
        here = anonymous.get(driver, [])
        if len(made) == len(here) == 1:
            here[0][1].path = made[0]
            continue
        by_bus: dict[str, list[RawDevice]] = {}
        for bus, device in here:
            by_bus.setdefault(bus.name, []).append(device)  # youngest first
        for path in reversed(made):
            parent = _asked(session, "qom-get", {"path": path, "property": "parent_bus"})
            queue = by_bus.get(str(parent).rpartition("/")[2], [])
            if queue:
                queue.pop(0).path = path


def _placed(buses: Iterable[RawBus]) -> Iterable[tuple[RawBus, RawDevice]]:
    for bus in buses:
        for device in bus.devices:
            yield bus, device
            yield from _placed(device.buses)


def _number(path: str) -> int:
    found = re.search(r"\[(\d+)\]$", path)
    return int(found[1]) if found else 0


# --- from what was read to a tree ------------------------------------------------------------------------------------

#: buses between a virtio proxy and its one device, which are one node
FOLDED = frozenset({"virtio-pci-bus", "virtio-ccw-bus"})

Address = Callable[[RawDevice], tuple[str | None, tuple[str, ...]]]


def _pci(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    return device.properties.get("addr"), ("addr",)


def _plain(name: str, form: str = "{}") -> Address:
    def read(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
        value = device.properties.get(name)
        return (form.format(value) if value is not None and value != "" else None), (name,)

    return read


def _scsi(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    names = ("channel", "scsi-id", "lun")
    values = [device.properties.get(name) for name in names]
    return (":".join(map(str, values)) if None not in values else None), names


def _isa(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    name = next((name for name in ("iobase", "ioport", "base") if name in device.properties), None)
    return (f"{device.properties[name]:x}", (name,)) if name is not None else (None, ())


def _ccw(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    names = ("dev_id", "devno")
    return next((device.properties[name] for name in names if device.properties.get(name)), None), names


def _mmio(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    bases = [base.lstrip("0") or "0" for base in device.mmio if base != "f" * 16]
    return (bases[0] if bases else None), ()


def _none(device: RawDevice) -> tuple[str | None, tuple[str, ...]]:
    return None, ()


#: the notation of each bus type: what makes the address, and which properties are nothing but it
NOTATIONS: Mapping[str, Address] = {
    "System": _mmio,
    "PCI": _pci,
    "PCIE": _pci,
    "CXL": _pci,
    "pxb-bus": _pci,
    "pxb-pcie-bus": _pci,
    "pxb-cxl-bus": _pci,
    "usb-bus": _plain("port"),
    "SCSI": _scsi,
    "IDE": _plain("unit"),
    "floppy-bus": _plain("unit"),
    "HDA": _plain("cad"),
    "ISA": _isa,
    "virtio-serial-bus": _plain("nr"),
    "virtual-css-bus": _ccw,
    "spapr-vio-bus": _plain("reg", "{:x}"),
    "i2c-bus": _plain("address", "{:02x}"),
    "ccid-bus": _plain("slot"),
    "nvme-bus": _plain("nsid"),
    "SSI": _plain("cs"),
}


def tree_from_raw(raw: Raw, version: tuple[int, int, int]) -> Tree:
    answers = raw.answers
    top: list[Bus] = []
    for bus in raw.buses:
        made = _bus(bus, raw)
        top.append(replace(made, devices=tuple(_without_buses(node, top) for node in made.devices)))
    uuid = (answers.get("uuid") or {}).get("UUID", NO_UUID)
    name = (answers.get("name") or {}).get("name")
    return canonical(
        Tree(
            guest=_present(name=name, uuid=None if uuid == NO_UUID else uuid),
            machine=_present(
                type=str(answers["type"]).removesuffix("-machine"),
                arch=answers["target"]["arch"],
                qemu=".".join(map(str, version)),
            ),
            cpu=_cpu(answers),
            memory=_memory(answers),
            boot=_boot(answers),
            objects=_objects(answers),
            buses=tuple(top),
            devices=(*_cpu_nodes(answers), *_memory_nodes(answers, raw.users)),
        )
    )


def _present(**values: Value) -> dict[str, Value]:
    return {key: value for key, value in values.items() if value is not None}


def _without_buses(node: Node, top: list[Bus]) -> Node:
    """A system-bus device; its buses move to the top, with its name as their ``host``."""
    top.extend(replace(bus, host=node.driver) for bus in node.buses)
    return replace(node, buses=())


def _bus(bus: RawBus, raw: Raw) -> Bus:
    notation = NOTATIONS.get(bus.type, _none)
    nodes = [_node(device, notation, raw) for device in reversed(bus.devices)]
    nodes.sort(key=lambda node: json.dumps([node.properties, node.pins], sort_keys=True))
    return Bus(bus.name, bus.type, tuple(nodes))


def _node(device: RawDevice, notation: Address, raw: Raw) -> Node:
    device = _folded(device)
    address, spent = notation(device)
    bags: dict[str, dict[str, Value]] = {"chosen": {}, "guest": {}, "effective": {}, "host": {}, "state": {}}
    for name, value in device.properties.items():
        if name in spent or not is_told(name, value):
            continue
        kind = role(device.driver, name)
        bags["chosen" if kind == "guest" and chosen(device.driver, name, value) else kind][name] = value
    return Node(
        driver=device.driver,
        id=device.id or None,
        address=address,
        origin=None if device.path in raw.users else BUILTIN,
        properties=bags["chosen"],
        pins=bags["guest"],
        effective=bags["effective"],
        buses=tuple(_bus(bus, raw) for bus in device.buses),
    )


def _folded(device: RawDevice) -> RawDevice:
    """A virtio proxy together with the device behind it."""
    inner = next((bus.devices[0] for bus in device.buses if bus.type in FOLDED and bus.devices), None)
    if inner is None:
        return replace(device, buses=[bus for bus in device.buses if bus.type not in FOLDED])
    buses = [bus for bus in device.buses if bus.type not in FOLDED] + inner.buses
    return replace(device, properties={**inner.properties, **device.properties}, buses=buses)


# --- sections --------------------------------------------------------------------------------------------------------


def _cpu(answers: Mapping[str, Any]) -> dict[str, Value]:
    smp = answers.get("smp") or {}
    cpus = answers.get("cpus") or []
    kind = next((cpu.get("type") for cpu in cpus if cpu.get("type")), None)
    topology = {
        name: smp[name]
        for name in ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")
        if name in smp and (smp[name] != 1 or name in ("sockets", "cores", "threads"))
    }
    return _present(
        model=re.sub(r"-[a-z0-9_]+-cpu$", "", kind) if kind else None,
        vcpus=smp.get("cpus"),
        maxcpus=smp.get("maxcpus"),
        topology=topology or None,
    )


def _memory(answers: Mapping[str, Any]) -> dict[str, Value]:
    memory = answers.get("memory") or {}
    slots = memory.get("slots") or None
    return _present(size=memory.get("size"), slots=slots, max=memory.get("max-size") if slots else None)


def _boot(answers: Mapping[str, Any]) -> dict[str, Value]:
    """Boot options that differ from what a machine has where nobody chose."""
    boot = answers.get("boot") or {}
    known = {"order": boot.get("order") if boot.get("order") != "cad" else None, "menu": boot.get("menu"), "strict": boot.get("strict") or None}
    return _present(**known)


def _objects(answers: Mapping[str, Any]) -> dict[str, Value]:
    """Memory back ends: their ids name RAM blocks in the migration stream."""
    kinds = {entry["name"]: entry["type"][6:-1] for entry in answers.get("objects") or ()}
    return {
        memdev["id"]: _present(
            type=kinds.get(memdev["id"], "memory-backend-ram"), size=memdev["size"], share=memdev.get("share") or None
        )
        for memdev in sorted(answers.get("memdev") or (), key=lambda memdev: str(memdev.get("id")))
        if memdev.get("id")
    }


#: how a CPU's place is written, outermost first
_PLACES = ("drawer-id", "book-id", "socket-id", "die-id", "cluster-id", "module-id", "core-id", "thread-id")


def _cpu_nodes(answers: Mapping[str, Any]) -> Iterable[Node]:
    cpus = [cpu for cpu in answers.get("cpus") or () if "qom-path" in cpu]
    words = answers.get("feature-words")
    for number, cpu in enumerate(reversed(cpus)):
        path = cpu["qom-path"]
        user = path.startswith("/machine/peripheral")
        yield Node(
            driver=cpu["type"],
            id=path.rpartition("/")[2] if path.startswith("/machine/peripheral/") else None,
            address=":".join(str(cpu["props"][place]) for place in _PLACES if place in cpu["props"]) or str(number),
            origin=None if user else BUILTIN,
            effective={"feature-words": _feature_words(words)} if words and number == 0 else {},
        )


def _feature_words(words: Iterable[Mapping[str, Any]]) -> dict[str, str]:
    """CPUID as the guest gets it: ``{"1.edx": "078bfbfd", "7.0.ebx": ...}``."""
    found = {}
    for word in words:
        leaf = f"{word['cpuid-input-eax']:x}"
        if "cpuid-input-ecx" in word:
            leaf += f".{word['cpuid-input-ecx']:x}"
        found[f"{leaf}.{word['cpuid-register'].lower()}"] = f"{word['features']:08x}"
    return dict(sorted(found.items()))


def _memory_nodes(answers: Mapping[str, Any], users: Mapping[str, str]) -> Iterable[Node]:
    """DIMMs, which sit on no bus."""
    for device in answers.get("memory devices") or ():
        data = device["data"]
        if "slot" not in data:
            continue  # a virtio device, which is on its bus
        id_ = data.get("id")
        driver = users.get(f"/machine/peripheral/{id_}", {"dimm": "pc-dimm"}.get(device["type"], device["type"]))
        yield Node(
            driver=driver,
            id=id_,
            address=str(data["slot"]),
            properties={"node": data["node"]} if data.get("node") else {},
            pins={"addr": data["addr"]},
        )
