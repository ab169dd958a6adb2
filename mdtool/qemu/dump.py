"""A running machine as a tree: everything the guest sees, in a constant number of round trips.

Reading is ``read``'s; from there on a tree is made by pure functions: virtio proxies folded, addresses read, properties
divided by their roles.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from mdtool.errors import MonitorError, Warned
from mdtool.machine.buses.kinds import FLASH, LOOSE, Read, kind_of_bus, kind_of_driver, no_address
from mdtool.machine.document import tree_with
from mdtool.machine.machines import family_of
from mdtool.machine.pci import properties_digest
from mdtool.machine.roles import NOT_THE_GUESTS, chosen, is_told, role
from mdtool.machine.tree import BUILTIN, MONITOR, SECTIONS, Bus, Node, Tree, Value
from mdtool.machine.values import natural, ranges
from mdtool.machine.writer import canonical
from mdtool.qemu.read import Method, read
from mdtool.qemu.replies import CONTENTS, FOLDED, Raw, RawBus, RawDevice, placed
from mdtool.qemu.session import Session
from mdtool.records import replace

NO_UUID = "00000000-0000-0000-0000-000000000000"


def dump(session: Session, *, way: Method | None = None, warn: Warned = lambda _: None) -> Tree:
    """The machine behind a session, built-ins and all.

    ``way`` is how to read (``read.Method``), by default the quickest that this QEMU has; all give the same tree.  ``warn``
    hears of each property that QEMU could not say.  Raises MonitorError; sends nothing but queries.
    """
    try:
        return tree_from_raw(read(session, way, warn))
    except (KeyError, TypeError, AttributeError, IndexError, ValueError) as error:
        what = f"{session.source}: unexpected reply format ({type(error).__name__}: {error})"
        raise MonitorError(what[:400], remedy="please report it, with the version of QEMU") from error


def as_planned(dumped: Tree, plan: Tree, substitutes: Collection[str] = ()) -> Tree:
    """A dump of a rehearsal, together with what no QEMU can say: origins, and the sections that the XML alone knows.

    ``plan`` is the tree that was started; ``substitutes`` names nodes that a rehearsal replaced by another driver, which
    are as planned.
    """
    changes: dict[str, dict[str, Any]] = {}
    for place in plan.places:
        node = place.node
        if place.name not in dumped.by_name:
            continue
        changes[place.name] = {"origin": node.origin, "applied": node.applied}
        if place.name in substitutes:
            changes[place.name] |= {"driver": node.driver, "properties": node.properties, "pins": {}, "effective": {}}
    tree = tree_with(dumped, {name: change for name, change in changes.items() if change["origin"] is not None})
    sections: dict[str, Any] = {name: over(getattr(tree, name), getattr(plan, name)) for name in SECTIONS}
    return canonical(replace(tree, applied=plan.applied, **sections))


def over(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Two mappings as one, the inner ones too; a rehearsal's CPU is no ``host``, so what was planned goes above."""
    both = {key: over(below[key], above[key]) for key in below if isinstance(above.get(key), Mapping)}
    return {**below, **above, **both}


def tree_from_raw(raw: Raw) -> Tree:
    """What was read, as a tree in canonical order."""
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
                qemu=".".join(map(str, raw.version)),
                properties=_machine_properties(raw) or None,
            ),
            cpu=_cpu(answers),
            memory=_memory(answers),
            numa=_numa(answers),
            firmware=_firmware(raw),
            boot=_boot(answers),
            features=_features(raw),
            objects=_objects(answers),
            source=(MONITOR,),
            machine_pins=machine_pins(answers["machine"]),
            buses=_told_apart(top),
            devices=(
                *_cpu_nodes(answers),
                *_memory_nodes(answers, raw.users),
                *_loose_nodes(raw),
            ),
        )
    )


def _present(**values: Value) -> dict[str, Value]:
    return {key: value for key, value in values.items() if value is not None}


def _loose_nodes(raw: Raw) -> list[Node]:
    nodes = [
        _node(device, kind_of_driver(device.driver).read if device.driver in LOOSE else no_address, raw)
        for device in raw.loose
    ]
    return sorted(nodes, key=_sorted_by)


def _without_buses(node: Node, top: list[Bus]) -> Node:
    """A system-bus device; its buses move to the top, with its name as their ``host``."""
    top.extend(replace(bus, host=node.id or node.driver) for bus in node.buses)
    return replace(node, buses=())


def _told_apart(top: list[Bus]) -> tuple[Bus, ...]:
    """Two PCI expanders make two buses called ``pxb-internal``: the second one is ``pxb-internal#2``."""
    seen: dict[str, int] = {}
    found = []
    for bus in sorted(top, key=lambda bus: [_sorted_by(node) for node in bus.devices]):
        seen[bus.name] = seen.get(bus.name, 0) + 1
        found.append(bus if seen[bus.name] == 1 else replace(bus, name=f"{bus.name}#{seen[bus.name]}"))
    return tuple(found)


def _sorted_by(node: Node) -> str:
    """Orders devices that have the same driver and no address, so that the order of their making does not matter."""
    return json.dumps([node.properties, node.pins], sort_keys=True)


#: types that QEMU has renamed and only the machine itself makes: a built-in keeps one name on all versions
RENAMED = {"acpi-ged-x86": "acpi-ged"}


def _bus(bus: RawBus, raw: Raw) -> Bus:
    notation = kind_of_bus(bus.type).read
    nodes = [_node(device, notation, raw) for device in reversed(bus.devices)]
    nodes.sort(key=_sorted_by)
    return Bus(bus.name, bus.type, tuple(nodes))


def _node(device: RawDevice, notation: Read, raw: Raw) -> Node:
    device = _named(_folded(device))
    address, spent = notation(device)
    bags: dict[str, dict[str, Value]] = {"chosen": {}, "guest": {}, "effective": {}, "host": {}, "state": {}}
    for name, value in device.properties.items():
        if name in spent or not is_told(name, value):
            continue
        kind = role(device.driver, name)
        bags["chosen" if kind == "guest" and chosen(device.driver, name, value) else kind][name] = value
    node = Node(
        driver=RENAMED.get(device.driver, device.driver),
        id=device.id or None,
        address=address,
        origin=None if device.path in raw.users else BUILTIN,
        properties=bags["chosen"],
        pins=bags["guest"],
        effective=bags["effective"],
        buses=tuple(_bus(bus, raw) for bus in device.buses),
        empty=frozenset(name for name, value in device.properties.items() if value == "" and name not in spent),
    )
    return replace(node, pci={**device.pci, "of": properties_digest(node)}) if device.pci else node


#: driver -> the identity that QEMU makes of the device's id where nobody chose one
_FROM_ID = {"nvme-subsys": "nqn"}


def _named(device: RawDevice) -> RawDevice:
    name = _FROM_ID.get(device.driver)
    if name is None or device.properties.get(name) != "" or not device.id:
        return device
    return replace(device, properties={**device.properties, name: device.id})


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
    kinds = {cpu["type"] for cpu in cpus if cpu.get("type")}
    kind = kinds.pop() if len(kinds) == 1 else None  # a board with several kinds of CPU chose them itself
    topology = {
        name: smp[name]
        for name in ("drawers", "books", "sockets", "dies", "clusters", "modules", "cores", "threads")
        if name in smp and (smp[name] != 1 or name in ("sockets", "cores", "threads"))
    }
    if math.prod(topology.values()) != smp.get("maxcpus", 1):
        topology = {}  # of a board with CPUs of its own QEMU does not say how they are arranged
    return _present(
        model=re.sub(r"(-[a-z0-9_]+)?-cpu$|-spapr-cpu-core$", "", kind) if kind else None,
        vcpus=smp.get("cpus"),
        maxcpus=smp["maxcpus"] if smp.get("maxcpus") != smp.get("cpus") else None,
        topology=topology or None,
    )


def _machine_properties(raw: Raw) -> dict[str, Value]:
    """Chosen machine properties that the guest sees, as far as the machine shows them."""
    family = family_of(str(raw.answers["type"]))
    builtin = {device.driver for _, device in placed(raw.buses) if device.path not in raw.users}
    found: dict[str, Value] = {}
    if family is not None:
        found = {name: value for driver, (name, value) in family.parts.items() if driver not in builtin}
        if builtin & set(family.usb.values()):
            found["usb"] = True
    machine = raw.answers["machine"]
    for name, usual in (("acpi", ("on", "auto")), ("smm", ("auto",))):  # newer libvirts say acpi=on, which auto means
        if machine.get(name) not in (None, True, *usual):
            found[name] = machine[name]
    return dict(sorted(found.items()))


def machine_pins(values: Mapping[str, Value]) -> dict[str, Value]:
    """The machine properties that a guest sees, chosen or filled in.

    >>> machine_pins({"acpi": "auto", "nvdimm": False, "mem-merge": True, "loadparm": ""})
    {'acpi': 'auto', 'loadparm': '', 'nvdimm': False}
    """
    return {name: values[name] for name in sorted(values) if name not in NOT_THE_GUESTS}


#: switches of the chipset's power management that are set by ``-global``, with their defaults
_GLOBALS = {"disable_s3": 0, "disable_s4": 0, "acpi-pci-hotplug-with-bridge-support": True}


def _features(raw: Raw) -> dict[str, Value]:
    """``{"globals": {"ICH9-LPC.disable_s3": 1}}``, where something was chosen."""
    found = {
        f"{device.driver}.{name}": device.properties[name]
        for _, device in placed(raw.buses)
        if device.driver in ("ICH9-LPC", "PIIX4_PM")
        for name, usual in _GLOBALS.items()
        if device.properties.get(name, usual) != usual
    }
    return {"globals": found} if found else {}


def _firmware(raw: Raw) -> dict[str, Value]:
    """``{"kind": "pflash"}`` where flash has contents of its own; nothing where the machine brings its own BIOS.

    The hash is that of the first bank, the code's, where no guest can write to it; its variables are in the second.
    """
    banks = [device for _, device in placed(raw.buses) if device.driver in FLASH and device.properties.get("drive")]
    if not banks:
        return {}
    return _present(
        kind="pflash",
        secure=any(bank.properties.get("secure") for bank in banks) or None,
        sha256=min(banks, key=lambda bank: str(bank.properties.get("name"))).properties.get(CONTENTS),
    )


def _memory(answers: Mapping[str, Any]) -> dict[str, Value]:
    memory = answers.get("memory") or {}
    slots = memory.get("slots") or None
    return _present(size=memory.get("size"), slots=slots, max=memory.get("max-size") if slots else None)


def _numa(answers: Mapping[str, Any]) -> dict[str, Value]:
    """``{"nodes": [{"id": 0, "cpus": "0-1", "memory": ..., "memdev": "ram-node0"}, ...]}``; nothing without NUMA.

    Distances are in ACPI alone, and no command reports them.
    """
    cpus: dict[int, list[int]] = {}
    number = 0
    for cpu in _in_place(answers.get("cpus") or ()):
        for _ in range(cpu.get("vcpus-count", 1)):
            cpus.setdefault(cpu["props"].get("node-id", 0), []).append(number)
            number += 1
    plugged = {device["data"].get("memdev") for device in answers.get("memory devices") or ()}
    sizes = {m["id"]: m["size"] for m in answers.get("memdev") or () if f"/objects/{m.get('id')}" not in plugged}
    named = sorted((name for name in sizes if "." not in name), key=natural)
    if len(cpus) < 2:  # then only the name decides: memory of other devices (shared, CXL's) is a back end too
        named = [name for name in named if re.fullmatch(r"ram-node\d+", name)]
        if not named:
            return {}
    behind = {int(found[1]): name for name in named if (found := re.fullmatch(r"ram-node(\d+)", name))}
    if not behind and len(named) == len(cpus):  # another's names: in their order
        behind = dict(zip(sorted(cpus), named, strict=True))
    nodes = [
        _present(
            id=node,
            cpus=ranges(cpus.get(node, ())) or None,
            memory=sizes.get(behind.get(node), 0),
            memdev=behind.get(node),
        )
        for node in sorted({*cpus, *behind})
    ]
    return {"nodes": nodes}


def _boot(answers: Mapping[str, Any]) -> dict[str, Value]:
    """Boot options that differ from the machine's defaults."""
    boot = dict(answers.get("boot") or {})
    boot.pop("splash", None)  # a file of the host's
    order = boot.pop("order", None)
    return _present(**boot, order=order if order not in ("", "cad") else None)


def _objects(answers: Mapping[str, Any]) -> dict[str, Value]:
    """Memory back ends: their ids name RAM blocks in the migration stream.

    Whether anonymous memory, a file or a memfd is behind one is the host's affair.
    """
    return {
        memdev["id"]: {"type": "memory-backend-ram", "size": memdev["size"]}
        for memdev in sorted(answers.get("memdev") or (), key=lambda memdev: str(memdev.get("id")))
        if memdev.get("id")
    }


#: how a CPU's place is written, outermost first
_PLACES = ("drawer-id", "book-id", "socket-id", "die-id", "cluster-id", "module-id", "core-id", "thread-id")


def _in_place(cpus: Iterable[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """CPUs in the order of their index; QEMU gives the last one first."""
    listed = list(cpus)[::-1]
    return sorted(listed, key=lambda cpu: [cpu["props"].get(place, 0) for place in _PLACES])


def _cpu_address(cpu: Mapping[str, Any]) -> str:
    """``socket:die:core:thread`` and what else the machine has of these; on s390x the core alone.

    There a core's number counts over the whole machine, and a guest may be moved to another drawer, book or socket, of
    which QEMU reports since 8.2.
    """
    places = ("core-id",) if cpu["type"].endswith("s390x-cpu") else _PLACES
    return ":".join(str(cpu["props"][place]) for place in places if place in cpu["props"])


def _cpu_nodes(answers: Mapping[str, Any]) -> Iterable[Node]:
    """CPUs, which sit on no bus; the first one has what the host made of the model's features."""
    cpus = [cpu for cpu in _in_place(answers.get("cpus") or ()) if "qom-path" in cpu]
    effective: dict[str, Value] = {}
    if answers.get("feature-words"):
        effective["feature-words"] = _feature_words(answers["feature-words"])
    elif answers.get("features"):
        effective["features"] = answers["features"]
    if identity := answers.get("cpu identity"):
        effective["identity"] = identity
    for number, cpu in enumerate(cpus):
        path = cpu["qom-path"]
        user = path.startswith("/machine/peripheral")
        yield Node(
            driver=cpu["type"],
            id=path.rpartition("/")[2] if path.startswith("/machine/peripheral/") else None,
            address=_cpu_address(cpu) or str(number),
            origin=None if user else BUILTIN,
            effective=effective if number == 0 else {},
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


_NVDIMM_UNSET: Mapping[str, Value] = {"label-size": 0, "unarmed": False, "uuid": NO_UUID}


def _memory_nodes(answers: Mapping[str, Any], users: Mapping[str, str]) -> Iterable[Node]:
    """DIMMs, which sit on no bus."""
    for device in answers.get("memory devices") or ():
        data = device["data"]
        if "slot" not in data:
            continue  # a virtio device, which is on its bus, or one of the loose ones
        id_ = data.get("id")
        driver = users.get(f"/machine/peripheral/{id_}", {"dimm": "pc-dimm"}.get(device["type"], device["type"]))
        usual = {"node": 0, **{name: value for name, value in _NVDIMM_UNSET.items() if name in data}}
        values = {name: data.get(name) or value for name, value in usual.items()}
        given = {name: value for name, value in values.items() if value != usual[name]}
        yield Node(
            driver=driver,
            id=id_,
            address=str(data["slot"]),
            properties=given,
            pins={"addr": data["addr"], **{name: value for name, value in values.items() if name not in given}},
        )
