"""What is outside of <devices>: the parts of <domain>, and the description's sections that no dump can report."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

from mdtool.commandline.option import Option, split
from mdtool.commandline.placeholder.hostside import HostSide
from mdtool.commandline.sections import TRACKS, of_the_machine, sections_from_options
from mdtool.errors import Report
from mdtool.guest.platform.cpu import FEATURES, TIMERS
from mdtool.importer.flash import flash_options, flash_xml
from mdtool.importer.markup import SWITCH, Keys, on, tag, text, yes
from mdtool.importer.option_list import OptionList
from mdtool.machine.sizes import MIB, bytes_of
from mdtool.machine.tree import Tree
from mdtool.machine.values import number
from mdtool.qemu import arguments
from mdtool.records import replace
from mdtool.text import pattern

Section = dict[str, Any]

# --- the description's sections ------------------------------------------------------------------------------------

#: machine properties that QEMU types OnOffAuto: words, and no switches
_WORDS = frozenset({"smm", "acpi", "pit", "pic", "vmport", "rtas"})
#: of -machine, what another part of the XML or of the description says
_ELSEWHERE = frozenset({
    "type", "accel", "usb", "memory-backend", "pflash0", "pflash1", "dump-guest-core", "mem-merge", "memory-encryption",
    "confidential-guest-support", "pcspk-audiodev", "audiodev",
})  # fmt: skip


def with_sections(tree: Tree, scripted: OptionList, name: str) -> Tree:
    """The dumped tree with what the options say about the guest and no monitor reports."""
    features: Section = dict(tree.features)
    chosen = sections_from_options(scripted.all("global")).get("features", {})
    globals_ = {**chosen.get("globals", {}), **features.get("globals", {})}
    strings = {
        str(bag.get("name")): str(bag["string"]) for option in scripted.all("fw_cfg") if "string" in (bag := option.bag)
    }
    for key, values in (("globals", globals_), ("fw_cfg", strings)):
        if values:
            features[key] = values
    machine: Section = dict(tree.machine)
    if properties := {**machine.get("properties", {}), **machine_properties(scripted)}:
        if properties.get("gic-version") == "max":  # which libvirt cannot express: the host's, or TCG's
            is_kvm = hypervisor(scripted, Report()) == "kvm"
            properties["gic-version"] = "host" if is_kvm else str(tree.machine_pins.get("gic-version", "max"))
        machine["properties"] = arguments.as_reported(properties, tree)
    boot: Section = {"strict": False, **tree.boot}  # libvirt's guests are strict, which is what the XML means by silence
    if "kernel" in scripted:
        boot["kernel"] = True
        if scripted.value("append"):
            boot["append"] = scripted.value("append")
    firmware: Section = {**({"kind": "bios"} if "bios" in scripted else {}), **tree.firmware}
    memory: Section = dict(tree.memory)
    if (most := bytes_of(scripted.bag("m").get("maxmem"), MIB) or 0) > memory.get("size", 0):
        memory["max"] = most  # a placeholder may have less, and without slots no monitor shows it
    return replace(
        tree,
        guest={**tree.guest, "name": name},
        machine=machine,
        cpu=_cpu(tree, scripted),
        memory=memory,
        firmware=firmware,
        numa=arguments.with_sections(tree, {"numa": sections_from_options(scripted.all("numa")).get("numa", {})}).numa,
        boot=boot,
        smbios=sections_from_options(scripted.all("smbios")).get("smbios", {}),
        features=features,
        clock=_clock(scripted.bag("rtc")),
    )


def machine_properties(scripted: OptionList) -> Section:
    bags = [*map(of_the_machine, scripted.all("accel")), scripted.bag("machine")]
    found = {name: _machine_value(name, value) for bag in bags for name, value in bag.items() if name not in _ELSEWHERE}
    if "nographic" in scripted:
        found["graphics"] = False
    return found


def _machine_value(name: str, value: Any) -> Any:
    if str(value) in SWITCH:
        return on(SWITCH[str(value)]) if name in _WORDS else SWITCH[str(value)]
    return value


def cpu_words(scripted: OptionList) -> tuple[str | None, dict[str, Any]]:
    """(model, features by QEMU's name) of -cpu; None if there is none."""
    text_ = scripted.value("cpu")
    if text_ is None:
        return None, {}
    model, *words = [part.replace(",,", ",") for part in split(text_)] or [""]
    found: dict[str, Any] = {}
    for word in words:
        name, equals, value = word.partition("=")
        plain = name.lstrip("+-").replace("_", "-")
        if name.startswith("-"):
            found[plain] = False
        elif not equals or name.startswith("+"):
            found[plain] = True
        else:
            found[plain] = SWITCH.get(value, value)
    return model, found


def _cpu(tree: Tree, scripted: OptionList) -> Section:
    model, features = cpu_words(scripted)
    cpu: Section = {**tree.cpu, **({"model": model} if model in ("host", "max") else {})}
    if not cpu.get("topology"):  # of a board with CPUs of its own; QEMU derives their number
        cpu["topology"] = {"sockets": 1, "cores": cpu.get("maxcpus", cpu.get("vcpus", 1)), "threads": 1}
    return {**cpu, **({"features": features} if features else {})}


def _clock(bag: Mapping[str, Any]) -> Section:
    base = str(bag.get("base", "utc"))
    found: Section = {"base": base if base in ("utc", "localtime") else _epoch(base)}
    rtc = {}
    if bag.get("driftfix") == "slew":
        rtc["tickpolicy"] = "catchup"
    if track := TRACKS.get(str(bag.get("clock"))):
        rtc["track"] = track
    return {**found, **({"timers": {"rtc": rtc}} if rtc else {})}


def _epoch(when: str) -> int | str:
    try:
        return int(datetime.fromisoformat(when).replace(tzinfo=UTC).timestamp())
    except ValueError:
        return "utc"


_TABLES = {"0": "bios", "1": "system", "2": "baseBoard", "3": "chassis"}


def _smbios(scripted: OptionList) -> tuple[Section, str, list[Option]]:
    """(the section, <sysinfo>, what neither of them says)."""
    section: Section = {}
    xml, left = "", []
    for option in scripted.all("smbios"):
        bag = dict(option.bag)
        kind = str(bag.pop("type", ""))
        values = bag.pop("value", None) if kind == "11" else None
        plain = all(isinstance(value, str) for value in bag.values()) and not {"uefi", "path"} & bag.keys()
        if values is not None and not bag:
            strings = values if isinstance(values, list) else [values]
            section["type11"] = [*section.get("type11", []), *strings]
        elif kind in _TABLES and plain and values is None and (kind == "2" or f"type{kind}" not in section):
            if kind == "2":
                section.setdefault("type2", []).append(bag)
            else:
                section[f"type{kind}"] = bag
        else:
            left.append(option)
    for kind, name in _TABLES.items():
        rows = section.get(f"type{kind}", [])
        for row in rows if isinstance(rows, list) else [rows]:
            xml += tag(name, *(text("entry", value, name=key) for key, value in row.items()))
    if "type11" in section:
        xml += tag("oemStrings", *(text("entry", value) for value in section["type11"]))
    return section, tag("sysinfo", xml, type_="smbios") if xml else "", left


# --- the parts of <domain> -----------------------------------------------------------------------------------------

#: switches of QEMU's CPUs that are no features of a CPU to libvirt
_NO_FEATURE = pattern(
    r"hv-.*|kvm|kvm-.*|pmu|x-.*|migratable|vendor|kvmclock|enforce|check|host-.*|l3-cache|legacy-cache|fill-mtrr-mask"
    r"|tcg-cpuid|lmce|vmware-.*|xen-.*|cpuid-0xb|full-cpuid-auto-level|start-powered-off|aarch64|sve\d+|sme\d+|pauth.*|min|max"
)


def cpu(scripted: OptionList, tree: Tree) -> str:
    topology = tree.cpu.get("topology", {})
    shape = {level: topology[level] for level in ("sockets", "dies", "cores", "threads") if level in topology}
    count = tree.cpu.get("maxcpus", tree.cpu.get("vcpus", 1))
    product = 1
    for value in shape.values():
        product *= value
    inner = tag("topology", **shape) if shape and product == count and "sockets" in shape else ""
    cells = "".join(_cell(node, tree) for node in tree.numa.get("nodes", ()))
    numa = tag("numa", cells) if cells else ""
    model, features = cpu_words(scripted)
    libvirts = {qemus: name for name, qemus in FEATURES.items()}
    switches = "".join(
        tag("feature", policy="require" if value else "disable", name=libvirts.get(name, name))
        for name, value in features.items()
        if isinstance(value, bool) and not _NO_FEATURE.fullmatch(name)
    )
    if model is None:
        return tag("cpu", inner, numa) if inner or numa else ""
    if model in ("host", "max"):
        mode = "host-passthrough" if model == "host" else "maximum"
        migratable = on(features.get("migratable")) if isinstance(features.get("migratable"), bool) else None
        return tag("cpu", inner, switches, numa, mode=mode, migratable=migratable)
    named = text("model", model, fallback="forbid", vendor_id=features.get("vendor"))
    return tag("cpu", named, inner, switches, numa, mode="custom", match="exact", check="none")


def _cell(node: Mapping[str, Any], tree: Tree) -> str:
    rows = [row for row in tree.numa.get("distances", ()) if row.get("src") == node["id"]]
    distances = tag("distances", *(tag("sibling", id=row["dst"], value=row["val"]) for row in rows)) if rows else ""
    return tag("cell", distances, id=node["id"], cpus=node.get("cpus"), memory=node.get("memory", 0) // 1024, unit="KiB")


def clock(scripted: OptionList, tree: Tree) -> str:
    section = tree.clock
    base = section.get("base", "utc")
    timers = tag("timer", name="rtc", **section["timers"]["rtc"]) if section.get("timers", {}).get("rtc") else ""
    if tree.machine.get("properties", {}).get("hpet") is False:
        timers += tag("timer", name="hpet", present="no")
    _, wishes = cpu_words(scripted)
    for name, (attribute, feature) in TIMERS.items():
        if (value := wishes.get(feature)) is not None:
            timers += tag("timer", name=name, **{attribute: yes(value) if isinstance(value, bool) else number(value)})
    if wishes.get("kvm-no-adjvtime") is True:
        timers += tag("timer", name="armvtimer", tickpolicy="discard")
    if isinstance(base, int):
        return tag("clock", timers, offset="absolute", start=base)
    return tag("clock", timers, offset=base)


def booting(
    scripted: OptionList, tree: Tree, host: HostSide, absolute: Callable[[str], str], report: Report, *, has_serial: bool
) -> tuple[str, bool]:
    """(the children of <os> after <type>, whether flash memory holds the firmware)."""
    arch = str(tree.machine["arch"])
    flash, options = flash_xml(scripted, host, absolute, report), flash_options(scripted, host, absolute)
    inner = flash
    bios = scripted.value("bios")
    if not flash and not options and bios and not named_firmware(scripted, host):
        inner += text("loader", absolute(str(bios)), type_="rom", readonly="yes")
    for name, element in (("kernel", "kernel"), ("initrd", "initrd"), ("append", "cmdline"), ("dtb", "dtb")):
        value = scripted.value(name)
        if value and not ("kernel" not in scripted and name in ("initrd", "append")):
            inner += text(element, value if name == "append" else absolute(value))
    if (menu := tree.boot.get("menu")) is not None:
        inner += tag("bootmenu", enable=yes(bool(menu)), timeout=tree.boot.get("splash-time"))
    if "nographic" in scripted and has_serial and arch in ("x86_64", "i386"):
        inner += tag("bios", useserial="yes")
    elif (timeout := tree.boot.get("reboot-timeout")) is not None:
        inner += tag("bios", rebootTimeout=timeout)
    if _smbios(scripted)[1]:
        inner += tag("smbios", mode="sysinfo")
    return inner, bool(flash or options)


def named_firmware(scripted: OptionList, host: HostSide) -> list[Option]:
    """``-bios NAME`` of a file in QEMU's own folders, or of a word (``none``): it stays an option."""
    return [one for one in scripted.all("bios")[-1:] if "/" not in (one.value or "") and host.file(one.value or "") is None]


def sysinfo(scripted: OptionList, absolute: Callable[[str], str]) -> tuple[str, list[Option]]:
    """(<sysinfo>, the options that it does not say)."""
    _, xml, left = _smbios(scripted)
    entries = ""
    for option in scripted.all("fw_cfg"):
        keys = Keys(option.bag)
        name, string, file = keys.take("name"), keys.take("string"), keys.take("file")
        if keys.left or name is None:
            left.append(option)
        elif file is not None:
            entries += tag("entry", name=name, file=absolute(file))
        else:
            entries += text("entry", string, name=name)
    return xml + (tag("sysinfo", entries, type_="fwcfg") if entries else ""), left


def memory(scripted: OptionList, tree: Tree, host: HostSide, plugged: int, report: Report) -> str:
    """<memory>, <maxMemory> and <memoryBacking>; ``plugged`` bytes are in memory devices, which libvirt counts in."""
    size = tree.memory.get("size", 128 << 20)
    dump = on(scripted.bag("machine").get("dump-guest-core") == "on" or None)
    found = f"  {text('memory', size + plugged, unit='b', dumpCore=dump)}\n"
    if "max" in tree.memory:
        found = f"  {text('maxMemory', tree.memory['max'], slots=tree.memory.get('slots'), unit='b')}\n" + found
    inner = _backing(scripted, host, report)
    if scripted.bag("machine").get("mem-merge") == "off":
        inner += tag("nosharepages")
    return found + (f"  {tag('memoryBacking', inner)}\n" if inner else "")


_PAGES = pattern(r"/dev/hugepages(?:(\d+)([GM]))?(/.*)?|/hugetlbfs.*|/.*/hugepages.*")


def _backing(scripted: OptionList, host: HostSide, report: Report) -> str:
    names = {scripted.bag("machine").get("memory-backend"), *(o.bag.get("memdev") for o in scripted.all("numa"))} - {None}
    objects = [host.objects[str(name)] for name in names if str(name) in host.objects]
    keys, option = Keys(objects[0].bag if objects else {}), objects[0].option if objects else None
    for name in ("id", "size", "policy", "host-nodes"):
        keys.take(name)
    kind = str(keys.take("qom-type", "")).removeprefix("memory-backend-")
    path = keys.take("mem-path")
    if (given := next(iter(scripted.all("mem-path")), None)) is not None:
        path, option, kind = given.value, given, "file"
    inner = ""
    if path and (match := _PAGES.fullmatch(str(path))):
        page = tag("page", size=match[1], unit=match[2]) if match[1] else ""
        inner += tag("hugepages", page)
    elif kind in ("file", "memfd"):
        inner += tag("source", type_=kind)
        if kind == "file" and str(path) != "/dev/shm" and option is not None:
            what = f"-{option.name}: the guest's memory is in a file of /dev/shm from now on, not in {path}"
            report.warn(what, at=option.position, rule="memory-path")
    shared = keys.switch("share")
    inner += tag("access", mode="shared" if shared else "private") if shared is not None else ""
    if keys.switch("prealloc", False) or "mem-prealloc" in scripted:
        inner += tag("allocation", mode="immediate")
    if keys.left and option is not None:
        left = ", ".join(keys.left)
        report.warn(f"-{option.name}: {left}: not carried over", at=option.position, rule="option-lost")
    return inner


def event_actions(scripted: OptionList) -> tuple[str, str, list[Option]]:
    """(<on_reboot>, the watchdog's action, the options that neither says)."""
    watchdog = scripted.value("watchdog-action") or "reset"
    left: list[Option] = scripted.all("no-shutdown")
    for option in scripted.all("action"):
        bag = option.bag
        watchdog = str(bag.pop("watchdog", watchdog))
        if bag:
            left.append(option.with_bag(bag))
    return ("  <on_reboot>destroy</on_reboot>\n" if "no-reboot" in scripted else ""), watchdog, left


def hypervisor(scripted: OptionList, report: Report) -> str:
    """<domain type>"""
    wishes = [name for option in scripted.all("accel") for name in [str(option.bag.get("accel"))]]
    option = next(iter(scripted.all("accel", "machine", "enable-kvm")), None)
    if "accel" in scripted.bag("machine"):
        wishes += str(scripted.bag("machine")["accel"]).split(":")
    if "enable-kvm" in scripted:
        wishes.insert(0, "kvm")
    if not wishes:
        return "qemu"
    if len(set(wishes)) > 1 and "kvm" in wishes:
        what = f"accelerators {', '.join(dict.fromkeys(wishes))}: the XML has one, and it is KVM"
        remedy = "<domain type='qemu'> runs the guest without"
        report.warn(what, at=option.position if option else None, remedy=remedy, rule="accel")
    for given in scripted.all("accel"):
        more = [key for key in given.bag if key not in ("accel", *of_the_machine(given))]
        if more:
            report.warn(f"-accel: {', '.join(more)}: not carried over", at=given.position, rule="option-lost")
    return "kvm" if "kvm" in wishes else "qemu"


def name_of(scripted: OptionList, absent: str, report: Report) -> str:
    bag = scripted.bag("name")
    if "process" in bag:
        option = scripted.all("name")[-1]
        report.warn("-name: process: not carried over", at=option.position, remedy="ps shows -name", rule="option-lost")
    return re.sub(r"[/\n]", "_", str(bag.get("guest", absent))) or absent
