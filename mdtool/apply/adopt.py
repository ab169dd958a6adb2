"""Guests of a libvirt host described in a folder: their XML and their machines."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from mdtool.apply.define import differences, undefined
from mdtool.apply.status import files_of, names_in, written_mark
from mdtool.cache import known_hash, remember_hash
from mdtool.errors import MdtoolError, Report
from mdtool.files import locked, write_file
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.model import Guest
from mdtool.machine.document import document_from_file
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Tree
from mdtool.machine.update import updated
from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.virsh import RUNS, Virsh
from mdtool.reconcile import linked, reconcile
from mdtool.review.plan import summary
from mdtool.sources import Access, at_home, rehearsed, tree_from_source
from mdtool.text import as_command


def adopted(name: str, folder: Path, connect: str | None = None) -> str:
    """Write the XML that libvirt keeps of a guest and the description of its machine; what became of it, in a few words.

    A guest that runs is dumped, another one rehearsed.  A description that is there is updated in place, and XML that
    somebody edited and did not reconcile is left alone.  Secrets of the XML (a VNC password) stay with libvirt.
    """
    virsh = Virsh(connect)
    domain = virsh.named(name)
    xml_file, yaml_file = files_of(name, folder)
    xml = virsh.xml_for_file(domain)
    running = virsh.state(domain) in RUNS
    with locked(yaml_file):
        old = document_from_file(yaml_file) if yaml_file.exists() else None
        if old is not None and xml_file.exists():
            guest, kept = guest_from_bytes(xml_file.read_bytes(), str(xml_file)), virsh.public_xml(domain)
            other = undefined(guest, old.tree, kept)
            # where libvirt's was edited and not this file, the file is the one that was in step
            if reconcile(guest, old.tree).plan or (other and not known_hash(written_mark(guest.source))):
                command = as_command("apply", xml_file, yaml_file, "--source", f"libvirt:{name}")
                return f"{xml_file} was edited, and is left alone: {command}"
            if not other and not differences(kept, old.tree):
                xml = guest.source.decode()  # the same in a person's own words
        guest = guest_from_bytes(xml.encode(), f"libvirt:{name}")
        tree = _machine(guest, name, running=running, connect=connect)
        if old is not None:
            tree = updated(old.tree, tree)
        result = reconcile(guest, tree)
        if not result.plan:
            tree = result.tree
        text = rewritten(old, tree) if old is not None else yaml_from_tree(tree)
        before = [path.read_bytes() if path.exists() else b"" for path in (xml_file, yaml_file)]
        write_file(xml_file, xml)
        write_file(yaml_file, text)
        remember_hash(written_mark(xml.encode()))
    if result.plan:
        return f"{'dumped' if running else 'rehearsed'}; its next start changes it: {summary(result.plan)}"
    if before == [xml.encode(), text.encode()]:
        return "as it was"
    return "dumped" if running else "rehearsed"


def _machine(guest: Guest, name: str, *, running: bool, connect: str | None) -> Tree:
    if not running:
        return rehearsed(at_home(guest, Access()))
    tree = tree_from_source(f"libvirt:{name}", Access(connect))
    report = Report()
    tree = linked(guest, tree, report)
    report.done()
    return tree


def renamed(folder: Path, known: Mapping[str, str]) -> list[tuple[str, str]]:
    """Move the files of guests that have another name in libvirt now; (old, new) of each.

    ``known`` is libvirt's uuid of each name.
    """
    names = {uuid: name for name, uuid in known.items()}
    found = []
    for old in names_in(folder):
        xml_file, yaml_file = files_of(old, folder)
        if old in known or not xml_file.exists() or not yaml_file.exists():
            continue
        with suppress(MdtoolError):
            new = names.get(guest_from_bytes(xml_file.read_bytes(), str(xml_file)).uuid or "")
            if new is not None and not any(path.exists() for path in files_of(new, folder)):
                new_xml, new_yaml = files_of(new, folder)
                yaml_file.rename(new_yaml)  # first: of the XML libvirt has another copy
                xml_file.rename(new_xml)
                found.append((old, new))
    return found
