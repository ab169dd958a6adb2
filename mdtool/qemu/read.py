"""Asking a running QEMU: which commands are sent, and nothing else is.

Every command here only reads.  Types are never introspected on a guest's own QEMU: on 7.2 ``device-list-properties`` of
some types ends the process.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import suppress
from enum import Enum
from typing import Any

from mdtool.qemu import qom
from mdtool.qemu.notation import FLASH
from mdtool.qemu.qom import Warned
from mdtool.qemu.qtree import buses_from_qtree
from mdtool.qemu.raw import CONTENTS, Raw, RawBus, RawDevice, placed
from mdtool.qemu.session import Refused, Session


class Way(Enum):
    """How properties are read; all ways give the same tree."""

    QTREE = "info qtree"
    BATCH = "qom-list-get"
    WALK = "qom-list and qom-get"


#: the first QEMU with qom-list-get
BATCH_SINCE = (10, 1, 0)


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
    "smm": _machine("smm"),
    "cpus": ("query-hotpluggable-cpus", None),
    "memdev": ("query-memdev", None),
    "memory devices": ("query-memory-devices", None),
    "peripheral": ("qom-list", {"path": "/machine/peripheral"}),
    "peripheral-anon": ("qom-list", {"path": "/machine/peripheral-anon"}),
}


def read(session: Session, way: Way | None = None, warn: Warned = lambda _: None) -> Raw:
    """All of a machine; ``way`` None takes the quickest that this QEMU has."""
    way = way or (Way.BATCH if session.version >= BATCH_SINCE else Way.QTREE)
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
    elif first:
        answers["features"] = qom.switches(session, first, batch=way is Way.BATCH)
    buses = buses_from_qtree(session.hmp("info qtree"), f"{session.source}: info qtree")
    _forget_made_up_ids(buses, users)
    reader = (qom.batch if way is Way.BATCH else qom.one_by_one)(warn)
    if way is Way.QTREE:
        _find_paths(session, buses, users)
        _add_besides(session, buses, users)
    else:
        qom.fill(session, buses, users, reader)
    if session.local:
        _hash_flash(session, buses)
    told = {device.path for _, device in placed(buses)}
    told |= {cpu.get("qom-path") for cpu in answers["cpus"] or ()}
    dimms = (device["data"] for device in answers["memory devices"] or () if "slot" in device["data"])
    told |= {f"/machine/peripheral/{dimm.get('id')}" for dimm in dimms}
    others = {path: driver for path, driver in users.items() if path not in told}
    return Raw(session.version, buses, users, answers, qom.loose(session, others, reader))


def _hash_flash(session: Session, buses: list[RawBus]) -> None:
    """Say what a read-only flash bank holds: one round trip, and only where there is one with a file behind it."""
    banks = [device for _, device in placed(buses) if device.driver in FLASH and device.properties.get("drive")]
    drives = {bank.properties["drive"]: bank for bank in banks}
    for block in (_asked(session, "query-block", None) or ()) if banks else ():
        inside = block.get("inserted") or {}
        bank = drives.get(inside.get("node-name")) or drives.get(block.get("device"))
        if bank is not None and inside.get("ro") and inside.get("drv") in ("raw", "file"):
            with suppress(OSError), open(inside["file"], "rb") as file:
                bank.properties[CONTENTS] = hashlib.file_digest(file, "sha256").hexdigest()


def _forget_made_up_ids(buses: list[RawBus], users: Mapping[str, str]) -> None:
    """Only what a user named has an id: QEMU calls some built-ins and sPAPR's devices something (l-lan@71000001)."""
    for _, device in placed(buses):
        if users.get(f"/machine/peripheral/{device.id}") != device.driver:
            device.id = ""


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


# --- what info qtree leaves out -------------------------------------------------------------------------------------


def _add_besides(session: Session, buses: list[RawBus], users: Mapping[str, str]) -> None:
    """What only QOM has, one round trip each: a boot index of each device that can boot, the ports of a USB controller."""
    for _, device in placed(buses):
        if device.driver == "ICH9-LPC":
            device.path = _asked(session, *_machine("acpi-device"))
        for name in qom.besides(device, user=device.path in users) if device.path else ():
            device.properties[name] = _asked(session, "qom-get", {"path": device.path, "property": name})


def _find_paths(session: Session, buses: list[RawBus], users: Mapping[str, str]) -> None:
    """Give every device that a user made its QOM path; what has none afterwards is a built-in.

    An id says it.  An anonymous device is known by its driver, where there is one of that driver and a user made one;
    else QEMU is asked on which bus each is, one round trip each: what users made is younger than what the machine made.
    """
    anonymous: dict[str, list[tuple[RawBus, RawDevice]]] = {}
    for bus, device in placed(buses):
        if device.id:
            device.path = f"/machine/peripheral/{device.id}"
        else:
            anonymous.setdefault(device.driver, []).append((bus, device))
    for driver, made in _anonymous_users(users).items():
        here = anonymous.get(driver, [])
        if len(made) == len(here) == 1:
            here[0][1].path = made[0]
            continue
        by_bus: dict[str, list[RawDevice]] = {}
        for bus, device in here:
            by_bus.setdefault(bus.name, []).append(device)  # youngest first
        for path in reversed(made):
            parent = _asked(session, "qom-get", {"path": path, "property": "parent_bus"})
            if queue := by_bus.get(str(parent).rpartition("/")[2]):
                queue.pop(0).path = path


def _anonymous_users(users: Mapping[str, str]) -> dict[str, list[str]]:
    """Paths of anonymous devices by driver, the eldest first."""
    made: dict[str, list[str]] = {}
    for path in sorted((path for path in users if path.startswith("/machine/peripheral-anon/")), key=_number):
        made.setdefault(users[path], []).append(path)
    return made


def _number(path: str) -> int:
    found = re.search(r"\[(\d+)\]$", path)
    return int(found[1]) if found else 0
