"""The host side of each device element, for direct launch: one row an element.

A function takes (the element, its node, the host) and says what QEMU needs for it; nothing is opened or started here.
What direct launch does not know is an InputError at the element that points to ``--via libvirt``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from mdtool.commandline.companion import Process
from mdtool.errors import InputError, Report
from mdtool.guest.elements import ROWS
from mdtool.guest.engine import paths_of
from mdtool.guest.model import Guest, Wanted
from mdtool.guest.platform import check_domain
from mdtool.guest.xml import Element
from mdtool.launch.backends.base import NOTHING, Backend, Host, Make, Secret, refused
from mdtool.launch.backends.block import disk
from mdtool.launch.backends.char import character, redirdev, smartcard
from mdtool.launch.backends.display import audio, graphics, implied_audio, sound
from mdtool.launch.backends.hostdev import hostdev
from mdtool.launch.backends.misc import (
    controller,
    crypto,
    filesystem,
    input_,
    memory,
    pstore,
    rng,
    shmem,
    tpm,
    video,
    vsock,
    watchdog,
)
from mdtool.launch.backends.net import interface
from mdtool.machine.tree import Node

#: element -> its host side; every other row of ``guest.elements`` has none
BACKENDS: dict[str, Make] = {
    "audio": audio,
    "channel": character,
    "console": character,
    "controller": controller,
    "crypto": crypto,
    "disk": disk,
    "filesystem": filesystem,
    "graphics": graphics,
    "hostdev": hostdev,
    "input": input_,
    "interface": interface,
    "memory": memory,
    "parallel": character,
    "pstore": pstore,
    "redirdev": redirdev,
    "rng": rng,
    "serial": character,
    "shmem": shmem,
    "smartcard": smartcard,
    "sound": sound,
    "tpm": tpm,
    "video": video,
    "vsock": vsock,
    "watchdog": watchdog,
}
#: children of <devices> that are no devices
NO_DEVICE = frozenset({"emulator", "lease", "redirfilter", "alias"})


def backend_of(element: Element, node: Node | None, host: Host) -> Backend:
    """The host side of one element; raises InputError where direct launch does not know it."""
    if element.tag not in ROWS:
        raise refused(element, f"<{element.tag}>", path=element.tag)
    make = BACKENDS.get(element.tag)
    return (make(element, node, host) if make is not None else NOTHING) + option_rom(element, node)


def backends_of(wanted: Iterable[Wanted], host: Host) -> Callable[[Node], Backend]:
    """The host side of each node of a machine, by the element that asks for it; nothing for a node that none does."""
    by_origin = {one.origin: one for one in wanted}

    def backend_of_node(node: Node) -> Backend:
        one = by_origin.get(node.origin or "")
        if one is None or one.element is None:
            return NOTHING
        return Backend(properties=one.facts.get("host", {})) + backend_of(one.element, node, host)

    return backend_of_node


def check_carried(guest: Guest, report: Report) -> None:
    """To ``report``: what libvirt alone carries out of a guest; the tables say what that is."""
    for element in guest.devices:
        _check_carried(element, report)
    check_domain(guest, report)


def _check_carried(element: Element, report: Report) -> None:
    row = ROWS.get(element.tag)
    for path, holder in paths_of(element) if row is not None else ():
        side = row.host_side(path) if row is not None else None
        if side is None or side.who != "libvirt":
            continue
        value = holder.attributes.get(path.rpartition("@")[2], "") if "@" in path else holder.text
        what = f"<{element.tag}>: direct launch does not carry out {path} ({side.why})"
        remedy = "start the guest with --via libvirt"
        if side.warns:
            report.warn(what, at=holder.position, remedy=remedy, rule="host-side")
        elif side.refuses(value):
            report.error(InputError(what, at=holder.position, remedy=remedy, rule="host-side"))


def option_rom(element: Element, node: Node | None) -> Backend:
    """The file of a PCI device's option ROM; ``enabled='no'`` is a property that the description has."""
    path = element.get("rom/@file")
    if node is None or not path or element.get("rom/@enabled") == "no":
        return NOTHING
    return Backend(properties={"romfile": path})


__all__ = [
    "BACKENDS", "NOTHING", "NO_DEVICE", "Backend", "Host", "Process", "Secret", "backend_of", "backends_of",
    "check_carried",
    "implied_audio", "option_rom",
]  # fmt: skip
