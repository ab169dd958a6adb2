"""What libvirt, KubeVirt, CloudStack and oVirt call when a guest starts: XML in, XML or a verdict out.

The protocols, as their documentation has them:

    libvirt     /etc/libvirt/hooks/qemu NAME OPERATION SUB-OPERATION EXTRA, the XML on stdin.  ``prepare begin`` can refuse
                by its exit status and change nothing; at ``migrate`` and ``restore`` stdout replaces the XML.
    kubevirt    onDefineDomain --vmi JSON --domain XML; the XML from stdout is defined.
    cloudstack  the agent's libvirt_vm_xml_transformer: XML to XML.
    ovirt       before_vm_start: the file that the environment's _hook_domxml names is edited in place.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from mdtool.errors import ConflictError, InputError, MdtoolError
from mdtool.files import bytes_from_file
from mdtool.guest.devices import guest_from_bytes
from mdtool.integrations.placement import Placement, Store, placed
from mdtool.launch.hints import hints_from_text, hints_from_tree
from mdtool.records import dataclass
from mdtool.review.plan import text_from_plan
from mdtool.text import as_command, pattern

#: the annotation of a VirtualMachineInstance that holds its hints
ANNOTATION = "mdtool/hints"
_KUBERNETES_NAME = pattern(r"[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?")


@dataclass(frozen=True)
class HookAnswer:
    """A hook's answer: ``output`` for the caller, a line for the ``journal``, and ``advice`` for the person who runs it."""

    output: str = ""
    journal: str = ""
    advice: str = ""


class NotKept(MdtoolError):
    """The store cannot be written (full, read-only); ``output`` is the XML with every device in its place all the same."""

    def __init__(self, error: MdtoolError, output: str) -> None:
        super().__init__(error.what, at=error.at, expected=error.expected, remedy=error.remedy, rule=error.rule)
        self.output = output


def _line(name: str, placement: Placement, *, kept: bool) -> str:
    if placement.old is None:
        return f"{name}: first start, its {len(placement.tree.places)} devices are kept where they are"
    moved = "other devices than before" if placement.differs else "every device in its place"
    return f"{name}: {moved}" + (", store updated" if kept else "")


# --- libvirt ---------------------------------------------------------------------------------------------------------


def libvirt(words: list[str], data: bytes, store: Store) -> HookAnswer:
    """libvirt's hook: a guard at ``prepare begin``, a filter at ``migrate`` and ``restore``, nothing at any other time.

    A guest without a description starts as it is.  Raises ConflictError with the plan where the XML would give the guest
    other hardware than its committed description.
    """
    name, operation, sub = [*words, "", "", ""][:3]
    if (operation, sub) not in (("prepare", "begin"), ("migrate", "begin"), ("restore", "begin")):
        return HookAnswer()
    store.check()
    uuid = None
    with suppress(MdtoolError):  # of a guest that has no description, whatever the XML is
        uuid = guest_from_bytes(data, name).uuid
    found = store.committed(name, uuid)
    if found is None:
        return HookAnswer(journal=f"{name}: no description in the store, started as it is")
    path, committed = found
    try:
        placement = placed(data, f"{name}.xml", committed, described=True, migratable=operation != "prepare")
    except MdtoolError as error:
        if not any(isinstance(one, ConflictError) for one in getattr(error, "errors", [error])):
            raise
        raise _differs(name, path, str(error)) from None
    if placement.differs:
        raise _differs(name, path, text_from_plan(placement.plan))
    filtered = operation != "prepare" and placement.xml.encode() != data
    return HookAnswer(placement.xml if filtered else "", _line(name, placement, kept=False))


def _differs(name: str, path: Path, how: str) -> ConflictError:
    return ConflictError(
        f"{name} would get other hardware than its description says:\n{how}",
        remedy=f"{as_command('reconcile', f'libvirt:{name}', path)}, review and commit; or mend the guest's XML",
        rule="hook-differs",
    )


# --- KubeVirt --------------------------------------------------------------------------------------------------------


def kubevirt(vmi: str, domain: str, store: Store | None, prefer: str | None = None) -> HookAnswer:
    """KubeVirt's onDefineDomain.  What is kept of the guest is in a folder, or in the annotation of the instance.

    An annotation is the owner's to write: where it is missing or old, ``advice`` has the command that writes it.
    """
    namespace, name, annotations = _instance(vmi)
    if store is not None:
        return _kept([f"{namespace}_{name}"], domain.encode(), store, prefer)
    text = annotations.get(ANNOTATION)
    if not isinstance(text, str | None):
        raise InputError(f"the annotation {ANNOTATION} is not text", expected="what mdtool hints export writes", rule="vmi")
    old = hints_from_text(text, f"annotation {ANNOTATION}") if text else None
    placement = placed(domain.encode(), "domain.xml", old, prefer=prefer)
    new = hints_from_tree(placement.tree)
    is_new = old is None or new != hints_from_tree(old)
    return HookAnswer(placement.xml, _line(name, placement, kept=False), _patch(namespace, name, new) if is_new else "")


def _instance(vmi: str) -> tuple[str, str, Mapping[str, Any]]:
    """(namespace, name, annotations) of a VirtualMachineInstance."""
    try:
        metadata = json.loads(vmi)["metadata"]
        namespace, name = metadata.get("namespace", "default"), metadata["name"]
        annotations = metadata.get("annotations") or {}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise InputError(
            "--vmi is not a VirtualMachineInstance", expected='{"metadata": {"name": ...}}', rule="vmi"
        ) from None
    for word in (namespace, name):
        if not isinstance(word, str) or not _KUBERNETES_NAME.fullmatch(word):
            raise InputError("--vmi has a name that Kubernetes does not give", expected="[a-z0-9.-]", rule="vmi")
    return namespace, name, annotations if isinstance(annotations, dict) else {}


def _patch(namespace: str, name: str, hints: str) -> str:
    template = {"spec": {"template": {"metadata": {"annotations": {ANNOTATION: hints}}}}}
    words = ["kubectl", "patch", "vm", name, "-n", namespace, "--type", "merge", "-p", json.dumps(template)]
    return f"the annotation {ANNOTATION} of {namespace}/{name} is missing or old; write it back:\n{shlex.join(words)}"


# --- CloudStack and oVirt --------------------------------------------------------------------------------------------


def cloudstack(data: bytes, store: Store, prefer: str | None = None) -> HookAnswer:
    """CloudStack's XML transformer: XML to XML."""
    return _kept(_names(data, "domain.xml"), data, store, prefer)


def ovirt(path: Path, store: Store, prefer: str | None = None) -> HookAnswer:
    """oVirt's before_vm_start: the XML file is replaced by what ``output`` is."""
    data = bytes_from_file(path)
    return _kept(_names(data, str(path)), data, store, prefer)


def _names(data: bytes, file: str) -> list[str]:
    """What a guest is kept by: its uuid, which stays when it is renamed, and its name."""
    guest = guest_from_bytes(data, file)
    if not guest.domain.get("name"):
        raise InputError("a guest without a name", at=guest.domain.position, expected="<name>", rule="guest-name")
    return [*filter(None, [guest.uuid]), guest.name]


def _kept(names: list[str], data: bytes, store: Store, prefer: str | None) -> HookAnswer:
    """Put the devices where the store has them, and keep where they are now."""
    name = names[-1]
    with store.held(*names) as path:
        placement = placed(data, f"{name}.xml", store.read(path), described=path.suffix == ".yaml", prefer=prefer)
        try:
            changed = store.write(path, placement.tree)
        except MdtoolError as error:
            raise NotKept(error, placement.xml) from None
    return HookAnswer(placement.xml, _line(name, placement, kept=changed))
