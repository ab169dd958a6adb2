"""What a machine type has by itself, and which short options a board needs to be the machine that it is.

A guest XML stands for a QEMU with ``-nodefaults``.  Some boards are others then: a screen or a NIC is missing that no
``-device`` brings, or what is built in stands in another slot.  Which of ``-vga``, ``-net``, ``-serial`` and ``-machine
usb=on`` makes up for that is tried, and held against the machine of the command line.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from mdtool.commandline.option import Option
from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.commandline.placeholder.options import without_host_one
from mdtool.errors import QemuError
from mdtool.importer.devices import ON_BOARD
from mdtool.importer.option_list import OptionList
from mdtool.machine.buses.kinds import PCI_BUSES
from mdtool.machine.machines import DEFAULTS, is_by_default
from mdtool.qemu.replies import Raw, placed
from mdtool.records import NamedTuple

#: options that are asked for what the machine has by itself; the others bring devices
_OF_THE_MACHINE = frozenset({
    "accel", "display", "machine", "m", "cpu", "smp", "L", "object", "numa", "audio", "audiodev", "kernel", "bios",
})  # fmt: skip
#: what a board has for what is behind it, or beside what is plugged
_COMES_ALONG = frozenset({"usb-hub", *ON_BOARD})


#: who says anything of such a drive gets none by default
_NO_DRIVES = [Option("global", "scsi-cd.lun=0"), Option("global", "floppy.unit=0")]


class Board(NamedTuple):
    """``devices`` by driver, bus and PCI address; ``buses`` by name, ``bridged`` those behind a PCI bridge of the board.

    ``shorts``  short options that stay, for devices that nothing else brings
    """

    devices: frozenset[tuple[str, str, Any]] = frozenset()
    buses: frozenset[str] = frozenset()
    bridged: frozenset[str] = frozenset()
    shorts: tuple[Option, ...] = ()


def board_of(
    start: Callable[[Sequence[Option]], Raw],
    options: Sequence[Option],
    machine: Raw,
    scripted: OptionList,
    host: HostSide,
    *,
    eager: bool,
) -> Board:
    """The board of ``machine``, which ``start`` made of ``options``; ``scripted`` is the command line with its host side.

    With ``eager`` a short option is taken also where it brings no machine nearer that is nearer without.
    """
    kept = [_without_devices(o) if o.name == "machine" else o for o in options if o.name in _OF_THE_MACHINE]
    own = ((device.driver, bus.type) for bus, device in placed(machine.buses) if device.path not in machine.users)
    by_default = is_by_default(str(machine.answers["type"]).removesuffix("-machine"), machine.version[0], own)
    bare = [Option(name, "none") for name in DEFAULTS] + _NO_DRIVES if by_default else [Option("nodefaults")]
    kept = [*bare, Option("no-user-config"), *kept, *_flash(options, scripted)]
    processes, host.processes = host.processes, []
    raw, shorts = start(kept), list[Option]()
    least = _unlike(raw, machine)
    for given in _short_options(scripted, host) if least or eager else ():
        more = [made for option in given for made in without_host_one(option, HostSide(host.runtime))]
        try:
            other = start([*kept, *more])
        except QemuError:
            continue
        unlike = _unlike(other, machine)
        if unlike < least or (eager and unlike == least and _facts(other) != _facts(raw)):
            raw, least, kept = other, unlike, [*kept, *more]
            shorts += given
    host.processes = processes
    devices = frozenset((device.driver, bus.name, device.properties.get("addr")) for bus, device in placed(raw.buses))
    below = [(on, bus) for on, device in placed(raw.buses) for bus in device.buses]
    bridged = frozenset(bus.name for on, bus in below if {on.type, bus.type} <= PCI_BUSES)
    return Board(devices, frozenset(bus.name for bus in [*raw.buses, *(bus for _, bus in below)]), bridged, tuple(shorts))


def _short_options(scripted: OptionList, host: HostSide) -> Iterator[list[Option]]:
    """The short options that bring devices, or what they are by default."""
    bare = "nodefaults" in scripted
    if "usb" in scripted or scripted.bag("machine").get("usb", "off" if bare else "on") == "on":
        yield [Option("machine", "usb=on")]
    for name, values in (("vga", ("std", "cirrus", "tcx")), ("serial", ("null",))):
        if not bare and name not in scripted and f"{name}0" not in host.chars:  # as -nographic has one
            yield from ([Option(name, value)] for value in values)
    if "vga" in scripted:
        yield scripted.all("vga")[-1:]
    yield scripted.all("net", "nic") or ([] if bare else [Option("net", "nic"), Option("net", "user")])


def _flash(options: Sequence[Option], scripted: OptionList) -> Iterator[Option]:
    nodes = {str(value) for key, value in scripted.bag("machine").items() if key in ("pflash0", "pflash1")}
    for option in options:
        if (option.name == "drive" and option.bag.get("if") == "pflash") or (
            option.name == "blockdev" and option.id in nodes
        ):
            yield option


def _without_devices(option: Option) -> Option:
    """-machine without what makes or names a device that is not the machine's own."""
    return option.with_bag({k: v for k, v in option.bag.items() if k != "usb" and not k.startswith("cxl-fmw.")})


def _unlike(own: Raw, machine: Raw) -> int:
    """How many devices a board has by itself and the whole machine has not as they are, or the other way around."""
    return len(_facts(own) - _facts(machine)) + len(_facts(machine, "System", "usb-bus") - _facts(own))


def _facts(raw: Raw, *kinds: str) -> set[tuple[Any, ...]]:
    """What QEMU made by itself on buses of ``kinds``, or on any, without what comes with what is plugged."""
    found = set()
    for bus, device in placed(raw.buses):
        if device.path not in raw.users and (not kinds or bus.type in kinds) and device.driver not in _COMES_ALONG:
            names = ("addr", "mac", "user0", "user1") if bus.type == "System" else ("addr",)
            found.add((device.driver, bus.name, *device.mmio, *(device.properties.get(name) for name in names)))
    return found
