"""``mdtool diff OLD NEW``"""

from __future__ import annotations

import argparse
import json

from mdtool.cli.output import coloured
from mdtool.cli.source import MACHINE, access_of, source_arguments

EXAMPLE = """\
example:
  mdtool diff web01.yaml web01-new.yaml                 two descriptions
  mdtool diff HEAD:web01.yaml web01.yaml                what I changed since the last commit
  mdtool diff v1.0:web01.yaml v2.0:web01.yaml           between two tags
  mdtool diff web01.yaml libvirt:web01                  a description and a running machine

Exit status: 0 nothing differs, 1 something does, 2 an error.
"""
_COLOURS = {"added": "green", "removed": "red"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help=MACHINE)
    parser.add_argument("new", metavar="NEW", help="the same")
    parser.add_argument("--json", action="store_true", help="the differences as JSON")
    parser.add_argument(
        "--all", action="store_true", help="also what no guest can see: names, the host side, retired addresses"
    )
    parser.add_argument("--exit-code", action="store_true", help="exit as diff(1) does, which is always so")
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.review.diff import diff
    from mdtool.sources import tree_from_source

    old, new = (tree_from_source(source, access_of(args)) for source in (args.old, args.new))
    found = diff(old, new, everything=args.all)
    if args.json:
        print(json.dumps({"changes": [change.data() for change in found.changes]}, indent=1))
    elif found:
        for change in found.changes:
            print(coloured(str(change), _COLOURS.get(change.kind, "yellow")))
        print(found.summary())
    return 1 if found else 0
