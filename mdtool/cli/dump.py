"""mdtool dump: the machine description of what runs."""

from __future__ import annotations

import argparse
import json
import os
from typing import TYPE_CHECKING

from mdtool.cli.options import options
from mdtool.cli.output import say, warn_all
from mdtool.cli.source import MACHINE, XML, access_of, source_arguments
from mdtool.files import STANDARD, locked, write_file
from mdtool.records import replace

if TYPE_CHECKING:
    from mdtool.guest.model import Guest
    from mdtool.machine.tree import Tree

EXAMPLE = """\
example:
  mdtool dump /run/qemu/web01.qmp -o web01.yaml      a QMP socket
  mdtool dump tcp:localhost:4444 --xml web01.xml     link the devices to the XML elements they stand for
  mdtool dump libvirt:web01 --json                   a guest that libvirt runs
  mdtool dump web01.xml                              start the guest paused, without its disks and NICs, and dump that
  mdtool dump start-web01.sh                         the same for a QEMU command line
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", help=MACHINE)
    parser.add_argument("--xml", metavar="GUEST.xml", help=f"link the devices to the elements of this {XML}")
    says = "write there, whole or not at all; a description that is there is updated in place, and keeps its comments"
    options(parser, "--output", help=says)
    options(parser, "--json", help="both documents as JSON: {machine, pins}")
    parser.add_argument("--thorough", action="store_true", help="read every property one by one: slow, the reference")
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.machine.document import document_from_file
    from mdtool.machine.writer import json_from_tree, yaml_from_tree

    target = args.output or STANDARD
    with locked(target):
        old = None
        if not args.json and os.path.isfile(target) and os.path.getsize(target):
            old = document_from_file(target)  # and an error if it is not a description: that is not ours to replace
            warn_all(old.stray)
        tree = _tree(args, old.tree if old else None)
        if args.json:
            text = json.dumps(json_from_tree(tree), indent=1) + "\n"
        elif old is not None:
            from mdtool.machine.edit import rewritten
            from mdtool.machine.update import updated

            tree = updated(old.tree, tree)
            for one in [one for one in old.tree.retired if one not in tree.retired]:
                say(f"{target}: {one.bus} {one.address}, kept for {one.origin}, is taken in this machine")
            text = rewritten(old, tree)
        else:
            text = yaml_from_tree(tree)
        write_file(target, text)
    return 0


def _tree(args: argparse.Namespace, described: Tree | None) -> Tree:
    from mdtool.sources import guest_from_source, tree_from_source

    access = replace(access_of(args), tree=described)
    if args.thorough:
        from mdtool.qemu.read import Method  # else what speaks to QEMU is loaded while that starts

        access = replace(access, way=Method.WALK)
    if not args.xml:
        return tree_from_source(args.source, access)
    from mdtool.errors import Report
    from mdtool.reconcile import linked

    guest = guest_from_source(args.xml, access)
    tree = tree_from_source(args.source, replace(access, arguments=False))  # what is out of reach the XML says
    report = Report()
    tree = linked(guest, tree, report)
    report.done()
    warn_all(report.warnings)
    return _adopted(guest, tree)


def _adopted(guest: Guest, tree: Tree) -> Tree:
    """The dump with what the XML says recorded as applied, where that changes nothing: the next reconcile then has nothing
    to write.  Where it changes something, that is the next reconcile's to say."""
    from mdtool.errors import MdtoolError
    from mdtool.reconcile import reconcile
    from mdtool.reconcile.plan import Action

    try:
        result = reconcile(guest, tree)
    except MdtoolError:
        return tree
    return result.tree if all(step.action is Action.KEEP for step in result.plan.steps) else tree
