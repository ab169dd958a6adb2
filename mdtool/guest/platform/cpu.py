"""<vcpu>, <cpu>, and what <features> and <clock> say of the CPU: ``-cpu`` and ``-smp``.

The section, quiet where a key is absent:

    cpu:
      model: Haswell
      features: {aes: true, x2apic: false, hv-vendor-id: KVM Hv}    # QEMU's names
      vcpus: 2
      maxcpus: 4                                                    # where it is more than vcpus
      topology: {sockets: 2, cores: 2, threads: 1}                  # of maxcpus
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mdtool.errors import InputError, Report, choices
from mdtool.guest.choices import WRITTEN_ALONE, has_newest, removed_features
from mdtool.guest.machines import machine_of
from mdtool.guest.model import Guest
from mdtool.guest.platform.units import names, number, spelled, switch
from mdtool.guest.xml import Element
from mdtool.machine.drivers import cpu_model_name
from mdtool.records import NamedTuple

Section = dict[str, Any]

#: libvirt's names of features -> QEMU's, where they differ
FEATURES = {"pclmuldq": "pclmulqdq", "ffxsr": "fxsr-opt"} | {
    name: name.replace("_", "-")
    for name in ["ds_cpl", "tsc_adjust", "fxsr_opt", "lahf_lm", "cmp_legacy", "nodeid_msr", "perfctr_core", "perfctr_nb"]
}
#: features of the host that QEMU has no switch for; libvirt leaves them out as well
_NO_SWITCH = {"cmt", "mbm_total", "mbm_local", "osxsave", "ospke", "cvt16", "xtpr"}
#: features of s390x that QEMU calls deprecated (query-cpu-model-expansion, deprecated-props)
_DEPRECATED = ("bpb", "csske", "cte", "te")
_POLICIES = {"force": True, "require": True, "optional": None, "disable": False, "forbid": False}
#: modes without a model of their own, and what QEMU calls them
_MODES = {"host-passthrough": "host", "host-model": "host", "maximum": "max"}
_TOPOLOGY = ("sockets", "dies", "clusters", "cores", "threads")
#: levels that libvirt always writes; the others only where they are more than 1
_ALWAYS = ("sockets", "cores", "threads")


def cpu_section(guest: Guest, report: Report) -> Section:
    """The ``cpu`` section; what cannot be expressed goes to ``report``."""
    domain = guest.domain
    cpu = domain.first("cpu")
    section: Section = {}
    model = _model(guest, cpu)
    if model is not None:
        section["model"] = model
    features = {}
    for source in (_cpu_features, _cache, _phys_bits, _domain_features, _hyperv, _timers):
        with report.step():
            features.update(source(guest, cpu, model))
    if features:
        section["features"] = features
    vcpu = domain.first("vcpu")
    maximum = (number(domain, "vcpu") if vcpu is not None else None) or 1
    current = (number(vcpu, "@current") if vcpu is not None else None) or _enabled(domain) or maximum
    if current > maximum:
        at = domain.at("vcpu")
        raise InputError(f"{current} vcpus of at most {maximum}", at=at, expected="current <= vcpus", rule="vcpus")
    section["vcpus"] = current - len(plugged_cpus(guest))
    if maximum != section["vcpus"]:
        section["maxcpus"] = maximum
    _check_enabled(guest, report)
    section["topology"] = _topology(cpu, maximum)
    return section


class PluggedCpu(NamedTuple):
    """A vCPU that is a device: libvirt starts the guest without it and plugs it in before the guest runs."""

    element: Element
    driver: str
    id: str
    address: str


#: architecture -> how QEMU calls its CPUs, and the levels of the topology that an address counts
_PLUGGED = {
    "x86_64": ("x86_64-cpu", ("sockets", "dies", "cores", "threads")),
    "i686": ("i386-cpu", ("sockets", "dies", "cores", "threads")),
    "s390x": ("s390x-cpu", ()),
}


def plugged_cpus(guest: Guest) -> list[PluggedCpu]:
    """The CPUs of <vcpus> that are there and may be unplugged; raises InputError."""
    domain, (ending, levels) = guest.domain, _PLUGGED.get(guest.arch, ("", ()))
    listed = [vcpu for vcpu in domain.all("vcpus/vcpu") if _is_on(vcpu) and vcpu.get("@hotpluggable") == "yes"]
    if not ending or not listed:
        return []
    cpu = domain.first("cpu")
    topology = _topology(cpu, number(domain, "vcpu") or 1)
    model, found = _model(guest, cpu), []
    for vcpu in listed:
        left = number(vcpu, "@id") or 0
        id, places = f"vcpu{left}", []
        for level in reversed(levels):
            if (count := topology.get(level, 0 if level == "dies" else 1)) and level != "sockets":
                left, place = divmod(left, count)
                places.append(str(place))
        found.append(PluggedCpu(vcpu, f"{model}-{ending}", id, ":".join([str(left), *reversed(places)])))
    return found


def _is_on(vcpu: Element) -> bool:
    return vcpu.get("@enabled") != "no"


def cpu_options(guest: Guest, section: Mapping[str, Any], *, tcg: bool, rehearse: bool) -> list[str]:
    """``-cpu`` and ``-smp``.  Under TCG the host's CPU is not to be had, and ``max`` is the nearest.

    A rehearsal leaves out what only KVM has.
    """
    words = []
    model = section.get("model")
    if model == "host" and tcg:
        model = "max"
    if guest.arch.startswith("riscv") and guest.domain.first("cpu/model") is None and model == machine_of(guest).cpu:
        model = None  # libvirt leaves it to QEMU
    if model is not None:
        switches = section.get("features", {})
        alone = set() if has_newest(guest) else WRITTEN_ALONE
        said = (name if name in alone and value is True else f"{name}={spelled(value)}" for name, value in switches.items())
        text = ",".join([model, *said])
        if rehearse:
            from mdtool.commandline.placeholder.backends import cpu_without_host

            text = cpu_without_host(text)
        words += ["-cpu", text]
    vcpus, maximum = section.get("vcpus", 1), section.get("maxcpus")
    smp = [str(vcpus)]
    if maximum:
        smp.append(f"maxcpus={maximum}")
    smp += [f"{level}={count}" for level, count in section.get("topology", {}).items()]
    return [*words, "-smp", ",".join(smp)]


def _check_enabled(guest: Guest, report: Report) -> None:
    """Warn where a CPU that is there at the start comes after one that is not: QEMU starts with the first ones."""
    off: Element | None = None
    plugged = [cpu.element for cpu in plugged_cpus(guest)]
    for vcpu in sorted(guest.domain.all("vcpus/vcpu"), key=lambda vcpu: number(vcpu, "@id") or 0):
        if not _is_on(vcpu):
            off = off or vcpu
        elif off is not None and vcpu not in plugged:
            what = f"vCPU {off.get('@id')} is off and vCPU {vcpu.get('@id')} on: the first ones are described"
            report.warn(what, at=off.position, remedy="start the guest with --via libvirt", rule="vcpus")
            return


def _enabled(domain: Element) -> int | None:
    """How many of <vcpus> are enabled; None if there are none."""
    listed = list(domain.all("vcpus/vcpu"))
    return sum(map(_is_on, listed)) or None


def _topology(cpu: Element | None, maximum: int) -> dict[str, int]:
    topology = cpu.first("topology") if cpu is not None else None
    if topology is None:
        return {"sockets": maximum, "cores": 1, "threads": 1}  # libvirt's choice; QEMU's own prefers cores
    counts = {level: number(topology, f"@{level}") or 1 for level in _TOPOLOGY}
    product = 1
    for count in counts.values():
        product *= count
    if product != maximum:
        raise InputError(
            f"the topology has {product} CPUs and <vcpu> {maximum}",
            at=topology.position,
            expected=f"{' * '.join(_ALWAYS)} = {maximum}",
            rule="topology",
        )
    return {level: count for level, count in counts.items() if level in _ALWAYS or count > 1}


#: models that libvirt has and QEMU has not: what libvirt 12.8 starts in their place
_ICELAKE = {
    "mpx": True, "avx512vbmi": True, "umip": True, "pku": True, "avx512vbmi2": True, "gfni": True, "vaes": True,
    "vpclmulqdq": True, "avx512vnni": True, "avx512bitalg": True, "avx512-vpopcntdq": True, "spec-ctrl": True, "ssbd": True,
    "wbnoinvd": True, "pcid": False, "tsc-deadline": False, "hle": False, "invpcid": False, "rtm": False, "xsavec": False,
    "intel-pt": False,
}  # fmt: skip
REPLACED: Mapping[str, Section] = {
    "Icelake-Client": {"model": "Skylake-Client", "features": _ICELAKE},
    "Icelake-Client-noTSX": {"model": "Skylake-Client", "features": _ICELAKE},
    "cpu64-rhel5": {"model": "Opteron_G1", "features": {}},
    "cpu64-rhel6": {"model": "kvm64", "features": {"lahf-lm": True}},
    "pentiumpro": {"model": "qemu32", "features": {"pni": False}},
}


def is_host_model(domain: Element) -> bool:
    """Whether libvirt works out model and features when it starts the guest."""
    is_replaced = domain.get("cpu/model") in REPLACED and domain.get("cpu/model/@fallback") != "forbid"
    return is_replaced or domain.get("cpu/@mode") == "host-model" or domain.get("cpu/@match") == "minimum"


def _model(guest: Guest, cpu: Element | None) -> str | None:
    if is_host_model(guest.domain) and (host := guest.host_model()) is not None:
        return str(host["model"])
    mode = cpu.get("@mode") if cpu is not None else None
    if mode in _MODES:
        return _MODES[mode]
    named = cpu.get("model") if cpu is not None else None
    if named:
        return named
    if guest.domain.get("@type") == "kvm" and not guest.arch.startswith(("x86", "i", "s390", "ppc64")):
        return "host"  # KVM of ARM and RISC-V runs no other
    return cpu_model_name(machine_of(guest).cpu)


def _cpu_features(guest: Guest, cpu: Element | None, model: str | None) -> Section:
    found: Section = {}
    if cpu is None:
        return found
    vendor = cpu.get("model/@vendor_id")
    if vendor:
        found["vendor"] = vendor
    migratable = switch(cpu, "@migratable") if guest.is_x86 else None
    if migratable is not None and model in ("host", "max"):
        found["migratable"] = migratable
    elif model == "host" and guest.is_x86:
        found["migratable"] = True  # libvirt says so where the XML does not
    if cpu.get("@deprecated_features") == "off" and guest.is_s390:
        found |= dict.fromkeys(_DEPRECATED, False)
    if cpu.get("model") == model:  # no host-model, whose features are all listed
        removed = removed_features(model, machine_of(guest).name)
        found |= {name: False for name in removed if guest.implies("cpu", "features", name)}
    if is_host_model(guest.domain) and (host := guest.host_model()) is not None:
        found |= host["features"]
    return {**found, **features_of(cpu, (lambda _: None) if model in ("host", "max") else guest.offers)}


def features_of(cpu: Element, offers: Callable[[str], bool | None]) -> dict[str, bool]:
    """The ``<feature>`` elements in QEMU's words; raises InputError.

    An optional one is as ``offers`` says, and left out where that says None.
    """
    found: dict[str, bool] = {}
    for feature in cpu.all("feature"):
        name, policy = feature.get("@name") or "", feature.get("@policy") or "require"
        if policy not in _POLICIES:
            raise InputError(
                f"feature {name}: unknown policy {policy!r}",
                at=feature.position,
                expected=choices(_POLICIES),
                rule="policy",
            )
        if name not in _NO_SWITCH:
            name = FEATURES.get(name, name.replace("_", "-"))
            state = offers(name) if policy == "optional" else _POLICIES[policy]
            if state is not None:
                found[name] = state
    return found


def _cache(_guest: Guest, cpu: Element | None, model: str | None) -> Section:
    cache = cpu.first("cache") if cpu is not None else None
    if cache is None:
        return {}
    mode = cache.get("@mode") or ""
    third = {"emulate": True, "passthrough": False, "disable": False}
    if mode not in third:
        raise InputError(f"unknown cache mode {mode!r}", at=cache.position, expected=choices(third), rule="cache-mode")
    # host-cache-info is a switch of every x86 model, and off by default
    hosts = {"host-cache-info": mode == "passthrough"} if model in ("host", "max") or mode == "passthrough" else {}
    return {**hosts, "l3-cache": third[mode]}


def _phys_bits(_guest: Guest, cpu: Element | None, _model: str | None) -> Section:
    wish = cpu.first("maxphysaddr") if cpu is not None else None
    if wish is None:
        return {}
    if wish.get("@mode") == "emulate":
        bits = number(wish, "@bits")
        return {"phys-bits": bits} if bits is not None else {}
    limit = number(wish, "@limit")
    return {"host-phys-bits": True, **({"host-phys-bits-limit": limit} if limit is not None else {})}


_BOTH = {True: True, False: False}
#: what <features> says of the CPU: path of the switch -> QEMU's property, and its value for what libvirt passes on
SWITCHES: Mapping[str, tuple[str, Mapping[bool, bool]]] = {
    "features/apic/@eoi": ("kvm-pv-eoi", _BOTH),
    "features/pvspinlock/@state": ("kvm-pv-unhalt", _BOTH),
    "features/pmu/@state": ("pmu", _BOTH),
    "features/kvm/hidden/@state": ("kvm", {True: False}),
    "features/kvm/hint-dedicated/@state": ("kvm-hint-dedicated", {True: True}),
    "features/kvm/poll-control/@state": ("kvm-poll-control", {True: True}),
    "features/kvm/pv-ipi/@state": ("kvm-pv-ipi", {False: False}),
}


def _domain_features(guest: Guest, _cpu: Element | None, _model: str | None) -> Section:
    found: Section = {}
    for path, (name, values) in SWITCHES.items():
        value = switch(guest.domain, path)
        if value is not None and value in values:
            found[name] = values[value]
    return found


#: the enlightenments that are a switch, hv-NAME, and the switches inside of them, hv-NAME-INNER
HYPERV: Mapping[str, tuple[str, ...]] = {
    **dict.fromkeys(names("relaxed vapic vpindex runtime synic reset frequencies reenlightenment ipi evmcs avic"), ()),
    **dict.fromkeys(names("emsr_bitmap xmm_input"), ()),
    "stimer": ("direct",),
    "tlbflush": ("direct", "extended"),
}


def enlightenment(*tags: str) -> str:
    """QEMU's name of a switch of <hyperv>: ``hv-stimer-direct``."""
    return "-".join(["hv", *tags]).replace("_", "-")


def _hyperv(guest: Guest, _cpu: Element | None, _model: str | None) -> Section:
    hyperv = guest.domain.first("features/hyperv")
    crash = any(device.tag == "panic" and device.get("@model") == "hyperv" for device in guest.devices)
    found: Section = {"hv-crash": True} if crash else {}
    if hyperv is not None and hyperv.get("@mode") == "passthrough":
        found["hv-passthrough"] = True
        if has_newest(guest):
            return found  # libvirt 12.8 drops what else there is
    for element in hyperv or ():
        tag, state = element.tag, switch(element, "@state")
        if tag == "spinlocks" and state:
            retries = number(element, "@retries")
            found["hv-spinlocks"] = f"0x{retries:x}" if retries is not None else "0xffffffff"
        elif tag == "vendor_id" and state:
            found["hv-vendor-id"] = element.get("@value") or ""
        elif tag in HYPERV and state:
            inner = [name for name in HYPERV[tag] if element.get(f"{name}/@state") == "on"]
            found |= {enlightenment(tag): True, **{enlightenment(tag, name): True for name in inner}}
        elif tag not in (*HYPERV, "spinlocks", "vendor_id"):
            known = choices([*HYPERV, "spinlocks", "vendor_id"])
            raise InputError(f"unknown Hyper-V enlightenment <{tag}>", at=element.position, expected=known, rule="hyperv")
    return found


#: name of a <timer> -> its attribute that is a property of the CPU, and that property
TIMERS = {
    "kvmclock": ("present", "kvmclock"),
    "hypervclock": ("present", "hv-time"),
    "tsc": ("frequency", "tsc-frequency"),
}


def _timers(guest: Guest, _cpu: Element | None, _model: str | None) -> Section:
    found: Section = {}
    for timer in guest.domain.all("clock/timer"):
        name, present = timer.get("@name") or "", switch(timer, "@present")
        attribute, feature = TIMERS.get(name, ("", ""))
        value = present if attribute == "present" else number(timer, f"@{attribute}") if attribute else None
        if value is not None:
            found[feature] = value
        elif name == "armvtimer" and timer.get("@tickpolicy") == "discard":
            found["kvm-no-adjvtime"] = True
    return found
