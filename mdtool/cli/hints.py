"""``mdtool hints export GUEST.yaml``"""

from __future__ import annotations

import argparse

from mdtool.cli.output import result

EXAMPLE = """\
example:
  mdtool hints export web01.yaml -o web01.hints         keep the addresses, and nothing else, beside the guest
  mdtool launch fresh.xml --hints web01.hints           apply them over XML that has none
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    export = actions.add_parser("export", help="write the addresses of a description as an opaque file")
    export.add_argument("description", metavar="GUEST.yaml", help="the machine description")
    export.add_argument("-o", "--output", metavar="FILE", help="write there; stdout without it")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import write_file
    from mdtool.launch.hints import hints_from_tree
    from mdtool.machine.document import tree_from_file

    text = hints_from_tree(tree_from_file(args.description))
    if args.output:
        write_file(args.output, text)
    else:
        result(text)
    return 0
