"""Asking a running QEMU: which commands are sent, and nothing else is.

Every command here only reads.  Types are never introspected on a guest's own QEMU: on 7.2 ``device-list-properties`` of
some types ends the process.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from enum import Enum
from typing import Any

from mdtool.cache import known, remember
from mdtool.commandline.process import sha256_of
from mdtool.errors import MonitorError, Warned
from mdtool.machine.buses.kinds import FLASH
from mdtool.machine.roles import NOT_THE_GUESTS
from mdtool.qemu import qom
from mdtool.qemu.phases import Task, answered, asked, or_none, together
from mdtool.qemu.replies import CONTENTS, Raw, RawBus, RawDevice, buses_from_data, data_from_buses, placed
from mdtool.qemu.session import Question, Session
from mdtool.resources import path_of_resource
from mdtool.text import pattern, quoted


class Method(Enum):
    """How properties are read; all ways give the same tree."""

    QTREE = "info qtree"
    BATCH = "qom-list-get"
    WALK = "qom-list and qom-get"


#: the first QEMU with qom-list-get
BATCH_SINCE = (10, 1, 0)


def _machine(name: str) -> Question:
    return "qom-get", {"path": "/machine", "property": name}


#: what is asked besides the devices, all of it at once: answer: (command, arguments)
QUESTIONS: Mapping[str, Question] = {
    "name": ("query-name", None),
    "uuid": ("query-uuid", None),
    "target": ("query-target", None),
    "type": _machine("type"),
    "smp": _machine("smp"),
    "boot": _machine("boot"),
    "memory": _machine("memory"),
    "machine": ("qom-list", {"path": "/machine"}),
    "cpus": ("query-hotpluggable-cpus", None),
    "cpus fast": ("query-cpus-fast", None),
    "memdev": ("query-memdev", None),
    "memory devices": ("query-memory-devices", None),
    "peripheral": ("qom-list", {"path": "/machine/peripheral"}),
    "peripheral-anon": ("qom-list", {"path": "/machine/peripheral-anon"}),
}


def read(session: Session, way: Method | None = None, warn: Warned = lambda _: None) -> Raw:
    """All of a machine, in at most seven round trips; ``way`` None takes the quickest that this QEMU has."""
    way = way or (Method.BATCH if session.version >= BATCH_SINCE else Method.QTREE)
    found = session.ask([*QUESTIONS.values(), _hmp("info qtree"), _hmp("info qom-tree")])
    answers = dict(zip(QUESTIONS, map(or_none, found), strict=False))
    qtree, qom_tree = (str(answered(answer)).replace("\r\n", "\n") for answer in found[len(QUESTIONS) :])
    users = {
        f"/machine/{folder}/{entry['name']}": entry["type"][6:-1]
        for folder in ("peripheral", "peripheral-anon")
        for entry in answers[folder] or ()
        if entry["type"].startswith("child<")
    }
    buses = _buses(qtree, f"{session.source}: info qtree")
    check_is_there(buses, qom_tree, session.source)
    _forget_made_up_ids(buses, users)
    reader = (qom.batch if way is Method.BATCH else qom.one_by_one)(warn)
    values = _find_paths(buses, users) if way is Method.QTREE else qom.fill(session.source, buses, users, reader, qom_tree)
    loose, cpu, machine, *_ = asked(
        session,
        together(
            _devices(values, buses, users, answers, reader),
            _cpu(answers, batch=way is Method.BATCH),
            _machine_values(answers["machine"] or (), batch=way is Method.BATCH),
            _hash_flash(buses if session.local else [], session.pid),
            _add_to_nvdimms(answers["memory devices"] or (), batch=way is Method.BATCH),
        ),
    )
    return Raw(session.version, buses, users, answers | cpu | {"machine": machine}, loose)


def _buses(text: str, source: str) -> list[RawBus]:
    """``info qtree`` as data; that of a machine that was read before is in the cache."""
    code = os.path.dirname(__file__), os.path.dirname(path_of_resource("grammar", "qtree.lark"))
    if (data := known("qtree", text, *code)) is not None:
        return buses_from_data(data)
    from mdtool.qemu.qtree import buses_from_qtree  # with it comes the parser library, which the cache saves

    buses = buses_from_qtree(text, source)
    remember("qtree", text, data_from_buses(buses), *code)
    return buses


def _hmp(line: str) -> Question:
    return "human-monitor-command", {"command-line": line}


#: types of objects that no bus has, however many of them there are
_ON_NO_BUS = pattern(r"memory-region|irq|container|.*-cpu")


def check_is_there(buses: Iterable[RawBus], qom_tree: str, source: str) -> None:
    """Hold the text of `info qtree` against QEMU's own objects: a property with line breaks can add lines to it.

    Every device and bus of the text must be an object, and no device may have one property twice.  Raises MonitorError.
    """
    objects = re.findall(r"^ */(.*) \(([^()\n]*)\)$", qom_tree, re.MULTILINE)
    types = Counter(kind for _, kind in objects if not _ON_NO_BUS.fullmatch(kind))
    named = Counter((name.replace(r"\x2f", "/"), kind) for name, kind in objects)
    top = True
    for bus in qom.all_buses(buses):
        named[bus.name, bus.type] -= 1
        if named[bus.name, bus.type] < 0 and not (top and bus.type == "System"):
            _refuse(source, f"a bus {quoted(bus.name)}")
        top = False
        for device in bus.devices:
            types[device.driver] -= 1
            if types[device.driver] < 0:
                _refuse(source, f"a device {quoted(device.driver)} on {quoted(bus.name)}")
            if device.repeated:
                _refuse(source, f"a second {quoted(device.repeated[0])} of {quoted(device.id or device.driver)}")


def _refuse(source: str, what: str) -> None:
    raise MonitorError(
        f"{source}: info qtree shows {what}, which QEMU does not have: a property with line breaks forged it",
        remedy="look for it in QEMU's arguments, and take the line breaks out",
        rule="qtree-forged",
    )


def _devices(
    first: Task[None], buses: list[RawBus], users: Mapping[str, str], answers: Mapping[str, Any], reader: qom.Reader
) -> Task[list[RawDevice]]:
    """What there is to know of devices once ``first`` has found the path of each; returns those on no bus."""
    yield from first
    on_a_bus = {device.path for _, device in placed(buses)}
    on_a_bus |= {cpu.get("qom-path") for cpu in answers["cpus"] or ()}
    dimms = (device["data"] for device in answers["memory devices"] or () if "slot" in device["data"])
    on_a_bus |= {f"/machine/peripheral/{dimm.get('id')}" for dimm in dimms}
    others = {path: driver for path, driver in users.items() if path not in on_a_bus}
    loose, _ = yield from together(qom.loose(others, reader), _add_besides(buses, users))
    found: list[RawDevice] = loose
    return found


def _hash_flash(buses: list[RawBus], pid: int | None) -> Task[None]:
    """Say what a read-only flash bank holds, where there is one with a file behind it."""
    banks = [device for _, device in placed(buses) if device.driver in FLASH and device.properties.get("drive")]
    drives = {bank.properties["drive"]: bank for bank in banks}
    if not banks:
        return
    for block in or_none((yield [("query-block", None)])[0]) or ():
        inside = block.get("inserted") or {}
        bank = drives.get(inside.get("node-name")) or drives.get(block.get("device"))
        if bank is not None and inside.get("ro") and inside.get("drv") in ("raw", "file"):
            bank.properties[CONTENTS] = sha256_of(pid, inside["file"])


def _forget_made_up_ids(buses: list[RawBus], users: Mapping[str, str]) -> None:
    """Only what a user named has an id: QEMU calls some built-ins and sPAPR's devices something (l-lan@71000001)."""
    for _, device in placed(buses):
        if users.get(f"/machine/peripheral/{device.id}") != device.driver:
            device.id = ""


def _cpu(answers: Mapping[str, Any], *, batch: bool) -> Task[dict[str, Any]]:
    """The CPUs, also of a machine that cannot hotplug any, and what the guest sees of the first one's features."""
    cpus, fast = answers["cpus"], answers["cpus fast"] or []
    if cpus is None:
        cpus = [{"props": cpu.get("props", {}), "qom-path": cpu["qom-path"]} for cpu in reversed(fast)]
    first = next((cpu["qom-path"] for cpu in reversed(cpus) if "qom-path" in cpu), None)
    if first is None:
        return {"cpus": cpus}
    if answers["target"]["arch"] in ("x86_64", "i386"):
        name, features = "feature-words", _one("qom-get", {"path": first, "property": "feature-words"})
        identity = _values(first, X86_IDENTITY, batch=batch)
    else:
        name, features, identity = "features", qom.plain_values(first, batch=batch), _nothing()
    untyped = [cpu["qom-path"] for cpu in cpus if "type" not in cpu and "qom-path" in cpu]  # a board's own may differ
    kinds = (_one("qom-get", {"path": path, "property": "type"}) for path in untyped)
    found, identity, *types = yield from together(features, identity, *kinds)
    by_path = dict(zip(untyped, types, strict=True))
    cpus = [{"type": by_path.get(cpu.get("qom-path")), **cpu} for cpu in cpus]
    if name == "feature-words":
        return {"cpus": cpus, name: found, "cpu identity": identity}
    values = {key: value for key, value in found.items() if key not in NO_IDENTITY}
    return {
        "cpus": cpus,
        name: {key: value for key, value in values.items() if isinstance(value, bool)},
        "cpu identity": {key: value for key, value in values.items() if not isinstance(value, bool)},
    }


#: what CPUID says of an x86 CPU beside its flags, and what decides how it describes caches and topology
X86_IDENTITY = (
    "vendor", "family", "model", "stepping", "model-id", "level", "level-func7", "xlevel", "xlevel2", "phys-bits",
    "guest-phys-bits", "ucode-rev", "tsc-frequency", "legacy-cache", "l3-cache", "cpuid-0xb", "x-l1-cache-per-thread",
    "vendor-cpuid-only", "tcg-cpuid", "hv-vendor-id", "hv-spinlocks", "hv-version-id-build", "fill-mtrr-mask", "lmce",
    "avx10-version", "legacy-multi-node", "kvm-pv-enforce-cpuid", "full-width-write",
)  # fmt: skip
#: values of a CPU that are its place, its state, or how it was started
NO_IDENTITY = frozenset({
    "core-id", "socket-id", "die-id", "cluster-id", "module-id", "thread-id", "node-id", "book-id", "drawer-id", "hartid",
    "core-count", "mp-affinity", "apic-id", "unavailable-features", "start-powered-off", "crash-information", "rvbar",
    "resetvec", "description", "entitlement", "dedicated",
})  # fmt: skip


def _nothing() -> Task[dict[str, Any]]:
    yield []
    return {}


def _values(path: str, names: Sequence[str], *, batch: bool) -> Task[dict[str, Any]]:
    """Some properties of an object; those that this QEMU does not have are absent."""
    if batch:
        (answer,) = answered((yield [("qom-list-get", {"paths": [path]})])[0])
        values = {entry["name"]: entry.get("value") for entry in answer["properties"]}
        return {name: values[name] for name in names if values.get(name) is not None}
    answers = yield [("qom-get", {"path": path, "property": name}) for name in names]
    found = zip(names, map(or_none, answers), strict=True)
    return {name: value for name, value in found if value is not None}


#: what query-memory-devices does not say of an NVDIMM, and its NFIT does
NVDIMM = ("label-size", "unarmed", "uuid")


def _add_to_nvdimms(devices: Iterable[dict[str, Any]], *, batch: bool) -> Task[None]:
    named = [one["data"] for one in devices if one["type"] == "nvdimm" and one["data"].get("id")]
    found = yield from together(*(_values(f"/machine/peripheral/{data['id']}", NVDIMM, batch=batch) for data in named))
    for data, values in zip(named, found, strict=True):
        data |= values


#: types of the machine's properties that are structures
_STRUCTURES = frozenset({
    "SMPConfiguration", "BootConfiguration", "MemorySizeConfiguration", "SgxEPC", "CXLFixedMemoryWindow",
})  # fmt: skip


def _machine_values(entries: Sequence[Mapping[str, str]], *, batch: bool) -> Task[dict[str, Any]]:
    """The properties of the machine that are a switch, a number or a string, and the guest's affair."""
    names = [
        entry["name"]
        for entry in entries
        if entry["name"] not in NOT_THE_GUESTS and not qom.is_structure(entry["type"]) and entry["type"] not in _STRUCTURES
    ]
    found = yield from _values("/machine", names, batch=batch)
    return {name: value for name, value in found.items() if isinstance(value, (bool, int, str))}


def _one(command: str, arguments: Mapping[str, Any]) -> Task[Any]:
    return or_none((yield [(command, arguments)])[0])


# --- what info qtree leaves out -------------------------------------------------------------------------------------


def _add_besides(buses: list[RawBus], users: Mapping[str, str]) -> Task[None]:
    """What only QOM has: a boot index of each device that can boot, the ports of a USB controller.

    Where the properties were read from QOM they are there already.
    """
    lacking = [
        (device, name)
        for _, device in placed(buses)
        for name in (qom.besides(device, user=device.path in users) if device.path else ())
        if name not in device.properties
    ]
    values = yield [("qom-get", {"path": device.path, "property": name}) for device, name in lacking]
    for (device, name), value in zip(lacking, values, strict=True):
        device.properties[name] = or_none(value)


def _find_paths(buses: list[RawBus], users: Mapping[str, str]) -> Task[None]:
    """Give every device that a user made its QOM path, and two kinds of built-ins that only QOM knows.

    An id says it.  An anonymous device is known by its driver, where there is one of that driver and a user made one;
    else QEMU is asked on which bus each is: what users made is younger than what the machine made.
    """
    bridges = [device for _, device in placed(buses) if device.driver == "ICH9-LPC"]
    anonymous: dict[str, list[tuple[RawBus, RawDevice]]] = {}
    for bus, device in placed(buses):
        if device.id:
            device.path = f"/machine/peripheral/{device.id}"
        else:
            anonymous.setdefault(device.driver, []).append((bus, device))
    unsure: dict[str, dict[str, list[RawDevice]]] = {}  # by the path of a user's, youngest first: who it may be, by bus
    for driver, made in _anonymous_users(users).items():
        here = anonymous.get(driver, [])
        if len(made) == len(here) == 1:
            here[0][1].path = made[0]
            continue
        by_bus: dict[str, list[RawDevice]] = {}
        for bus, device in here:
            by_bus.setdefault(bus.name, []).append(device)  # youngest first
        unsure |= dict.fromkeys(reversed(made), by_bus)
    boards = [device for _, device in placed(buses) if "db-clock" in device.properties]
    answers = yield [
        *(("qom-get", {"path": path, "property": "parent_bus"}) for path in unsure),
        *(_machine("acpi-device") for _ in bridges),
        *(("qom-list", {"path": "/machine/unattached"}) for _ in boards),
    ]
    for (path, by_bus), parent in zip(unsure.items(), answers, strict=False):
        if queue := by_bus.get(str(or_none(parent)).rpartition("/")[2]):
            queue.pop(0).path = path
    for bridge, path in zip(bridges, answers[len(unsure) :], strict=False):
        bridge.path = or_none(path)
    for board, listed in zip(boards, answers[len(unsure) + len(bridges) :], strict=True):
        kind = f"child<{board.driver}>"
        name = next((entry["name"] for entry in or_none(listed) or () if entry["type"] == kind), None)
        if name is not None:  # its lists of numbers are asked for, since they were printed as sets
            board.path = f"/machine/unattached/{name}"
            board.properties = {key: value for key, value in board.properties.items() if not isinstance(value, list)}


def _anonymous_users(users: Mapping[str, str]) -> dict[str, list[str]]:
    """Paths of anonymous devices by driver, the eldest first."""
    made: dict[str, list[str]] = {}
    for path in sorted((path for path in users if path.startswith("/machine/peripheral-anon/")), key=_number):
        made.setdefault(users[path], []).append(path)
    return made


def _number(path: str) -> int:
    found = re.search(r"\[(\d+)\]$", path)
    return int(found[1]) if found else 0
