"""What each source of a description could know, so that an absent key is either "not set" or "not known".

A row says which sources can know a fact and which values equal an absent one.  A fact without a row is not known to be
knowable: it is compared where both sides have it, and listed as not compared where one has.
"""

from __future__ import annotations

import re

from mdtool.machine.tree import ARGUMENTS, MONITOR, Properties, Tree, Value
from mdtool.machine.values import same
from mdtool.records import NamedTuple

XML = "xml"  # guest XML, of which a description keeps what it last set


class Fact(NamedTuple):
    """``keys`` with their sections, each with all that is below it; who ``tells`` them; values like an absent one; why
    a machine whose arguments were read may have none."""

    keys: tuple[str, ...]
    tells: frozenset[str]
    unset: tuple[Value, ...] = ()
    why: str = ""


def _row(keys: str, tells: str, *unset: Value) -> Fact:
    return Fact(tuple(keys.split()), frozenset(tells.split()), unset)


#: the first row that fits decides
FACTS = (
    _row("guest.name guest.uuid", "monitor"),
    _row("machine.type machine.arch", "monitor xml"),
    _row("cpu.features.kvm", "arguments", True),
    _row("cpu.features", "arguments"),
    _row("cpu.model cpu.vcpus cpu.maxcpus cpu.topology", "monitor", 1),
    _row("memory.slots", "monitor xml", 0),
    _row("memory.max", "arguments xml", 0),  # and a monitor where there are slots
    _row("memory.size", "monitor"),
    _row("numa.distances numa.nodes.links numa.nodes.caches numa.nodes.initiator", "arguments xml"),
    _row("numa", "monitor xml"),
    _row("firmware.kind", "arguments xml"),
    _row("firmware.secure", "monitor xml", False),
    _row("boot.strict", "", False),  # what firmware does when nothing boots: libvirt's default, and not QEMU's
    _row("boot.menu", "monitor", False),
    _row("boot.order", "monitor", "", "cad"),
    _row("boot.once boot.splash-time boot.reboot-timeout", "monitor xml"),
    _row("boot.kernel boot.append", "arguments xml", False, ""),
    _row("smbios.files features.fw_cfg_files", "arguments"),
    _row("smbios features.fw_cfg features.launch_security", "arguments xml"),
    _row("features.globals features.acpi_tables features.option_roms features.prom_env features.options", "arguments"),
    _row("clock.timers.rtc", "arguments"),
    Fact(("clock.base",), frozenset(), why="the clock started at a date, which is another one at each start"),
)

#: machine properties, and their defaults in every version of QEMU; others depend on the machine type
MACHINE_UNSET: Properties = {
    "acpi": ("auto", "on"),
    "smm": ("auto",),
    "vmport": ("auto", "on"),
    "hpet": (True,),
    "i8042": (True,),
    "pit": ("auto", "on"),
    "pic": ("auto", "on"),
    "sata": (True,),
    "smbus": (True,),
    "usb": (False,),
    "graphics": (True,),
    "kernel-irqchip": (True,),
    "nvdimm": (False,),
    "nvdimm-persistence": ("",),
    "hmat": (False,),
    "cxl": (False,),
    "default-bus-bypass-iommu": (False,),
    "x-oem-id": ("BOCHS ", "BOCHS"),
    "x-oem-table-id": ("BXPC    ", "BXPC"),
    "dt-compatible": ("",),
    "highmem": (True,),
    "mte": (False,),
    "ras": (False,),
    "iommu": ("none",),
    "loadparm": ("",),
    "aes-key-wrap": (True,),
    "dea-key-wrap": (True,),
    "host-model": ("",),
    "host-serial": ("",),
    "max-cpu-compat": ("",),
    "x-vof": (False,),
    "aia": ("none",),
    "aclint": (False,),
}
#: beginning of a machine type -> what is otherwise there (measured on QEMU 7.2)
MACHINE_UNSET_ON: dict[str, dict[str, tuple[Value, ...]]] = {"pseries": {"nvdimm": (True,)}}
#: spellings of a switch that are one to the guest
_SAME_ON_THE_MACHINE = {"acpi": ("auto", "on"), "vmport": ("auto", "on"), "pit": ("auto", "on"), "pic": ("auto", "on")}


def sources_of(tree: Tree) -> frozenset[str]:
    """Who was asked for a description: its ``source``, and guest XML where it keeps what that set of the sections."""
    xml = {XML} if any(name.startswith("@") for name in tree.applied) else set()
    return frozenset(tree.source) | xml


def fact_of(path: str) -> Fact | None:
    """The row of ``boot.menu``; None if no source is known to report it.

    Rows of a list have no number: ``numa.nodes[0].cpus`` is ``numa.nodes.cpus``.
    """
    plain = re.sub(r"\[\d+\]", "", path) + "."
    return next((fact for fact in FACTS if any(plain.startswith(f"{key}.") for key in fact.keys)), None)


def is_known(sources: frozenset[str], path: str) -> bool:
    """Whether a description from these sources would have the fact if it was there.

    >>> is_known(frozenset({"monitor"}), "boot.menu"), is_known(frozenset({"monitor"}), "smbios.type1.serial")
    (True, False)
    """
    fact = fact_of(path)
    return fact is not None and not sources.isdisjoint(fact.tells)


def says_nothing(path: str, value: Value) -> bool:
    """Whether a value is what an absent key means."""
    fact = fact_of(path)
    return fact is not None and any(same(value, one) for one in fact.unset)


def is_usual(name: str, value: Value, machine: str = "") -> bool | None:
    """Whether a machine property has its default; None where that depends on the machine type."""
    usual = MACHINE_UNSET.get(name)
    for start, rows in MACHINE_UNSET_ON.items():
        usual = rows.get(name, usual) if machine.startswith(start) else usual
    return None if usual is None else any(same(value, one) for one in usual)


def same_on_the_machine(name: str, one: Value, other: Value) -> bool:
    """Whether a guest cannot tell two values of a machine property apart, as far as that is known.

    >>> same_on_the_machine("gic-version", "host", "3"), same_on_the_machine("gic-version", "2", "3")
    (True, False)
    """
    if name == "gic-version" and "host" in (one, other):
        return True  # QEMU shows what it is on this host
    alike = _SAME_ON_THE_MACHINE.get(name, ())
    return same(one, other) or (any(same(one, x) for x in alike) and any(same(other, x) for x in alike))


def why_not(sources: frozenset[str], path: str = "", *, described: bool) -> str:
    """Why a fact that the other side has is not compared; ``described``: it is the description that lacks it."""
    fact = fact_of(path)
    if fact is not None and fact.why and ARGUMENTS in sources:
        return fact.why
    if described:
        return "the description does not say: " + _from(sources)
    if MONITOR in sources and ARGUMENTS not in sources:
        return "no monitor tells it, and the arguments of the process were not read"
    return "the machine does not show it"


def _from(sources: frozenset[str]) -> str:
    if ARGUMENTS in sources:
        return "nothing that was asked for it tells this"
    if MONITOR in sources:
        return "it is from a monitor alone, which does not tell this"
    return "it is from guest XML alone" if XML in sources else "it does not record what its source knew"
