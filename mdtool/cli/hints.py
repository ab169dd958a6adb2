"""``mdtool hints export GUEST.yaml``"""

from __future__ import annotations

import argparse

from mdtool.cli.source import MACHINE, access_of, source_arguments

EXAMPLE = """\
example:
  mdtool hints export web01.yaml -o web01.hints         keep the addresses, and nothing else, beside the guest
  mdtool launch fresh.xml --hints web01.hints           apply them over XML that has none
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    export = actions.add_parser("export", help="write the addresses of a description as an opaque file")
    export.add_argument("description", metavar="SOURCE", help=MACHINE)
    export.add_argument("-o", "--output", metavar="FILE", help="write there; stdout without it")
    source_arguments(export)


def run(args: argparse.Namespace) -> int:
    from mdtool.files import STANDARD, write_file
    from mdtool.launch.hints import hints_from_tree
    from mdtool.sources import tree_from_source

    text = hints_from_tree(tree_from_source(args.description, access_of(args)))
    write_file(args.output or STANDARD, text)
    return 0
