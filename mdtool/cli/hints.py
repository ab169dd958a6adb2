"""``mdtool hints export GUEST.yaml``, ``mdtool hints apply FILE GUEST.xml``"""

from __future__ import annotations

import argparse
import os

from mdtool.cli.options import options, output_arguments
from mdtool.cli.source import EACH, MACHINE, XML, Guests, access_of, source_arguments

EXAMPLE = """\
example:
  mdtool hints export web01.yaml -o web01.hints         keep the addresses, and nothing else, beside the guest
  mdtool hints apply web01.hints - <fresh.xml >web01.xml   put them into XML that has none
  mdtool hints apply web01.hints fresh.xml --update     and keep what the guest is now in web01.hints
  mdtool launch fresh.xml --hints web01.hints           start such a guest
  mdtool hints export guests/ -o hints/                 every description of a folder
"""
GUESTS = Guests(EACH, ("description",), {"output": ".hints"})


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    export = actions.add_parser("export", help="write the addresses of a description as an opaque file")
    export.add_argument("description", metavar="SOURCE", nargs="+", help=f"{MACHINE}; folders of descriptions")
    options(export, "--output")
    source_arguments(export)
    apply = actions.add_parser("apply", help="put the addresses of a hints file into guest XML")
    apply.add_argument("hints", metavar="FILE", help="the hints; with --update made where there are none yet")
    apply.add_argument("guest", metavar="GUEST.xml", help=XML)
    options(apply, "--output", "--prefer")
    apply.add_argument("--update", action="store_true", help="rewrite FILE with what the guest is now")
    source_arguments(apply)
    for action in (export, apply):
        output_arguments(action)


def run(args: argparse.Namespace) -> int:
    return _apply(args) if args.action == "apply" else _export(args)


def _export(args: argparse.Namespace) -> int:
    from mdtool.files import STANDARD, write_file
    from mdtool.launch.hints import hints_from_tree
    from mdtool.sources import tree_from_source

    text = hints_from_tree(tree_from_source(args.description, access_of(args)))
    write_file(args.output or STANDARD, text)
    return 0


def _apply(args: argparse.Namespace) -> int:
    from mdtool.files import STANDARD, locked, write_file
    from mdtool.integrations.placement import placed
    from mdtool.launch.hints import hints_from_tree, tree_from_hints
    from mdtool.sources import data_from_source

    with locked(args.hints):
        is_first = args.update and not os.path.exists(args.hints)
        old = None if is_first else tree_from_hints(args.hints)
        placement = placed(data_from_source(args.guest, access_of(args)), args.guest, old, prefer=args.prefer)
        if args.update:
            write_file(args.hints, hints_from_tree(placement.tree))
    write_file(args.output or STANDARD, placement.xml)
    return 0
