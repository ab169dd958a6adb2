"""The sections of a description (machine, cpu, memory, ...) merged with what the XML says of them."""

from __future__ import annotations

import re
from collections.abc import Container, Mapping
from typing import Any

from mdtool.errors import ConflictError, Position, Report
from mdtool.guest.model import Guest
from mdtool.guest.platform.cpu import is_host_model
from mdtool.guest.platform.machine import FEATURES
from mdtool.machine.drivers import same_cpu_model
from mdtool.machine.tree import BUILTIN, SECTIONS, Tree
from mdtool.machine.values import nested, same
from mdtool.reconcile.merge import ABSENT, Before, merged, without_defaults
from mdtool.reconcile.plan import Action, Step
from mdtool.records import replace


def merged_sections(
    guest: Guest, tree: Tree, wanted: Mapping[str, Any], prefer: str | None, report: Report
) -> tuple[Tree, list[Step]]:
    """The tree with its sections merged three ways, and the steps that a guest would notice."""
    steps: list[Step] = []
    result: dict[str, Any] = {}
    fresh = not tree.machine
    for name in SECTIONS:
        now = flat(wanted.get(name, {}))
        if name == "machine" and not fresh:
            _keep_machine_type(guest, tree, now, report)
        have = flat(getattr(tree, name))
        applied = flat(tree.applied.get(f"@{name}", {}))
        if name == "cpu" and "model" in have and same_cpu_model(str(now.get("model")), str(have["model"])):
            now["model"] = have["model"]  # another name of it
            wanted = {**wanted, name: nested(now, "\0")}
        if name == "cpu" and "model" not in have and is_host_model(guest.domain) and guest.host_model() is None:
            _warn_of_a_host_s_choice(guest, report)
        if name == "numa" and not tree.applied:
            have = _with_what_only_xml_tells(have, now)
        if name == "cpu" and (plugged := _plugged_cpus(tree)):
            if now.get("vcpus") == have.get("vcpus", 0) + len(plugged):
                now = {**now, "vcpus": have["vcpus"]}  # these were there at the start, and the others are devices
                wanted = {**wanted, name: nested(now, "\0")}
            else:
                what = f"<vcpu> is {now.get('vcpus')}, and {have.get('vcpus')} are described beside {', '.join(plugged)}"
                remedy = "count them in, or remove them from the description"
                report.warn(what, at=position_of(guest, "cpu.vcpus"), remedy=remedy, rule="plugged-cpus")
        if name == "cpu" and applied:
            wanted = {**wanted, name: _without_found_features(guest, now, {*have, *applied}, report)}
            now = flat(wanted[name])
        if not fresh and (quiet := without_defaults(now, applied, have, _DEFAULTS.get(name, {}))) != now:
            now = quiet
            wanted = {**wanted, name: nested(now, "\0")}
        merge = merged(now, Before(applied, have, {}), prefer=prefer, adopting=not tree.applied)
        for conflict in merge.conflicts:
            key = conflict.name.replace("\0", ".")
            what = f"{name}: {key} is {conflict.after} in the XML and {conflict.before} in the description"
            remedy = "say which one is right with --prefer xml or --prefer description"
            at = position_of(guest, f"{name}.{key}")
            report.error(ConflictError(what, at=at, remedy=remedy, rule="section-conflict"))
        result[name] = nested(merge.properties, "\0")
        changes = tuple(
            change._replace(name=change.name.replace("\0", "."))
            for change in merge.changes
            if not fresh and not (change.before is ABSENT and not tree.applied)
        )
        if changes:
            at = position_of(guest, f"{name}.{changes[0].name}")
            notices = any((name, change.name) != ("guest", "name") for change in changes)
            steps.append(Step(Action.MODIFY, name, changes=changes, at=at, hot=None if fresh else False, notices=notices))
    applied_now = {f"@{name}": dict(wanted[name]) for name in SECTIONS if wanted.get(name)}
    return replace(tree, **result, applied=applied_now), steps


def _warn_of_a_host_s_choice(guest: Guest, report: Report) -> None:
    """A CPU of which libvirt works out model and features when it starts the guest: no description says which yet."""
    if guest.domain.get("cpu/@mode") == "host-model":
        what = "<cpu mode='host-model'>: libvirt chooses a model when it starts the guest; described is the host's own CPU"
    else:
        what = "<cpu match='minimum'>: libvirt adds what the host has when the guest starts; described is the model alone"
    remedy = "dump the guest while libvirt runs it, or name the model with match='exact'"
    report.warn(what, at=guest.domain.at("cpu"), remedy=remedy, rule="host-model")


#: keys of a NUMA node that no monitor tells
_HMAT = frozenset({"links", "caches", "initiator"})


def _with_what_only_xml_tells(have: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, Any]:
    """The numa section of a dump, with the latencies that the XML has where the nodes are otherwise the same."""
    rows = [[{k: v for k, v in row.items() if k not in _HMAT} for row in side.get("nodes", ())] for side in (have, now)]
    unknown = not any(_HMAT & row.keys() for row in have.get("nodes", ()))
    return {**have, "nodes": now["nodes"]} if unknown and rows[0] and same(rows[0], rows[1]) else dict(have)


#: what QEMU has where nobody chose: saying it or not is the same machine
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "cpu": {"features\0migratable": True},
    "machine": {
        "properties\0hpet": True,
        "properties\0acpi": True,
        "properties\0vmport": "auto",
        "properties\0smm": "auto",
    },
    "features": {f"globals\0{pm}.disable_s{n}": 0 for pm in ("ICH9-LPC", "PIIX4_PM") for n in (3, 4)},
}


def _plugged_cpus(tree: Tree) -> list[str]:
    """The CPUs that were plugged in, and are devices of the description."""
    return [place.name for place in tree.places if place.node.driver.endswith("-cpu") and place.node.origin != BUILTIN]


def _without_found_features(guest: Guest, now: Mapping[str, Any], known: Container[str], report: Report) -> dict[str, Any]:
    """The cpu section without the features that libvirt found in the running guest and that nobody asked for.

    ``virsh dumpxml`` of a guest that runs (its domain has an id) lists what QEMU made of the CPU, and says check='full'.
    """
    live = guest.domain.get("@id") is not None and guest.domain.get("cpu/@check") == "full"
    found = [key for key in now if live and key.startswith("features\0") and key not in known]
    if found:
        names = ", ".join(key.partition("\0")[2] for key in found)
        what = f"cpu: {names}: libvirt's account of the running guest, and not taken for a wish"
        report.warn(what, at=guest.domain.at("cpu"), rule="live-cpu")
    return nested({key: value for key, value in now.items() if key not in found}, "\0")


def _keep_machine_type(guest: Guest, tree: Tree, now: dict[str, Any], report: Report) -> None:
    """An alias (``q35``) means what it meant when the description was made; another versioned type is a decision."""
    described = tree.machine.get("type")
    if not re.search(r"[-.]\d", guest.machine):
        now.pop("type", None)
        if "type" in flat(tree.applied.get("@machine", {})):
            now["type"] = tree.applied["@machine"]["type"]
        return
    if now.get("type") not in (None, described) and tree.applied.get("@machine", {}).get("type") != now.get("type"):
        what = f"the XML wants machine type {now['type']}, the description has {described}"
        remedy = (
            f"another machine type is other hardware: --rebase-machine {now['type']} --dry-run shows what the guest sees; "
            "or change the XML back"
        )
        report.error(ConflictError(what, at=guest.domain.at("os/type"), remedy=remedy, rule="machine-type"))


#: what a key of a section starts with -> the element that says it; what is dropped stands where its parent stands
_ELEMENTS = {
    **{f"machine.properties.{row.name}": row.path.partition("/@")[0] for row in FEATURES},
    "machine.properties.gic-version": "features/gic",
    "machine.properties.hpet": "clock/timer",
    "machine.properties.iommu": "devices/iommu",
    "machine.properties.nvdimm": "devices/memory",
    "machine.properties": "features",
    "machine": "os/type",
    "cpu.vcpus": "vcpu",
    "cpu.maxcpus": "vcpu",
    "cpu.topology": "cpu/topology",
    "cpu.model": "cpu/model",
    "cpu": "cpu",
    "memory.size": "memory",
    "memory": "maxMemory",
    "numa": "cpu/numa",
    "objects": "memory",
    "firmware": "os/loader",
    "boot": "os",
    "smbios": "sysinfo",
    "features.globals.ICH9-LPC.noreboot": "devices/watchdog",
    "features.globals.ICH9-LPC.disable_s": "pm",
    "features.globals.PIIX4_PM.disable_s": "pm",
    "features.globals.mch": "features/smm/tseg",
    "features.globals.kvm-pit": "clock/timer",
    "features.globals": "devices",
    "features": "sysinfo",
    "clock": "clock",
    "guest.name": "name",
    "guest": "uuid",
}


def position_of(guest: Guest, key: str) -> Position:
    """Where the XML says ``memory.size``, or would say it."""
    path = next((path for prefix, path in _ELEMENTS.items() if key.startswith(prefix)), "")
    while path:
        if (element := guest.domain.first(path)) is not None:
            return element.position
        path = path.rpartition("/")[0]
    return guest.domain.position


def flat(section: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as one, with dotted keys: ``{"topology": {"cores": 2}}`` -> ``{"topology\\0cores": 2}``."""
    found: dict[str, Any] = {}
    for key, value in section.items():
        if isinstance(value, Mapping) and value:
            found |= flat(value, f"{prefix}{key}\0")
        else:
            found[prefix + key] = value
    return found
