"""A revision given to libvirt for the guest's next start: the XML with every address, and what libvirt has no words for."""

from __future__ import annotations

from mdtool.apply.revise import Revision
from mdtool.errors import ConflictError, MdtoolError
from mdtool.guest.model import Guest
from mdtool.guest.xml import element_from_bytes
from mdtool.launch.libvirt import define_with_secrets, manual_overrides, with_uuid, xml_for_libvirt
from mdtool.launch.prepare import wanted_by
from mdtool.launch.start import Say
from mdtool.machine.tree import Tree
from mdtool.qemu.virsh import Virsh


def xml_to_define(guest: Guest, tree: Tree, uuid: str | None = None) -> str:
    """What libvirt keeps of the machine; ``uuid`` is the guest's where its XML does not say it."""
    wanted = wanted_by(guest, tree)
    made = xml_for_libvirt(guest.source, guest, tree, wanted, manual_overrides(tree, wanted))
    return with_uuid(made.encode(), uuid).decode() if guest.uuid is None and uuid else made


def check(virsh: Virsh, name: str) -> str | None:
    """libvirt's state of a guest, None where it has none of that name.

    Raises ConflictError where a managed save would be restored into other hardware.
    """
    if not virsh.knows(name):
        return None
    domain = virsh.named(name)
    if virsh.facts(domain).get("Managed save") == "yes":
        raise ConflictError(
            f"libvirt has a managed save of guest '{name}', which would be restored into other hardware",
            remedy=f"start it, or give the saved state up: virsh managedsave-remove {name}",
            rule="managed-save",
        )
    return virsh.state(domain)


def define(revision: Revision, virsh: Virsh, say: Say) -> None:
    """Give libvirt the new machine; it keeps its secrets of the old one, and ``say`` takes what it loses.

    Raises QemuError with libvirt's words where it refuses; it then has the old one.
    """
    guest = revision.guest
    known = revision.tree.guest.get("uuid")
    if known is None and virsh.knows(guest.name):
        known = element_from_bytes(virsh.xml(virsh.named(guest.name), "--inactive").encode(), "libvirt").get("uuid")
    made = xml_to_define(guest, revision.tree, str(known) if known else None)
    define_with_secrets(virsh, guest.name, made, say)


def steps_between(xml: bytes, tree: Tree, file: str) -> list[str]:
    """What guest XML makes otherwise than ``tree``: the plan to get from one to the other, a line a step."""
    from mdtool.guest.devices import guest_from_bytes
    from mdtool.reconcile import reconcile
    from mdtool.reconcile.plan import Action

    plan = reconcile(guest_from_bytes(xml, file), tree).plan
    return [f"{step.action.value} {step.name}" for step in plan.steps if step.action is not Action.KEEP]


def differences(xml: str, tree: Tree) -> list[str]:
    """The same of libvirt's XML of a guest; what is wrong with it where it cannot be read."""
    try:
        return steps_between(xml.encode(), tree, "libvirt")
    except MdtoolError as error:
        return [error.what]
