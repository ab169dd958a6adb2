"""Everything of a guest XML outside of <devices>: what the guest sees of it, and the options that say it to QEMU.

    sections_from_guest    Guest -> the description's sections machine, cpu, memory, numa, firmware, boot, ...
    platform_argv          the same sections, from a description or from the XML, -> -machine, -cpu, -m, -smp, -rtc, ...

One module a part (machine, cpu, memory, firmware, clock), with both directions in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mdtool.commandline.tcg import TCG_MEMORY
from mdtool.errors import InputError, MdtoolError, Report, choices
from mdtool.guest.choices import as_described
from mdtool.guest.machines import machine_of, target_of
from mdtool.guest.model import Guest
from mdtool.guest.platform.clock import clock_options, clock_section
from mdtool.guest.platform.cpu import cpu_options, cpu_section
from mdtool.guest.platform.firmware import Copy, Loading, boot_options, firmware_sections, loader_options, variable_store
from mdtool.guest.platform.host import HOST, check_domain
from mdtool.guest.platform.machine import iothreads, machine_options, machine_sections
from mdtool.guest.platform.memory import RAM, memory_options, memory_sections
from mdtool.guest.platform.units import MIB, bytes_of, names
from mdtool.guest.xml import Element
from mdtool.machine.machines import DEFAULTS, is_by_default
from mdtool.machine.tree import BUILTIN, SECTIONS, Tree
from mdtool.records import dataclass, field

if TYPE_CHECKING:
    from datetime import datetime

__all__ = ["Platform", "check_domain", "crash_action", "iothreads", "platform_argv", "platform_of", "sections_from_guest"]

#: children of <domain> that a section, an option or the devices stand for
_MAPPED = names(
    "name uuid hwuuid genid memory maxMemory vcpu vcpus os sysinfo cpu features clock pm devices launchSecurity keywrap"
)
#: what changes the guest and has no meaning under QEMU, or none that mdtool can give it
_REFUSED = {
    "bootloader": "a bootloader of the host is Xen's",
    "bootloader_args": "a bootloader of the host is Xen's",
}
#: what libvirt takes for a QEMU guest and does nothing with
_IDLE = {"idmap": "QEMU guests have no id map"}


@dataclass(frozen=True)
class Platform:
    """Options for everything but devices and their backends.

    ``left_out`` says which sections a rehearsal cannot show, and why; ``refused`` is what only a printed command line
    may go on without; ``properties`` went into -machine already; ``copies`` are files to make before QEMU starts.
    """

    words: tuple[str, ...]
    copies: tuple[Copy, ...] = ()
    refused: tuple[MdtoolError, ...] = ()
    left_out: Mapping[str, str] = field(default_factory=dict)
    properties: Mapping[str, str] = field(default_factory=dict)


def sections_from_guest(guest: Guest, report: Report) -> dict[str, dict[str, Any]]:
    """The description's sections that the XML chooses; absent where there is nothing to say.

    >>> from mdtool.guest.devices import guest_from_bytes
    >>> xml = b"<domain><name>web01</name><memory unit='GiB'>2</memory><os><type>hvm</type></os></domain>"
    >>> sections_from_guest(guest_from_bytes(xml, "web01.xml"), Report())["memory"]
    {'size': 2147483648}

    What cannot be expressed, and what is not known, goes to ``report``.  Where only places are asked for, there is only the
    machine type.
    """
    seen = guest.domain.get("hwuuid") or guest.uuid  # of SMBIOS: a guest may show another one than it is known by
    sections: dict[str, dict[str, Any]] = {"guest": {"name": guest.name, **({"uuid": seen} if seen is not None else {})}}
    try:
        machine = machine_of(guest).name
    except MdtoolError as error:  # all the rest depends on it, and would say the same
        if not guest.places_only:
            report.error(error)
            return sections
        machine = guest.machine
    if guest.places_only:
        return {**sections, "machine": {"type": machine, "arch": target_of(guest)}}
    for source in (machine_sections, memory_sections, firmware_sections):
        with report.step():
            for name, section in source(guest, report).items():
                sections[name] = {**sections.get(name, {}), **section}
    with report.step():
        sections["cpu"] = cpu_section(guest, report)
    sections["clock"] = clock_section(guest, report)
    with report.step():
        if security := _launch_security(guest):
            sections["features"] = {**sections.get("features", {}), "launch_security": security}
    if guest.arguments:
        from mdtool.guest.commandline import with_commandline  # few guests have one

        with report.step():
            sections = with_commandline(guest, sections)
    _unknown(guest, report)
    return {name: sections[name] for name in SECTIONS if sections.get(name)}


def platform_argv(guest: Guest, tree: Tree, *, rehearse: bool = False, now: datetime | None = None) -> list[str]:
    """The words of ``platform_of``."""
    return list(platform_of(guest, tree, rehearse=rehearse, now=now).words)


def platform_of(
    guest: Guest,
    tree: Tree,
    *,
    rehearse: bool = False,
    now: datetime | None = None,
    properties: Mapping[str, str] | None = None,
    printing: bool = False,
) -> Platform:
    """Options for the machine, its CPUs, memory, firmware and clock.

    What the guest sees comes from ``tree``, and from the XML where the description has no such section; the host side
    comes from the XML.  ``properties`` are further machine properties that backends need (pcspk-audiodev).  Raises
    InputError for what direct launch cannot do, and for a KVM guest on a host without KVM.
    """
    report = Report()
    sections = sections_from_guest(as_described(guest, tree), report)
    report.done()
    sections |= _described(tree, sections)
    tcg = rehearse or guest.domain.get("@type") != "kvm"
    refused: list[MdtoolError] = []
    try:
        loader = loader_options(guest, sections.get("firmware", {}), rehearse=rehearse)
    except InputError as error:
        if not printing:
            raise
        refused.append(error)
        loader = Loading()
    if not tcg and not printing:
        _need_kvm(guest)
    if (security := guest.domain.first("launchSecurity")) is not None and not rehearse:
        refused.append(_encrypted(security))
        if not printing:
            raise refused[-1]
    extra = {**loader.properties, **(properties or {})}
    objects = sections.get("objects", {})
    ram = _whole(guest, sections) if not sections.get("numa") else None
    if ram is not None and objects[ram].get("type", RAM).startswith("memory-backend"):
        extra["memory-backend"] = ram
    words = [
        "-name",
        "guest=" + guest.name.replace(",", ",,") + ",debug-threads=on",
        *machine_options(guest, sections, extra, rehearse=rehearse),
        *_accel(guest, tcg=tcg),
        *cpu_options(guest, sections["cpu"], tcg=tcg, rehearse=rehearse),
        *memory_options(guest, sections, rehearse=rehearse),
    ]
    uuid = sections["guest"].get("uuid")
    if uuid is not None:
        words += ["-uuid", uuid]
    words += ["-no-user-config", *_bare(guest, tree)]
    words += clock_options(sections.get("clock", {}), now)
    words += _actions(guest)
    words += loader.words
    words += boot_options(guest, sections, rehearse=rehearse)
    words += ["-msg", "timestamp=on"]
    copies = () if rehearse else (*loader.copies, *variable_store(guest))
    return Platform(tuple(words), copies, tuple(refused), _not_rehearsed(sections) if rehearse else {}, extra)


def _bare(guest: Guest, tree: Tree) -> list[str]:
    """``-nodefaults``, or each of the defaults without what the board has by default."""
    own = ((p.node.driver, p.bus.type if p.bus else "") for p in tree.places if p.node.origin == BUILTIN)
    version = str(tree.machine.get("qemu", "0")).partition(".")[0]
    if not is_by_default(str(tree.machine.get("type")), int(version), own):
        return ["-nodefaults"]
    tags = {device.tag for device in guest.devices}
    return [word for name, made in DEFAULTS.items() if tags.isdisjoint(made) for word in (f"-{name}", "none")]


def _whole(guest: Guest, sections: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Which of the objects is all of the guest's memory: the others are behind devices."""
    names = [name for name in sections.get("objects", {}) if not name.startswith("ram-node")]
    usual, size = machine_of(guest).ram, sections["memory"].get("size")
    if usual in names:
        return usual
    return min(names, key=lambda name: sections["objects"][name].get("size") != size, default=None)


#: <launchSecurity>: type -> what the guest attests to, by QEMU's names; bit positions and certificates are the host's
_SECURITY: Mapping[str, Mapping[str, str]] = {
    "sev": {"policy": "policy", "@kernelHashes": "kernel-hashes"},
    "sev-snp": {
        "policy": "policy",
        "@kernelHashes": "kernel-hashes",
        "guestVisibleWorkarounds": "guest-visible-workarounds",
        "hostData": "host-data",
    },
    "tdx": {
        "policy": "attributes",
        "mrConfigId": "mrconfigid",
        "mrOwner": "mrowner",
        "mrOwnerConfig": "mrownerconfig",
    },
    "s390-pv": {},
}


def _launch_security(guest: Guest) -> dict[str, Any]:
    """``{"type": "sev", "policy": 3}``; empty without <launchSecurity>."""
    element = guest.domain.first("launchSecurity")
    if element is None:
        return {}
    kind = element.get("@type") or ""
    if kind not in _SECURITY:
        what = f"<launchSecurity>: unknown type '{kind}'"
        raise InputError(what, at=element.position, expected=choices(_SECURITY), rule="launch-security")
    found: dict[str, Any] = {"type": kind}
    for path, name in _SECURITY[kind].items():
        text = element.get(path)
        if text is not None:
            found[name] = _attested(text)
    return found


def _attested(text: str) -> Any:
    """A switch, a number (``0x30000``), or a text: hashes in base64 begin with digits, too."""
    if text in ("yes", "no"):
        return text == "yes"
    return int(text, 0) if re.fullmatch(r"0[xX][0-9a-fA-F]{1,16}|0|[1-9][0-9]{0,19}", text) else text


def _encrypted(element: Element) -> InputError:
    return InputError(
        "<launchSecurity> needs the host's secure processor, which direct launch does not set up",
        at=element.position,
        remedy="start the guest with --via libvirt",
        rule="host-side",
    )


def _not_rehearsed(sections: Mapping[str, Mapping[str, Any]]) -> dict[str, str]:
    """The sections that TCG, which a rehearsal runs under, cannot show."""
    found = {}
    cpu = sections["cpu"]
    if cpu.get("model") == "host" or any(name.startswith("hv-") for name in cpu.get("features", ())):
        found["cpu"] = "TCG has neither the host's CPU nor Hyper-V's enlightenments"
    if "launch_security" in sections.get("features", {}):
        found["features"] = "TCG encrypts no memory"
    if sections["memory"].get("max", 0) > TCG_MEMORY:
        found["memory"] = "TCG addresses 40 bits"
    return found


#: sections without which QEMU cannot start, and what of them a description may leave to the XML
_COMPLETED = ("guest", "machine", "cpu", "memory")
_NEEDED = ("type", "arch", "name", "vcpus", "size")


def _described(tree: Tree, from_xml: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """The sections that the description has."""
    found = {name: dict(section) for name in SECTIONS if (section := getattr(tree, name))}
    for name in _COMPLETED:
        if name in found:
            found[name] = {**{key: from_xml[name][key] for key in _NEEDED if key in from_xml[name]}, **found[name]}
    return found


def _accel(guest: Guest, *, tcg: bool) -> list[str]:
    if tcg:
        cache = guest.domain.first("features/tcg/tb-cache")
        size = bytes_of(cache.text, cache.get("@unit"), cache) // MIB if cache is not None else 0  # QEMU counts in MiB
        return ["-accel", "tcg" + (f",tb-size={size}" if size else "")]
    ring = guest.domain.get("features/kvm/dirty-ring/@size")
    on = ring and guest.domain.get("features/kvm/dirty-ring/@state") == "on"
    return ["-accel", f"kvm,dirty-ring-size={ring}" if on else "kvm"]


def _need_kvm(guest: Guest) -> None:
    if not os.access("/dev/kvm", os.R_OK | os.W_OK):
        raise InputError(
            "<domain type='kvm'> needs /dev/kvm, which "
            + ("this user may not open" if os.path.exists("/dev/kvm") else "this host does not have"),
            at=guest.domain.position,
            remedy="join the group kvm, or load the kvm module; type='qemu' runs the guest without",
            rule="kvm",
        )


#: what the guest does, and libvirt's word of what is to follow -> QEMU's option; what is not here is QEMU's own way
_ACTIONS = {
    ("on_poweroff", "preserve"): ("-no-shutdown",),
    ("on_reboot", "destroy"): ("-no-reboot",),
}
#: <on_crash> -> what QEMU does then; libvirt, too, says it by QMP
_ON_CRASH = {"preserve": "pause", "preserve-running": "none"}


def _actions(guest: Guest) -> list[str]:
    return [word for (tag, wish), words in _ACTIONS.items() if guest.domain.get(tag) == wish for word in words]


def crash_action(guest: Guest) -> tuple[tuple[str, Mapping[str, Any]], ...]:
    """The QMP command that says what QEMU does where the guest crashes; none for QEMU's own way."""
    action = _ON_CRASH.get(guest.domain.get("on_crash") or "")
    return (("set-action", {"panic": action}),) if action else ()


def _unknown(guest: Guest, report: Report) -> None:
    """Children of <domain> that nothing stands for; what is in them is ``guest.spelling``'s."""
    for child in guest.domain:
        if child.tag in _IDLE:
            report.warn(f"<{child.tag}> means nothing: {_IDLE[child.tag]}", at=child.position, rule="not-qemu")
        elif _REFUSED.get(child.tag):
            report.error(InputError(f"<{child.tag}>: {_REFUSED[child.tag]}", at=child.position, rule="not-qemu"))
        elif child.tag not in _MAPPED and child.tag not in HOST and not child.tag.startswith("{"):
            report.warn(f"<{child.tag}> is not known and was left out", at=child.position, rule="unknown-element")
