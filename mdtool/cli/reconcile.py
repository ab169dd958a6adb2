"""``mdtool reconcile GUEST.xml GUEST.yaml``"""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.cli.output import coloured, say, warn_all

if TYPE_CHECKING:
    from mdtool.guest.model import Guest
    from mdtool.tree import Tree

EXAMPLE = """\
example:
  mdtool reconcile web01.xml web01.yaml --dry-run    show the plan, change nothing (exit 1 where something would change)
  mdtool reconcile web01.xml web01.yaml              carry it out; makes web01.yaml where there is none
  mdtool reconcile web01.xml web01.yaml --write-xml web01.xml     and give the XML every address, for libvirt
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST.xml", help="the guest XML as it should be (libvirt domain XML)")
    parser.add_argument("description", metavar="GUEST.yaml", help="the machine description; made where it does not exist")
    parser.add_argument("-o", "--output", metavar="OUT", help="write the new description here and leave GUEST.yaml alone")
    parser.add_argument("--dry-run", action="store_true", help="only show the plan; exit 1 where something would change")
    parser.add_argument("--json", action="store_true", help="the plan as JSON on stdout")
    parser.add_argument("--prefer", choices=("xml", "description"), help="which one wins where both changed")
    parser.add_argument("--forget", action="store_true", help="clear the addresses kept for removed devices")
    parser.add_argument("--prune", action="store_true", help="remove ports and controllers that nothing uses any more")
    add_xml(parser)
    parser.add_argument("--strict", action="store_true", help="what the XML says and mdtool leaves out is an error")
    parser.add_argument("-v", "--verbose", action="store_true", help="show kept nodes as well")


def add_xml(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--write-xml", metavar="FILE", help="write the XML with every address filled in; may be GUEST.xml")
    says = "in that XML: leave aliases alone, write our ids, or give every device one that libvirt keeps (ua-...)"
    parser.add_argument("--aliases", choices=("kept", "own", "ua"), default="kept", help=says)


def run(args: argparse.Namespace) -> int:
    from mdtool.document import document_from_file, yaml_from_tree
    from mdtool.edit import rewritten
    from mdtool.files import locked, write_file
    from mdtool.guest.devices import guest_from_bytes
    from mdtool.guest.xml import bytes_from_file
    from mdtool.reconcile import Options, reconcile
    from mdtool.reconcile.plan import json_from_plan

    source = bytes_from_file(args.guest)
    guest = guest_from_bytes(source, args.guest)
    target = args.output or args.description
    with locked(target):
        old = document_from_file(args.description) if Path(args.description).exists() else None
        options = Options(prefer=args.prefer, forget=args.forget, prune=args.prune, strict=args.strict)
        result = reconcile(guest, old.tree if old else None, options)
        warn_all(result.warnings)
        tree, xml = result.tree, None
        if args.write_xml:
            xml = _xml_with_places(source, guest, tree, args.aliases)
            if os.path.realpath(args.write_xml) == os.path.realpath(args.guest):
                tree = reconcile(guest_from_bytes(xml.encode(), args.guest), tree, options).tree
        text = rewritten(old, tree) if old else yaml_from_tree(tree)
        if not args.dry_run and (old is None or args.output or text != old.text):
            write_file(target, text)
        if not args.dry_run and xml is not None:
            write_file(args.write_xml, xml)
    if args.json:
        print(json.dumps(json_from_plan(result.plan), indent=2))
    else:
        print(result.plan.text(coloured, kept=args.verbose))
    if args.dry_run:
        return 1 if result.plan else 0
    if old is None:
        say(f"wrote {target}")
    return 0


def _xml_with_places(source: bytes, guest: Guest, tree: Tree, aliases: str) -> str:
    from mdtool.errors import Report
    from mdtool.guest.devices import wanted_from_guest
    from mdtool.guest.write import xml_with_places

    return xml_with_places(source, guest, tree, wanted_from_guest(guest, Report()), aliases=aliases)
