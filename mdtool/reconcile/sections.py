"""The sections of a description (machine, cpu, memory, ...) merged with what the XML says of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mdtool.errors import ConflictError, Position, Report
from mdtool.guest.model import Guest
from mdtool.guest.platform.cpu import is_host_model, plugged_cpus
from mdtool.guest.platform.machine import FEATURES
from mdtool.machine.drivers import same_cpu_model
from mdtool.machine.machines import is_other_board, is_version
from mdtool.machine.roles import REMEDY, credentials
from mdtool.machine.tree import ARGUMENTS, BUILTIN, SECTIONS, Tree
from mdtool.machine.values import nested, same
from mdtool.reconcile.merge import ABSENT, Before, merged, without_defaults
from mdtool.reconcile.plan import Action, Step
from mdtool.records import NamedTuple, replace


class _Sides(NamedTuple):
    """One section, flat: what the XML says ``now``, what the description ``has``, what was last ``applied``."""

    now: Mapping[str, Any]
    has: Mapping[str, Any]
    applied: Mapping[str, Any]


def merged_sections(
    guest: Guest, tree: Tree, wanted: Mapping[str, Any], prefer: str | None, report: Report
) -> tuple[Tree, list[Step]]:
    """The tree with its sections merged three ways, and the steps that a guest would notice."""
    steps: list[Step] = []
    result: dict[str, Any] = {}
    recorded: dict[str, Any] = {}
    fresh = not tree.machine
    for name in SECTIONS:
        sides = _Sides(flat(wanted.get(name, {})), flat(getattr(tree, name)), flat(tree.applied.get(f"@{name}", {})))
        for rule in _RULES.get(name, ()):
            sides = rule(guest, tree, sides, report)
        now, has, applied = sides
        now = now if fresh else without_defaults(now, applied, has, _DEFAULTS.get(name, {}))
        merge = merged(now, Before(applied, has, {}), prefer=prefer, adopting=not tree.applied)
        for conflict in merge.conflicts:
            key = conflict.name.replace("\0", ".")
            what = f"{name}: {key} is {conflict.after} in the XML and {conflict.before} in the description"
            remedy = "say which one is right with --prefer xml or --prefer description"
            at = position_of(guest, f"{name}.{key}")
            report.error(ConflictError(what, at=at, remedy=remedy, rule="section-conflict"))
        result[name] = nested(merge.properties, "\0")
        if now:
            recorded[f"@{name}"] = nested(now, "\0")
        changes = tuple(
            change._replace(name=change.name.replace("\0", "."))
            for change in merge.changes
            if not fresh and not (change.before is ABSENT and not tree.applied)
        )
        if changes:
            at = position_of(guest, f"{name}.{changes[0].name}")
            notices = any((name, change.name) != ("guest", "name") for change in changes)
            steps.append(Step(Action.MODIFY, name, changes=changes, at=at, hot=False, notices=notices))
    merged_tree = replace(tree, **result, applied=recorded)
    known = {what for _, _, what in credentials(tree)}
    for section, _, what in credentials(merged_tree):
        if what not in known:
            report.warn(what, at=position_of(guest, section), remedy=REMEDY, rule="credential")
    return merged_tree, steps


# --- rules of single sections, before the merge --------------------------------------------------------------------


def _keep_machine_type(guest: Guest, _tree: Tree, sides: _Sides, report: Report) -> _Sides:
    """An alias (``q35``) means what it meant when the description was made; another versioned type is a decision."""
    wanted, applied, described = sides.now.get("type"), sides.applied.get("type"), sides.has.get("type")
    if described is None:
        return sides
    if not is_version(guest.machine) and not is_other_board(guest.machine, str(described), guest.arch):
        return sides._replace(now={**sides.now, "type": described if applied is None else applied})
    if wanted not in (None, described, applied):
        what = f"the XML wants machine type {wanted}, the description has {described}"
        remedy = (
            f"another machine type is other hardware: --rebase-machine {wanted} --dry-run shows what the guest sees; "
            "or change the XML back"
        )
        report.error(ConflictError(what, at=guest.domain.at("os/type"), remedy=remedy, rule="machine-type"))
    return sides


def _keep_uuid(_guest: Guest, _tree: Tree, sides: _Sides, _report: Report) -> _Sides:
    """A person's own file may have none: libvirt drew one when the guest was defined."""
    return sides._replace(now={"uuid": sides.applied["uuid"], **sides.now}) if "uuid" in sides.applied else sides


def _keep_model_name(_guest: Guest, _tree: Tree, sides: _Sides, _report: Report) -> _Sides:
    """A CPU model has several names: the description's stays."""
    now, has = sides.now, sides.has
    if "model" in has and same_cpu_model(str(now.get("model")), str(has["model"])):
        return sides._replace(now={**now, "model": has["model"]})
    return sides


def _warn_of_host_model(guest: Guest, _tree: Tree, sides: _Sides, report: Report) -> _Sides:
    """A CPU whose model and features libvirt chooses when it starts the guest: no description has them yet."""
    if "model" in sides.has or not is_host_model(guest.domain) or guest.host_model() is not None:
        return sides
    if guest.domain.get("cpu/@mode") == "host-model":
        what = "<cpu mode='host-model'>: libvirt chooses a model at the guest's start; the description has the host's CPU"
    else:
        what = "<cpu match='minimum'>: libvirt adds features of the host at the start; the description has the model alone"
    remedy = "dump the guest while libvirt runs it, or name the model with match='exact'"
    report.warn(what, at=guest.domain.at("cpu"), remedy=remedy, rule="host-model")
    return sides


def _without_plugged_cpus(guest: Guest, tree: Tree, sides: _Sides, report: Report) -> _Sides:
    """CPUs that were plugged in are devices of the description: the section counts those that were there at the start."""
    cpus = [place for place in tree.places if place.node.driver.endswith("-cpu") and place.node.origin != BUILTIN]
    asked = {cpu.id for cpu in plugged_cpus(guest)} if cpus else ()
    plugged = [place.name for place in cpus if place.node.id not in asked]
    if not plugged:
        return sides
    wanted, described = sides.now.get("vcpus"), sides.has.get("vcpus")
    if wanted == (described or 0) + len(plugged):
        return sides._replace(now={**sides.now, "vcpus": described})
    what = f"<vcpu> is {wanted}, but the description has {described} beside {', '.join(plugged)}"
    remedy = "count them in, or remove them from the description"
    report.warn(what, at=position_of(guest, "cpu.vcpus"), remedy=remedy, rule="plugged-cpus")
    return sides


def _without_found_features(guest: Guest, tree: Tree, sides: _Sides, report: Report) -> _Sides:
    """Features that libvirt found in the running guest, and that the XML did not ask for, are not requested.

    ``virsh dumpxml`` of a guest that runs (its domain has an id) lists what QEMU made of the CPU, and says check='full'.
    What was asked for is known of an earlier XML, or of QEMU's arguments; where a monitor alone was asked, all of them are
    the description's, as if added by hand: the XML of the next start may leave them out.
    """
    if guest.domain.get("@id") is None or guest.domain.get("cpu/@check") != "full":
        return sides
    features = {key: value for key, value in sides.now.items() if key.startswith("features\0")}
    now = {key: value for key, value in sides.now.items() if key not in features}
    if not sides.applied and ARGUMENTS not in tree.source:
        return sides if not tree.source else sides._replace(now=now, has={**features, **sides.has})
    asked = sides.applied or sides.has
    has = {**sides.has, **asked}
    found = [key for key, value in features.items() if key not in has or not same(has[key], value)]
    if found:
        names = ", ".join(key.partition("\0")[2] for key in found)
        what = f"cpu: {names}: what libvirt reports of the running guest, not a request: ignored"
        report.warn(what, at=guest.domain.at("cpu"), rule="live-cpu")
    return sides._replace(now=now | {key: asked[key] for key in features if key in asked})  # which QEMU may not have


#: keys of a NUMA node that no monitor reports
_HMAT = frozenset({"links", "caches", "initiator"})


def _with_latencies(_guest: Guest, tree: Tree, sides: _Sides, _report: Report) -> _Sides:
    """The NUMA nodes of a dump have the latencies that the XML gives, where they are otherwise the same."""
    now, has = sides.now.get("nodes", ()), sides.has.get("nodes", ())
    bare = [[{key: value for key, value in row.items() if key not in _HMAT} for row in rows] for rows in (has, now)]
    known = any(_HMAT & row.keys() for row in has)
    if tree.applied or known or not has or not same(*bare):
        return sides
    return sides._replace(has={**sides.has, "nodes": now})


_Rule = Callable[[Guest, Tree, _Sides, Report], _Sides]

_RULES: Mapping[str, tuple[_Rule, ...]] = {
    "guest": (_keep_uuid,),
    "machine": (_keep_machine_type,),
    "cpu": (_keep_model_name, _warn_of_host_model, _without_plugged_cpus, _without_found_features),
    "numa": (_with_latencies,),
}

#: QEMU's defaults: giving them or not is the same machine
_DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "cpu": {
        "features\0migratable": True,
        "features\0kvm-hint-dedicated": False,
        "features\0kvm-poll-control": False,
        "features\0kvm-pv-ipi": True,
    },
    "machine": {
        "properties\0hpet": True,
        "properties\0acpi": True,
        "properties\0vmport": "auto",
        "properties\0smm": "auto",
    },
    "features": {f"globals\0{pm}.disable_s{n}": 0 for pm in ("ICH9-LPC", "PIIX4_PM") for n in (3, 4)},
}


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
