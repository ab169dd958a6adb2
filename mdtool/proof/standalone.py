"""A description without its guest XML, as a machine that QEMU can build: nothing of the host behind any device.

A description names no host side, and a device does not start without one.  What a guest sees does not depend on it, so a
null one stands there: the same that a rehearsal of a guest XML has.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mdtool.commandline.placeholder.backends import placeholder
from mdtool.commandline.placeholder.drivers import names_behind, substitute_of, substituted
from mdtool.errors import InputError, Position
from mdtool.guest.machines import version_of
from mdtool.guest.model import Guest
from mdtool.guest.platform import platform_of
from mdtool.guest.xml import Element
from mdtool.launch.argv import ordered
from mdtool.machine.buses.arguments import device_arguments
from mdtool.machine.machines import needs_audiodev
from mdtool.machine.tree import Node, Tree
from mdtool.proof.firmware import FirmwareImage, image_from_hash, why_missing, words_with_image
from mdtool.qemu.root import program
from mdtool.records import dataclass, field

#: libvirt spells an architecture as uname does
_LIBVIRT_ARCH = {"arm": "armv7l", "i386": "i686"}
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Standalone:
    """A command line made from a description alone.

    ``substitutes``  node name: the driver that stands there, where the described one needs a host
    ``left_out``   node name: why it cannot be there at all
    ``unread``     why the described firmware is not there, and so not looked at; "" where it is, or is QEMU's own
    """

    argv: list[str]
    substitutes: Mapping[str, str] = field(default_factory=dict)
    left_out: Mapping[str, str] = field(default_factory=dict)
    unread: str = ""


@dataclass(frozen=True, slots=True)
class Behind:
    """What stands behind a device: options before it, and the property that names it."""

    words: list[str]
    properties: Mapping[str, Any]


def argv_from_description(tree: Tree, *, binary: str, root: str | Path | None = None) -> Standalone:
    """The whole machine of ``tree``, paused and with null back ends; ``root`` is the folder that ``binary`` lives in.

    Raises InputError where the description does not say what machine it is.
    """
    if "type" not in tree.machine:
        raise InputError("the description names no machine type", expected="machine: {type: pc-q35-7.2, ...}")
    image = image_from_hash(tree.firmware) if tree.firmware.get("kind") else None
    guest = _guest(tree, image)
    words = [binary, *platform_of(guest, tree, rehearse=True).words, "-display", "none"]
    words += ["-audiodev", json.dumps({"driver": "none", "id": "audio0"})]
    if needs_audiodev(guest.machine, lambda: version_of(program(binary, root) if root else binary)):
        words += ["-machine", "audiodev=audio0"]
    substitutes: dict[str, str] = {}
    left_out: dict[str, str] = {}
    for number, place in enumerate(ordered(tree)):
        node = place.node
        if node.driver.startswith(("tpm-", "virtio-pmem")):
            left_out[place.name] = f"{node.driver} needs the process or the file behind it"
            continue
        behind = _behind(node, node.id or f"n{number}", tree)
        arguments = {**device_arguments(place.bus.name if place.bus else None, node), **behind.properties}
        other = substitute_of(node.driver, node.properties, str(tree.machine.get("arch")))
        if other is not None:
            substitutes[place.name] = other
            arguments, _ = substituted(other, arguments, "")
        words += [*behind.words, "-device", json.dumps(arguments)]
    if image is None:
        return Standalone(words, substitutes, left_out, why_missing(tree.firmware) if tree.firmware.get("kind") else "")
    return Standalone(words_with_image(words, image), substitutes, left_out)


def binary_of(tree: Tree) -> str:
    """The name of the QEMU for a description's architecture: ``qemu-system-x86_64``."""
    return f"qemu-system-{tree.machine.get('arch', 'x86_64')}"


def _guest(tree: Tree, image: FirmwareImage | None) -> Guest:
    """The least guest XML that this description could have: everything that the guest sees is the description's."""
    here = Position("description", 1)
    arch = str(tree.machine.get("arch", "x86_64"))
    arch = _LIBVIRT_ARCH.get(arch, arch)
    machine = str(tree.machine["type"])
    kind = Element("type", {"arch": arch, "machine": machine}, here, text="hvm")
    size = int(tree.memory.get("size", 128 * MIB))
    cells = [_cell(node, here) for node in tree.numa.get("nodes", ())]
    domain = Element(
        "domain",
        {"type": "qemu"},
        here,
        [
            Element("name", {}, here, text=str(tree.guest.get("name", "guest"))),
            Element("memory", {"unit": "b"}, here, text=str(size)),
            Element("vcpu", {}, here, text=str(tree.cpu.get("vcpus", 1))),
            _os(tree, image, kind),
            *([Element("cpu", {}, here, [Element("numa", {}, here, cells)])] if cells else []),
            Element("features", {}, here, [Element("acpi", {}, here)]),
            Element("devices", {}, here),
        ],
    )
    return Guest("description", domain, str(tree.guest.get("name", "guest")), tree.guest.get("uuid"), arch, machine, None)


def _os(tree: Tree, image: FirmwareImage | None, kind: Element) -> Element:
    """<os> with flash where the description has some: the machine is another one without (virt's GED), full or empty."""
    here = kind.position
    if tree.firmware.get("kind") != "pflash":
        return Element("os", {}, here, [kind])
    if image is None:
        return Element("os", {"firmware": "efi"}, here, [kind])
    flash = {"type": "pflash", "readonly": "yes", **({"secure": "yes"} if tree.firmware.get("secure") else {})}
    files = [Element("loader", flash, here, text=image.code)]
    files += [Element("nvram", {}, here, text=image.vars)] if image.vars else []
    return Element("os", {}, here, [kind, *files])


def _cell(node: Mapping[str, Any], here: Position) -> Element:
    """A NUMA cell: where memory comes in cells by size, there is no object for all of it."""
    attributes = {"id": str(node["id"]), "memory": str(node.get("memory", 0)), "unit": "b"}
    if node.get("cpus"):
        attributes["cpus"] = str(node["cpus"])
    return Element("cell", attributes, here)


# --- what stands behind a device -----------------------------------------------------------------------------------


def _behind(node: Node, name: str, tree: Tree) -> Behind:
    kind = names_behind(node.driver)
    if kind is None:
        return NOTHING
    return _BEHIND[kind](node, name, tree) if kind in _BEHIND else _placed(kind, f"behind-{name}")


NOTHING = Behind([], {})


def _placed(kind: str, name: str, **facts: Any) -> Behind:
    """The placeholder of a kind, and the property that names it."""
    return Behind(list(placeholder(kind, name, **facts).words), {kind: name})


def _disk(node: Node, name: str, _tree: Tree) -> Behind:
    if node.driver.endswith("-cd") or node.driver == "floppy":
        return NOTHING  # an empty drive is the same device
    return _placed("drive", f"behind-{name}")


def _memory(node: Node, name: str, tree: Tree) -> Behind:
    known = tree.objects.get(f"mem{name}") or tree.objects.get(f"shmmem-{name}") or {}
    shown = str(node.pci.get("bar2", "")).rpartition(" ")[2] if node.driver.startswith("ivshmem") else ""
    size = int(known.get("size") or shown or 128 * MIB)
    id = f"mem{name}" if not node.driver.startswith("ivshmem") else f"shmmem-{name}"
    if id in tree.objects:  # the platform made it already
        return Behind([], {"memdev": id})
    return _placed("memdev", id, size=size, share=True)


_BEHIND: Mapping[str, Callable[[Node, str, Tree], Behind]] = {
    "drive": _disk,
    "memdev": _memory,
    "audiodev": lambda _node, _name, _tree: Behind([], {"audiodev": "audio0"}),
}
