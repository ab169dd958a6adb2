"""The host side of what stands directly under <domain>: who carries each element out.

``by`` is the module that reads it.  What only tunes a guest that runs all the same is a warning where libvirt does not
start it; what it cannot do without is an error.
"""

from __future__ import annotations

from collections.abc import Mapping

from mdtool.errors import InputError, Report
from mdtool.guest.host import HostRow, by_libvirt, carried, idle, tuned
from mdtool.guest.model import QEMU_NS, Guest
from mdtool.guest.platform.units import bytes_of
from mdtool.guest.xml import Element

#: tag -> its host side
HOST: Mapping[str, HostRow] = {
    "title": idle("a note"),
    "description": idle("a note"),
    "metadata": idle("notes of other programs"),
    "on_lockfailure": idle("what libvirt's lock manager does"),
    "on_poweroff": carried("guest.platform", "what follows"),
    "on_reboot": carried("guest.platform", "what follows"),
    "on_crash": carried("guest.platform", "what follows"),
    "memoryBacking": carried("guest.platform.memory", "what is behind the memory"),
    "numatune": carried("guest.platform.memory", "the host's nodes that memory comes from"),
    "iothreads": carried("launch.backends.process", "threads that serve devices"),
    "iothreadids": carried("launch.backends.process", "threads that serve devices"),
    "defaultiothread": carried("launch.backends.process", "the main loop's pool of threads"),
    "throttlegroups": carried("launch.backends.layers", "limits that disks share"),
    "currentMemory": tuned("what the balloon leaves to the guest"),
    "memtune": tuned("limits of a control group"),
    "blkiotune": tuned("limits of a control group"),
    "cputune": tuned("where threads run, and how much"),
    "resource": tuned("the control group"),
    "perf": tuned("what the host counts"),
    "seclabel": tuned("labels that confine the process"),
    "vcpu": tuned("where threads run"),
    "memory": tuned("numad, which chooses the host's nodes"),
    f"{QEMU_NS}deprecation": tuned("what QEMU does where something deprecated is used"),
    f"{QEMU_NS}capabilities": tuned("what libvirt takes QEMU for"),
    "iommufd": by_libvirt("a descriptor of /dev/iommu", unless=("no",)),
}


def check_domain(guest: Guest, report: Report) -> None:
    """To ``report``: what of the elements under <domain> a direct launch does not carry out."""
    for element in (*guest.domain, *guest.domain.all("numatune/memory")):
        side = HOST.get(element.tag)
        if side is None or side.who != "libvirt" or _asks_nothing(guest, element):
            continue
        what = f"<{element.tag.replace(QEMU_NS, 'qemu:')}>: direct launch does not carry it out ({side.why})"
        remedy = "start the guest with --via libvirt"
        if side.warns:
            report.warn(what, at=element.position, remedy=remedy, rule="host-side")
        elif side.refuses(element.get("@enabled") or ""):
            report.error(InputError(what, at=element.position, remedy=remedy, rule="host-side"))


def _asks_nothing(guest: Guest, element: Element) -> bool:
    """Whether it says what is so anyway: a balloon that leaves all to the guest, a label of type none."""
    if element.tag == "currentMemory":
        whole = guest.domain.first("memory")
        if whole is None:
            return True
        size = bytes_of(whole.text, whole.get("@unit"), whole)
        return bytes_of(element.text, element.get("@unit"), element) in (0, size)
    if element.tag == "vcpu":
        return element.get("@cpuset") is None and element.get("@placement") != "auto"
    if element.tag == "memory":
        return element.get("@placement") != "auto"
    if element.tag == "seclabel":
        return element.get("@type") == "none"
    return not (element.attributes or element.children)
