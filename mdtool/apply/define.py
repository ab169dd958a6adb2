"""A revision given to libvirt for the guest's next start: the XML with every address, and what libvirt cannot express."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mdtool.errors import MdtoolError
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.xml import element_from_bytes
from mdtool.launch import libvirt
from mdtool.launch.prepare import wanted_by
from mdtool.machine.tree import SECTIONS
from mdtool.reconcile import reconcile
from mdtool.reconcile.plan import Action
from mdtool.records import replace
from mdtool.text import pattern

if TYPE_CHECKING:
    from mdtool.apply.revise import Revision
    from mdtool.guest.model import Guest
    from mdtool.launch.start import Say
    from mdtool.machine.tree import Tree
    from mdtool.qemu.virsh import Virsh


def xml_to_define(guest: Guest, tree: Tree, uuid: str | None = None) -> str:
    """What libvirt keeps of the machine; ``uuid`` is the guest's where its XML does not say it."""
    wanted = wanted_by(guest, tree)
    made: str = libvirt.xml_to_define(guest, tree, wanted, uuid)(libvirt.manual_overrides(tree, wanted))
    return made


def check(virsh: Virsh, name: str) -> str | None:
    """libvirt's state of a guest, None where it has none of that name.

    Raises ConflictError where a managed save would be restored into other hardware.
    """
    if not virsh.knows(name):
        return None
    domain = virsh.named(name)
    if virsh.facts(domain).get("Managed save") == "yes":
        from mdtool.launch.run import managed_save

        raise managed_save(name)
    return virsh.state(domain)


def define(revision: Revision, virsh: Virsh, say: Say) -> Tree:
    """Give libvirt the new machine; it keeps its secrets of the old one, and ``say`` takes what it loses and adds.

    Returns the machine that libvirt will start.  Raises QemuError with libvirt's words where it refuses; it then has the
    old one.
    """
    guest = revision.guest
    known = revision.tree.guest.get("uuid")
    if known is None and virsh.knows(guest.name):
        known = element_from_bytes(virsh.xml(virsh.named(guest.name), "--inactive").encode(), "libvirt").get("uuid")
    made = xml_to_define(guest, revision.tree, str(known) if known else None)
    libvirt.define_with_secrets(virsh, guest.name, made, say)
    return _as_kept(revision, virsh, say)


def _as_kept(revision: Revision, virsh: Virsh, say: Say) -> Tree:
    """The machine with the settings that libvirt adds by itself: since 9.1 the watchdog of every q35 chipset runs."""
    kept = guest_from_bytes(virsh.public_xml(virsh.named(revision.guest.name)).encode(), "libvirt")
    found = reconcile(kept, revision.tree)
    added = [step for step in found.plan.steps if step.name in SECTIONS and step.action is Action.MODIFY]
    for step in added:
        changes = "; ".join(map(str, step.changes))
        say(f"warning: libvirt changes {step.name} by itself, which the description now has: {changes}")
    return replace(revision.tree, **{step.name: getattr(found.tree, step.name) for step in added})


def steps_between(guest: Guest, tree: Tree) -> list[str]:
    """What guest XML makes otherwise than ``tree``: the plan to get from one to the other, a line a step."""
    plan = reconcile(guest, tree).plan
    return [f"{step.action.value} {step.name}" for step in plan.changes]


def differences(xml: str, tree: Tree) -> list[str]:
    """The same of libvirt's XML of a guest; what is wrong with it where it cannot be read."""
    try:
        return steps_between(guest_from_bytes(xml.encode(), "libvirt"), tree)
    except MdtoolError as error:
        return [error.what]


#: what libvirt never fills in by itself, so that it went out of the guest XML where only libvirt has it
_NEVER_FILLED_IN = pattern(
    r"devices/.*/driver@(?!name|type)|devices/[a-z]+/(bandwidth|encryption|filterref|iotune|link|mtu|shareable|tune|vlan)\b"
    r"|(blkiotune|cputune|iothreads|memoryBacking|numatune)\b"
)

#: what libvirt does not show, what stands for it in a file, and the name, which the plan has
_SECRET = pattern("@passwd=|/cookies/|=$|^name=")


def undefined(guest: Guest, tree: Tree, kept: str) -> list[str]:
    """Where libvirt's definition says otherwise than guest XML, the host side included: paths, without their values.

    ``tree`` is the guest's machine, and ``kept`` the definition without its secrets.
    """
    made = xml_to_define(guest, tree).encode()
    gone = [fact for fact in libvirt.dropped(kept.encode(), made) if _NEVER_FILLED_IN.match(fact)]
    facts = [fact for fact in libvirt.dropped(made, kept.encode()) if not _SECRET.search(fact)]
    return sorted({fact.partition("=")[0] for fact in facts + gone})


#: of a guest that runs: the ports that were free, and an empty drive has no format
_CHOSEN_AT_START = pattern("devices/graphics@(port|tlsPort|websocket)=|devices/disk/driver@(name|type)=")


def not_running(kept: str, live: str) -> list[str]:
    """The same of the devices of a guest that runs, against what its next start has."""
    facts = libvirt.dropped(kept.encode(), live.encode())
    found = {fact.partition("=")[0] for fact in facts if not _CHOSEN_AT_START.match(fact)}
    return sorted(fact for fact in found if fact.startswith("devices/"))
