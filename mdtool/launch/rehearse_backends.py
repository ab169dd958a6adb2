"""The same backends with nothing behind them: null disks, unconnected NICs, null chardevs, no display.

A rehearsal needs nothing of the host and shows the guest the same devices.  A few drivers do not exist without their
host side (a passed-through device, a vhost-user process); another driver of the same bus keeps their place, and the
command line says which (``substitute``), so that a comparison knows.  What a placeholder is stands in
``commandline.placeholder``; here is which one an element has.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from mdtool.commandline.option import Option
from mdtool.commandline.placeholder.backends import DISK_SIZE, SIZES, companion, placeholder
from mdtool.commandline.placeholder.drivers import substitute_of
from mdtool.commandline.placeholder.flash import size_here
from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.commandline.placeholder.options import without_host_one
from mdtool.commandline.table import OPTIONS
from mdtool.guest.platform.units import bytes_of
from mdtool.guest.xml import Element
from mdtool.launch.backends import BACKENDS, backend_of, option_rom
from mdtool.launch.backends.base import NOTHING, Backend, Host, Make, listed, option, whole
from mdtool.launch.backends.block import is_empty, is_readonly, node_name, policies, sd_index
from mdtool.launch.backends.char import builtin_id
from mdtool.launch.backends.display import audio_ids, board_audio
from mdtool.machine.buses.providers import provider_of
from mdtool.machine.tree import Node, Place
from mdtool.records import replace


def rehearsed(element: Element, node: Node | None, host: Host) -> Backend:
    """The host side of one element with nothing of the host in it."""
    make = REHEARSED.get(element.tag)
    made = make(element, node, host) if make is not None else backend_of(element, node, host)
    if make is not None and os.path.isfile(element.get("rom/@file") or ""):
        made += option_rom(element, node)
    other = substitute_of(node.driver, node.properties, host.guest.arch) if node is not None else None
    return replace(made, substitute=other) if other is not None and made.substitute is None else made


def substitutes(places: Iterable[Place], arch: str) -> dict[str, Backend]:
    """Name -> what keeps the place of a device that no element with a host side asks for, as of <qemu:commandline>.

    One that has neither id nor address gets an id, to be known again.
    """
    found: dict[str, Backend] = {}
    for place in places:
        if other := substitute_of(place.node.driver, place.node.properties, arch):
            named = {"id": place.name} if place.name == place.node.driver else {}
            found[place.name] = Backend(properties=named, substitute=other)
    return found


def _behind(kind: str, id: str, **facts: Any) -> Backend:
    """The placeholder of a kind under an id, and the property that names it."""
    return Backend(placeholder(kind, id, **facts).words, {kind: id})


def _disk(element: Element, node: Node | None, host: Host) -> Backend:
    here = size_here({"file": element.get("source/@file")}, HostSide(Path()))
    if element.get("target/@bus") == "sd":
        facts = {} if is_empty(element) else {"driver": "null-co", "size": here or SIZES["sd"], "read-zeroes": True}
        return Backend(listed("-drive", **{"if": "sd"}, index=sd_index(element), **facts))
    if is_empty(element) or (node is not None and provider_of(node.driver).whole):
        return NOTHING
    size = here or SIZES.get(element.get("@device") or "disk", DISK_SIZE)
    name, readonly = node_name(element), is_readonly(element)
    if element.get("@type") == "vhostuser":
        return served("vhost-user", f"chr-{name}", name, host) + Backend(properties={"chardev": f"chr-{name}"})
    # The drive's own properties stay; its I/O thread too, since that is of QEMU and not of the host
    made = placeholder("drive", name, size=size, read_only=readonly)
    return Backend(made.words, {**policies(element, node, host), "drive": name})


def served(kind: str, id: str, name: str, host: Host) -> Backend:
    """A chardev ``id`` to a process of our own that answers and does nothing."""
    made, process = companion(kind, id, host.file(f"mdtool-{os.getpid()}-{name}.socket"))
    return Backend(made.words, processes=(process,))


def _interface(element: Element, node: Node | None, host: Host) -> Backend:
    if element.get("@type") == "hostdev":
        return NOTHING
    index = [device for device in host.guest.devices if device.tag == "interface"].index(element)
    id = f"host{node.id}" if node is not None and node.id is not None else f"hostnet{index}"
    if element.get("@type") == "vhostuser":  # with another back end QEMU cuts the NIC's queues down
        chardev = f"char{id.removeprefix('host')}"
        words = option("-netdev", type="vhost-user", id=id, chardev=chardev, queues=whole(element, "driver/@queues"))
        behind = served("vhost-user", chardev, id, host) + Backend(words)
    else:
        behind = Backend(placeholder("netdev", id).words)
    if node is None:
        nic = listed("-net", "nic", macaddr=element.get("mac/@address"), netdev=id, model=element.get("model/@type"))
        return behind + Backend(nic)
    return behind + Backend(properties={"netdev": id})


def _character(element: Element, node: Node | None, host: Host) -> Backend:
    if element.get("target/@type") == "guestfwd":
        return NOTHING
    id = f"char{node.id}" if node is not None and node.id is not None else f"char{builtin_id(element, host)}"
    behind = _behind("chardev", id)
    if node is not None:
        return behind
    return Backend((*behind.options, "-serial", f"chardev:{id}")) if element.tag in ("serial", "console") else NOTHING


def _filesystem(element: Element, node: Node | None, host: Host) -> Backend:
    if (element.get("driver/@type") or "path") == "virtiofs" and node is not None:
        chardev = f"chr-vu-{node.id}"
        return served("vhost-user", chardev, f"{node.id}", host) + Backend(properties={"chardev": chardev})
    if node is not None and node.driver == "usb-mtp":
        return Backend(properties={"rootdir": "/"})  # on every host, and not read before the guest runs
    return _behind("fsdev", f"fsdev-{node.id}" if node is not None else "fsdev")


def _tpm(element: Element, node: Node | None, host: Host) -> Backend:
    if node is None:
        return NOTHING
    id = f"tpm-{node.id}"
    kind = "tpm1.2" if element.get("backend/@version") == "1.2" else "tpm2"
    words = listed("-tpmdev", "emulator", id=id, chardev=f"chr{id}")
    return served(kind, f"chr{id}", f"{node.id}", host) + Backend(words, {"tpmdev": id})


def _named(kind: str, prefix: str) -> Make:
    """The placeholder of a kind under the device's id, or that of an element which is no device."""
    return lambda element, node, _host: _behind(kind, prefix + str(node.id if node is not None else element.tag))


def _memory(prefix: str, path: str, *, absent: int, unit: str | None = None, share: bool = False) -> Make:
    """Memory of the size at ``path``, whose unit is ``unit`` where the XML names none."""

    def make(element: Element, node: Node | None, _host: Host) -> Backend:
        holder = element.first(path)
        size = bytes_of(holder.text, holder.get("@unit") or unit, holder) if holder is not None else absent
        return _behind("memdev", prefix + str(node.id if node is not None else element.tag), size=size, share=share)

    return make


def _hostdev(element: Element, node: Node | None, _host: Host) -> Backend:
    if node is not None and node.driver == "vfio-ap":  # KVM alone has its bus: a place that no other device has
        return Backend(properties={"devno": "fe.3.ffff"})
    if element.get("@type") != "scsi" or node is None:
        return NOTHING
    id = f"{node.id}-drive"
    return _behind("drive", id)


def _audio(element: Element, _node: Node | None, _host: Host) -> Backend:
    return Backend(placeholder("audiodev", f"audio{element.get('@id')}").words)


def implied_silence(host: Host) -> Backend:
    """The audio backend that libvirt implies, silent."""
    if ids := audio_ids(host):
        return board_audio(host, ids[0])
    return Backend(placeholder("audiodev", "audio1").words) + board_audio(host, "audio1")


def _nothing(_element: Element, _node: Node | None, _host: Host) -> Backend:
    return NOTHING


#: elements whose host side has a null version; the others have none, or none that needs the host
REHEARSED: dict[str, Make] = {
    "audio": _audio,
    "channel": _character,
    "console": _character,
    "crypto": _named("cryptodev", "obj"),
    "disk": _disk,
    "filesystem": _filesystem,
    "graphics": _nothing,
    "hostdev": _hostdev,
    "input": _nothing,
    "interface": _interface,
    "memory": _memory("mem", "target/size", absent=0),
    "parallel": _character,
    "pstore": _memory("mem", "size", absent=64 * 1024, share=True),
    "redirdev": _character,
    "rng": _named("rng", "obj"),
    "serial": _character,
    "shmem": _memory("shmmem-", "size", absent=4 * 1024**2, unit="MiB", share=True),
    "smartcard": _named("chardev", "char"),
    "tpm": _tpm,
    "video": _nothing,
    "vsock": _nothing,
}
assert REHEARSED.keys() <= BACKENDS.keys()

# --- <qemu:commandline> --------------------------------------------------------------------------------------------


def rehearsed_option(words: Sequence[str], host: HostSide) -> list[str]:
    """What a rehearsal has of an option of <qemu:commandline>; an argument that is no option is left out.

    >>> from pathlib import Path
    >>> rehearsed_option(["-netdev", "tap,id=n,ifname=tap0"], HostSide(Path("/run")))
    ['-netdev', '{"type": "hubport", "id": "n", "hubid": ...}']
    """
    name = words[0].lstrip("-")
    if not words[0].startswith("-") or name not in OPTIONS:
        return []
    given = Option("machine" if name == "M" else name, words[1] if len(words) > 1 else None)
    return [word for made in without_host_one(given, host) for word in made.words]


__all__ = ["REHEARSED", "implied_silence", "rehearsed", "rehearsed_option"]
