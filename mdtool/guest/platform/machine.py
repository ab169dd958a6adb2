"""The machine type with its switches, <features>, <pm> and the globals: ``-machine``, ``-global``.

The sections:

    machine: {type: pc-q35-7.2, arch: x86_64, properties: {hpet: false, vmport: 'off'}}    # QEMU's names, its types
    features:
      globals: {ICH9-LPC.disable_s3: 1}
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from mdtool.commandline.tcg import TCG_GIC
from mdtool.errors import InputError, Report, choices
from mdtool.guest.choices import has_loadparm, has_newest, has_newest_qemu
from mdtool.guest.devices import wanted_from_guest
from mdtool.guest.elements.disk import floppy_boot
from mdtool.guest.machines import machine_of, target_of
from mdtool.guest.model import Guest
from mdtool.guest.platform.firmware import wants_secure
from mdtool.guest.platform.units import MIB, bytes_of, number, on, spelled, switch
from mdtool.guest.xml import Element
from mdtool.limits import MAX_THREADS
from mdtool.machine.roles import ON_OFF_AUTO
from mdtool.machine.values import decimal
from mdtool.records import NamedTuple

Section = dict[str, Any]


class Feature(NamedTuple):
    """One row: where the XML says it, and what machine property it becomes.

    ``values`` translates the XML's word; without it the word is a switch.
    """

    path: str
    name: str
    values: Mapping[str, Any] | None = None


_CAP = {"broken": "broken", "workaround": "workaround", "fixed": "fixed"}

FEATURES = (
    Feature("features/smm/@state", "smm"),
    Feature("features/vmport/@state", "vmport"),
    Feature("features/ioapic/@driver", "kernel_irqchip", {"kvm": "on", "qemu": "split"}),
    Feature("features/hpt/@resizing", "resize-hpt", {"enabled": "enabled", "disabled": "disabled", "required": "required"}),
    Feature("features/htm/@state", "cap-htm"),
    Feature("features/nested-hv/@state", "cap-nested-hv"),
    Feature("features/ccf-assist/@state", "cap-ccf-assist"),
    Feature("features/cfpc/@value", "cap-cfpc", _CAP),
    Feature("features/sbbc/@value", "cap-sbbc", _CAP),
    Feature(
        "features/ibs/@value",
        "cap-ibs",
        {**_CAP, "fixed-ibs": "fixed-ibs", "fixed-ccd": "fixed-ccd", "fixed-na": "fixed-na"},
    ),
    Feature("features/ras/@state", "ras"),
    Feature("features/ps2/@state", "i8042"),
    Feature("features/aia/@value", "aia", {"none": "none", "aplic": "aplic", "aplic-imsic": "aplic-imsic"}),
)


def machine_sections(guest: Guest, report: Report) -> dict[str, Section]:
    """The sections ``machine`` and ``features``."""
    properties: Section = {}
    for source in (_from_features, _secure, _acpi, _gic, _hpt, _timers, _devices):
        with report.step():
            properties.update(source(guest))
    machine: Section = {"type": machine_of(guest).name, "arch": target_of(guest)}
    if properties:
        machine["properties"] = dict(sorted(properties.items()))
    sections = {"machine": machine}
    with report.step():
        found = dict(_globals(guest))
        if found:
            sections["features"] = {"globals": found}
    return sections


def machine_options(
    guest: Guest, sections: Mapping[str, Mapping[str, Any]], extra: Mapping[str, str], *, rehearse: bool
) -> list[str]:
    """``-machine`` and ``-global``; ``extra`` are machine properties of the host side: pflash0, memory-backend."""
    machine = sections["machine"]
    described = dict(machine.get("properties", {}))
    if rehearse and described.get("gic-version") == "host":
        described["gic-version"] = TCG_GIC
    properties = {"usb": False, **described, **_host_side(guest, rehearse=rehearse), **extra}
    words = [
        "-machine",
        ",".join([machine["type"], *(f"{name}={spelled(value)}" for name, value in properties.items())]),
    ]
    for name, value in sections.get("features", {}).get("globals", {}).items():
        words += ["-global", f"{name}={spelled(value)}"]
    return words


def needs_iommu(guest: Guest) -> bool:
    """Whether the newest libvirt has QEMU deliver interrupts by an IOMMU: for more CPUs than an APIC can name.

    In a machine that is described without it, it stays as it is.
    """
    split = guest.implies("machine", "properties", "kernel_irqchip")
    return split and guest.is_q35 and (number(guest.domain, "vcpu") or 1) > 255


def _typed(name: str, value: bool) -> Any:
    return on(value) if name in ON_OFF_AUTO else value


def _from_features(guest: Guest) -> Section:
    found: Section = {"kernel_irqchip": "split"} if needs_iommu(guest) else {}
    for row in FEATURES:
        text = guest.domain.get(row.path)
        if row.values is None:
            if (value := switch(guest.domain, row.path)) is not None:
                found[row.name] = _typed(row.name, value)
        elif text is not None and text in row.values:
            found[row.name] = row.values[text]
        elif text is not None:
            raise InputError(
                f"{row.path}: unknown value {text!r}",
                at=guest.domain.at(row.path),
                expected=choices(row.values),
                rule="feature-value",
            )
    return found


def _acpi(guest: Guest) -> Section:
    """libvirt switches ACPI off where <acpi/> is missing: 12.8 on the machines that have some, 32-bit virt included, 9.0 on
    every board of aarch64 (raspi3b, sbsa-ref), where it is nothing, and not on 32-bit virt."""
    switchable = guest.is_x86 or (guest.is_virt and (guest.arch == "aarch64" or has_newest(guest)))
    return {} if not switchable or guest.domain.first("features/acpi") is not None else {"acpi": "off"}


def _gic(guest: Guest) -> Section:
    if not guest.is_virt or guest.arch != "aarch64":  # QEMU's 32 bit machine has its own
        return {}
    version = guest.domain.get("features/gic/@version")
    kvm = guest.domain.get("@type") == "kvm"
    return {"gic-version": version or ("host" if kvm else "2")}


def _secure(guest: Guest) -> Section:
    """Firmware with secure boot keeps its variables in SMM, and libvirt switches that on with it."""
    wished = guest.domain.first("features/smm")
    return {"smm": "on"} if wished is None and guest.is_q35 and wants_secure(guest) else {}


def _hpt(guest: Guest) -> Section:
    page = guest.domain.first("features/hpt/maxpagesize")
    return {} if page is None else {"cap-hpt-max-page-size": f"{bytes_of(page.text, page.get('@unit'), page) // 1024}k"}


def _timers(guest: Guest) -> Section:
    for timer in guest.domain.all("clock/timer"):
        present = switch(timer, "@present") if timer.get("@name") == "hpet" else None
        if present is False or (present and has_newest(guest)):
            return {"hpet": present}
    return {}


def _devices(guest: Guest) -> Section:
    """What a device element switches on in the machine."""
    found: Section = {}
    if switch(guest.domain, "os/bios/@useserial"):
        if not any(device.tag in ("serial", "console") for device in guest.devices):
            what, remedy = "<bios useserial='yes'> needs a serial port", "add <serial type='pty'/>"
            raise InputError(what, at=guest.domain.at("os/bios"), remedy=remedy, rule="bios-serial")
        found["graphics"] = False
    for cipher in guest.domain.all("keywrap/cipher") if guest.is_s390 else ():
        found[f"{cipher.get('@name')}-key-wrap"] = bool(switch(cipher, "@state"))
    if guest.domain.first("features/virtualization") is not None:
        found["virtualization"] = True
    for device in guest.devices:
        model = device.get("@model")
        if device.tag == "memory" and model == "nvdimm":
            found["nvdimm"] = True
        if device.tag == "iommu" and model == "smmuv3" and device.get("driver/@pciBus") is None:
            found["iommu"] = "smmuv3"
    if guest.is_s390 and not has_loadparm(guest) and (loadparm := _loadparm(guest)):
        found["loadparm"] = loadparm
    if any(
        guest.domain.first(f"cpu/numa/{path}")
        for path in ("cell/cache", "interconnects/latency", "interconnects/bandwidth")
    ):
        found["hmat"] = True
    return found


def _loadparm(guest: Guest) -> str | None:
    """What the firmware of s390x boots from the disk or NIC that is first: older QEMUs have one, on the machine."""
    devices = (device for device in guest.devices if device.tag in ("disk", "interface"))
    first = (device for device in devices if decimal(device.get("boot/@order") or "") == 1)
    return next((loadparm for device in first if (loadparm := device.get("boot/@loadparm"))), None)


def _host_side(guest: Guest, *, rehearse: bool) -> Section:
    found: Section = {"dump-guest-core": guest.domain.get("memory/@dumpCore") == "on"}
    if guest.domain.first("memoryBacking/nosharepages") is not None and not rehearse:
        found["mem-merge"] = False
    return found


_NVRAM = 0x3000  # where libvirt puts the settings of a POWER machine's firmware

#: <pm> -> the property of the chipset's power management
_PM = {"suspend-to-mem": "disable_s3", "suspend-to-disk": "disable_s4"}


def _globals(guest: Guest) -> Iterator[tuple[str, Any]]:
    domain = guest.domain
    chipset = "ICH9-LPC" if guest.is_q35 else "PIIX4_PM"
    for tag, name in _PM.items():
        enabled = switch(domain, f"pm/{tag}/@enabled")
        if enabled is not None:
            if not (guest.is_q35 or guest.is_i440fx):
                raise InputError(
                    f"<{tag}> is a switch of pc and q35 only",
                    at=domain.at(f"pm/{tag}"),
                    remedy=f"remove <{tag}>",
                    rule="pm",
                )
            yield f"{chipset}.{name}", int(not enabled)
    if any(device.tag == "watchdog" and device.get("@model") == "itco" for device in guest.devices):
        if not guest.is_q35:
            what, remedy = "the watchdog itco is one of q35's chipset", "another model, or a q35 machine type"
            raise InputError(what, at=domain.at("devices/watchdog"), remedy=remedy, rule="watchdog")
        yield "ICH9-LPC.noreboot", False
    elif guest.is_q35 and _has_libvirts_watchdog(guest):
        yield "ICH9-LPC.noreboot", False
    for timer in domain.all("clock/timer"):
        if timer.get("@name") == "pit" and timer.get("@tickpolicy") in ("delay", "discard"):
            yield "kvm-pit.lost_tick_policy", timer.get("@tickpolicy")
    size = domain.first("features/smm/tseg")
    if size is not None and switch(domain, "features/smm/@state"):
        yield "mch.extended-tseg-mbytes", bytes_of(size.text, size.get("@unit") or "MiB", size) // MIB
    for device in guest.devices:
        yield from _hole(device, guest)
        if device.tag == "nvram" and guest.is_ppc:
            reg = number(device, "address/@reg")
            yield "spapr-nvram.reg", f"{_NVRAM if reg is None else reg:#x}"
    if guest.is_i440fx:
        yield from _of_the_chipset(guest)


def _has_libvirts_watchdog(guest: Guest) -> bool:
    """Whether libvirt adds the watchdog of q35's chipset, or has left it out of this XML."""
    added = guest.migratable or has_newest_qemu(guest)
    return added and guest.implies("features", "globals", "ICH9-LPC.noreboot")


def _of_the_chipset(guest: Guest) -> Iterator[tuple[str, Any]]:
    """What i440fx has built in and an element sets: hotplug on PCI bus 0, and which floppy boots."""
    for controller in guest.devices:
        hotplug = switch(controller, "target/@hotplug") if controller.tag == "controller" else None
        if hotplug is not None and controller.get("@model") == "pci-root":
            yield "PIIX4_PM.acpi-root-pci-hotplug", hotplug
    if any(device.get("@device") == "floppy" for device in guest.devices):
        for name, value in floppy_boot(wanted_from_guest(guest, Report())).items():
            yield f"isa-fdc.{name}", value


def _hole(controller: Element, guest: Guest) -> Iterator[tuple[str, Any]]:
    hole = controller.first("pcihole64") if controller.tag == "controller" else None
    if hole is None:
        return
    host = "q35-pcihost" if guest.is_q35 else "i440FX-pcihost"
    yield f"{host}.pci-hole64-size", f"{bytes_of(hole.text, hole.get('@unit'), hole) // 1024}K"


def iothreads(guest: Guest) -> list[int]:
    """The numbers of the iothreads: <iothreadids>, then 1, 2, ... up to <iothreads>."""
    count = number(guest.domain, "iothreads") or 0
    if count > MAX_THREADS:
        at = guest.domain.at("iothreads")
        raise InputError(f"{count} I/O threads", at=at, expected=f"up to {MAX_THREADS}", rule="limit-number")
    listed = [number(element, "@id") or 0 for element in guest.domain.all("iothreadids/iothread")]
    free = (i for i in range(1, count + len(listed) + 1) if i not in listed)
    return listed + [next(free) for _ in range(count - len(listed))]
