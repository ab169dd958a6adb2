"""``mdtool diff OLD NEW``"""

from __future__ import annotations

import argparse
import json

from mdtool.cli.options import options
from mdtool.cli.output import coloured, result
from mdtool.cli.source import MACHINE, SIDES, Guests, access_of, source_arguments

EXAMPLE = """\
example:
  mdtool diff web01.yaml web01-new.yaml                 two descriptions
  mdtool diff HEAD:web01.yaml web01.yaml                what I changed since the last commit
  mdtool diff v1.0:web01.yaml v2.0:web01.yaml           between two tags
  mdtool diff main:web01.yaml web01.yaml --format markdown     for a pull request's comment
  mdtool diff web01.yaml libvirt:web01                  a description and a running machine
  mdtool diff old/ new/                                 each description of a folder, with the one of its name
  mdtool diff origin/main: guests/ --format markdown    all that a branch changes, for a pull request's comment

Exit status: 0 nothing differs, 1 something does, 2 an error.
"""
GUESTS = Guests(SIDES, ("old", "new"))
_COLOURS = {"added": "green", "removed": "red"}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("old", metavar="OLD", help=f"{MACHINE}; or a folder of descriptions")
    parser.add_argument("new", metavar="NEW", help=f"{MACHINE}; for a folder another one, or libvirt:")
    options(parser, "--json", help="the differences as JSON")
    parser.add_argument(
        "--all", action="store_true", help="also what no guest can see: names, the host side, retired addresses"
    )
    parser.add_argument(
        "--exit-code", action="store_true", help="accepted for diff(1)'s sake: the exit status is always diff(1)'s"
    )
    parser.add_argument("--format", choices=("text", "markdown"), default="text", help="markdown is for a pull request")
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.review.diff import diff
    from mdtool.sources import tree_from_source

    old, new = (tree_from_source(source, access_of(args)) for source in (args.old, args.new))
    found = diff(old, new, everything=args.all)
    if args.json:
        print(json.dumps({"changes": [change.data() for change in found.changes]}, indent=1))
    elif args.format == "markdown":
        from mdtool.review.markdown import markdown

        result(markdown(found))
    elif args.output_format != "text":
        from mdtool.cli.findings import Reported, write
        from mdtool.compare import GUEST_VISIBLE

        write(
            [
                Reported("error" if one.severity in GUEST_VISIBLE else "warning", str(one), one.severity)
                for one in found.changes
            ],
            args.output_format,
        )
    elif found:
        for change in found.changes:
            print(coloured(str(change), _COLOURS.get(change.kind, "yellow")))
        print(found.summary())
    return 1 if found else 0
