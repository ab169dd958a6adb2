"""A guest that gets and loses hardware at random while it runs, as a management program would do it over QMP."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from mdtool.qemu.session import Session
from tests.support_waiting import until

SECONDS = 20.0
UUID = "11111111-2222-3333-4444-0000000000bb"
MIB = 1 << 20


class Kind(NamedTuple):
    """A kind of hardware: what ``_PLUGS`` plugs, where it may sit, and whether it goes without the guest's help.

    ``on``      ``pci`` (any free slot or port), ``usb``, ``scsi``, ``serial``, or "" for what has no bus
    ``most``    how many of it there may be
    ``leaves``  ``at once``, ``with a reset`` (on a pc), or "" for never
    """

    on: str
    most: int = 8
    leaves: str = "at once"


KINDS = {
    "virtio-net-pci": Kind("pci", leaves="with a reset"),
    "e1000e": Kind("pci", leaves="with a reset"),
    "virtio-blk-pci": Kind("pci", leaves="with a reset"),
    "virtio-rng-pci": Kind("pci", leaves="with a reset"),
    "scsi-hd": Kind("scsi"),
    "usb-tablet": Kind("usb"),
    "usb-storage": Kind("usb"),
    "virtserialport": Kind("serial"),
    "pc-dimm": Kind("", most=2, leaves=""),
    "cpu": Kind("", most=2, leaves=""),
}


class Plugged(NamedTuple):
    """A device as it was plugged: its element for the guest XML, where it sits, and what goes when it went."""

    kind: str
    element: str
    place: tuple[str, str] | None
    behind: tuple[tuple[str, dict[str, str]], ...] = ()


@dataclass
class Moving:
    """The hardware of one guest.  ``log`` says what was done, for a failing test to show."""

    machine: str
    folder: Path
    choose: random.Random
    plugged: dict[str, Plugged] = field(default_factory=dict)
    log: list[str] = field(default_factory=list)
    count: int = 0

    @property
    def kinds(self) -> list[str]:
        x86 = not self.machine.startswith("virt")
        return [kind for kind in KINDS if x86 or kind not in ("pc-dimm", "cpu")]

    # --- the guest XML ---

    def xml(self) -> str:
        """The guest XML with what is plugged now, each new element before the older ones."""
        arch, cpu = ("aarch64", "cortex-a57") if self.machine.startswith("virt") else ("x86_64", "qemu64")
        kinds = [one.kind for one in self.plugged.values()]
        dimms, cpus = kinds.count("pc-dimm"), kinds.count("cpu")
        dimm = "<maxMemory slots='4' unit='MiB'>1024</maxMemory>" if arch == "x86_64" else ""
        numa = "<numa><cell id='0' cpus='0-3' memory='64' unit='MiB'/></numa>" if arch == "x86_64" else ""
        ports = 0 if "i440fx" in self.machine else 14
        port = "<controller type='pci' model='pcie-root-port' index='{}'/>"
        return (
            f"<domain type='qemu'><name>moving</name><uuid>{UUID}</uuid>{dimm}"
            f"<memory unit='MiB'>{64 + 32 * dimms}</memory><vcpu current='{1 + cpus}'>4</vcpu>"
            f"<os><type arch='{arch}' machine='{self.machine}'>hvm</type></os><features><acpi/></features>"
            f"<cpu mode='custom' match='exact'><model>{cpu}</model>{numa}</cpu>"
            f"<devices><emulator>/usr/bin/qemu-system-{arch}</emulator>\n"
            + "".join(one.element for one in reversed(self.plugged.values()))
            + "".join(port.format(number + 1) for number in range(ports))
            + "<controller type='usb' index='0' model='qemu-xhci' ports='8'/>"
            "<controller type='scsi' index='0' model='virtio-scsi'/><controller type='virtio-serial' index='0'/>\n"
            "<interface type='user'><mac address='52:54:00:00:00:01'/><model type='virtio'/><boot order='1'/></interface>\n"
            "<input type='keyboard' bus='usb'/><memballoon model='virtio'/></devices></domain>\n"
        )

    # --- what is done to it ---

    def step(self, session: Session) -> None:
        """Plug something in, or take away something that was plugged in before."""
        stays = ("", "with a reset") if self.machine.startswith("virt") else ("",)  # its ports ask the guest alone
        loose = [id for id, one in self.plugged.items() if KINDS[one.kind].leaves not in stays]
        if loose and self.choose.random() < 0.4:
            self.unplug(session, self.choose.choice(loose))
        else:
            kinds = [one.kind for one in self.plugged.values()]
            self.plug(session, self.choose.choice([k for k in self.kinds if kinds.count(k) < KINDS[k].most]))

    def plug(self, session: Session, kind: str) -> None:
        self.count += 1
        where = self._place(session, KINDS[kind].on)
        id, plugged, commands = _PLUGS[kind](self, self.count, where)
        for command, arguments in commands:
            session.execute(command, arguments)
        self.plugged[id] = plugged._replace(place=where)
        self.log.append(f"+ {id} {kind} {where or ''}")

    def unplug(self, session: Session, id: str) -> None:
        one = self.plugged.pop(id)
        runs = session.execute("query-status")["running"]
        session.execute("stop")  # a TCG guest that never idles keeps QEMU from clearing up, and so from telling
        session.events()
        session.execute("device_del", {"id": id})
        if KINDS[one.kind].leaves == "with a reset":  # nobody is in the guest to let go of it
            session.execute("system_reset")
        until(lambda: any(_is_gone(event, id) for event in session.events(timeout=0.1)), told=lambda: [id, *self.log])
        for command, arguments in one.behind:
            session.execute(command, arguments)
        if runs:
            session.execute("cont")
        self.log.append(f"- {id}")

    def _place(self, session: Session, on: str) -> tuple[str, str] | None:
        """A free place, any of them."""
        taken = {one.place for one in self.plugged.values()}
        free: dict[str, list[tuple[str, str]]] = {
            "usb": [("usb.0", str(port)) for port in range(2, 9)],
            "scsi": [("scsi0.0", str(lun)) for lun in range(1, 7)],
            "serial": [("virtio-serial0.0", str(number)) for number in range(1, 9)],
            "pci": _free_slots(session) if on == "pci" else [],
        }
        places = [place for place in free.get(on, []) if place not in taken]
        return self.choose.choice(places) if on else None

    def disk(self, number: int) -> Path:
        path = self.folder / f"disk{number}"
        with path.open("wb") as file:
            file.truncate(MIB)
        return path


def _is_gone(event: dict[str, Any], id: str) -> bool:
    return event["event"] == "DEVICE_DELETED" and event["data"].get("device") == id


def _free_slots(session: Session) -> list[tuple[str, str]]:
    """Ports with nothing in them, or slots of ``pci.0``, by QEMU's own account."""
    tree = session.hmp("info qtree")
    bus = session.execute("query-pci")[0]
    ports = [one for one in bus["devices"] if one["class_info"]["class"] == 0x604]
    if not ports:
        return [("pci.0", hex(slot)) for slot in set(range(4, 30)) - {one["slot"] for one in bus["devices"]}]
    empty = [one for one in (port["qdev_id"] for port in ports) if _is_empty(tree, one)]
    return [(port, "0x0") for port in empty]


def _is_empty(tree: str, bus: str) -> bool:
    lines = tree.splitlines()
    start = next(number for number, line in enumerate(lines) if line.strip() == f"bus: {bus}")
    depth = len(lines[start]) - len(lines[start].lstrip())
    following = lines[start + 2] if start + 2 < len(lines) else ""
    return len(following) - len(following.lstrip()) <= depth


# --- one function a kind: id, the device, and the commands that plug it ------------------------------------------------

Commands = list[tuple[str, dict[str, Any]]]
Plug = Callable[[Moving, int, tuple[str, str] | None], tuple[str, Plugged, Commands]]


def _nic(driver: str, model: str) -> Plug:
    def plug(_: Moving, number: int, where: tuple[str, str] | None) -> tuple[str, Plugged, Commands]:
        bus, addr = where or ("", "")
        id, mac = f"net{number}", f"52:54:00:00:01:{number:02x}"
        element = f"<interface type='user'><mac address='{mac}'/><model type='{model}'/></interface>\n"
        device = {"driver": driver, "id": id, "netdev": f"host{id}", "mac": mac, "bus": bus, "addr": addr}
        behind = (("netdev_del", {"id": f"host{id}"}),)
        commands = [("netdev_add", {"type": "user", "id": f"host{id}"}), ("device_add", device)]
        return id, Plugged(driver, element, where, behind), commands

    return plug


def _disk(driver: str, bus_name: str, id: str, place: Callable[[str], dict[str, Any]]) -> Plug:
    """``id`` as libvirt makes it of the target's name."""

    def plug(guest: Moving, number: int, where: tuple[str, str] | None) -> tuple[str, Plugged, Commands]:
        bus, at = where or ("", "")
        index = {"scsi-hd": int(at) if bus == "scsi0.0" else 0, "usb-storage": 9 + number}.get(driver, number)
        path, node, name = guest.disk(number), f"node{number}", id.format(index)
        target = f"{'vd' if driver == 'virtio-blk-pci' else 'sd'}{chr(ord('a') + index)}"
        element = (
            f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{path}'/>"
            f"<target dev='{target}' bus='{bus_name}'/></disk>\n"
        )
        back = {"driver": "raw", "node-name": node, "file": {"driver": "file", "filename": str(path)}}
        device = {"driver": driver, "id": name, "drive": node, "bus": bus, **place(at)}
        commands = [("blockdev-add", back), ("device_add", device)]
        return name, Plugged(driver, element, where, (("blockdev-del", {"node-name": node}),)), commands

    return plug


def _rng(_: Moving, number: int, where: tuple[str, str] | None) -> tuple[str, Plugged, Commands]:
    bus, addr = where or ("", "")
    id = f"rng{number}"
    device = {"driver": "virtio-rng-pci", "id": id, "rng": f"obj{id}", "bus": bus, "addr": addr}
    behind = (("object-del", {"id": f"obj{id}"}),)
    element = f"<rng model='virtio'><backend model='builtin'/><alias name='{id}'/></rng>\n"
    commands = [("object-add", {"qom-type": "rng-builtin", "id": f"obj{id}"}), ("device_add", device)]
    return id, Plugged("virtio-rng-pci", element, where, behind), commands


def _tablet(_: Moving, number: int, where: tuple[str, str] | None) -> tuple[str, Plugged, Commands]:
    bus, port = where or ("", "")
    id = f"input{number}"
    element = f"<input type='tablet' bus='usb'><alias name='{id}'/></input>\n"
    device = {"driver": "usb-tablet", "id": id, "bus": bus, "port": port}
    return id, Plugged("usb-tablet", element, where), [("device_add", device)]


def _channel(_: Moving, number: int, where: tuple[str, str] | None) -> tuple[str, Plugged, Commands]:
    bus, nr = where or ("", "")
    id, name = f"channel{number}", f"org.example.{number}"
    element = f"<channel type='null'><target type='virtio' name='{name}'/></channel>\n"
    device = {"driver": "virtserialport", "id": id, "bus": bus, "nr": int(nr), "name": name, "chardev": f"char{id}"}
    behind = (("chardev-remove", {"id": f"char{id}"}),)
    commands = [
        ("chardev-add", {"id": f"char{id}", "backend": {"type": "null", "data": {}}}),
        ("device_add", device),
    ]
    return id, Plugged("virtserialport", element, where, behind), commands


def _dimm(guest: Moving, _: int, where: tuple[str, str] | None) -> tuple[str, Plugged, Commands]:
    id = f"dimm{sum(one.kind == 'pc-dimm' for one in guest.plugged.values())}"
    element = "<memory model='dimm'><target><size unit='MiB'>32</size><node>0</node></target></memory>\n"
    memory = {"qom-type": "memory-backend-ram", "id": f"mem{id}", "size": 32 * MIB}
    device = {"driver": "pc-dimm", "id": id, "memdev": f"mem{id}", "node": 0}
    return id, Plugged("pc-dimm", element, where), [("object-add", memory), ("device_add", device)]


def _cpu(guest: Moving, _: int, where: tuple[str, str] | None) -> tuple[str, Plugged, Commands]:
    socket = 1 + sum(one.kind == "cpu" for one in guest.plugged.values())
    device = {
        "driver": "qemu64-x86_64-cpu",
        "id": f"vcpu{socket}",
        "socket-id": socket,
        "core-id": 0,
        "thread-id": 0,
    }
    return f"vcpu{socket}", Plugged("cpu", "", where), [("device_add", device)]


_PLUGS: dict[str, Plug] = {
    "virtio-net-pci": _nic("virtio-net-pci", "virtio"),
    "e1000e": _nic("e1000e", "e1000e"),
    "virtio-blk-pci": _disk("virtio-blk-pci", "virtio", "virtio-disk{}", lambda at: {"addr": at}),
    "virtio-rng-pci": _rng,
    "scsi-hd": _disk(
        "scsi-hd",
        "scsi",
        "scsi0-0-0-{}",
        lambda at: {"channel": 0, "scsi-id": 0, "lun": int(at), "device_id": f"drive-scsi0-0-0-{at}"},
    ),
    "usb-storage": _disk("usb-storage", "usb", "usb-disk{}", lambda at: {"port": at, "removable": False}),
    "usb-tablet": _tablet,
    "virtserialport": _channel,
    "pc-dimm": _dimm,
    "cpu": _cpu,
}


def done(session: Session, command: str, *statuses: str) -> str:
    """The status that ``command`` comes to."""
    seen = [""]

    def comes() -> bool:
        seen.append(str(session.execute(command).get("status")))
        return seen[-1] in statuses

    until(comes, told=lambda: (command, seen[-1]))
    return seen[-1]
