"""``mdtool names GUEST.yaml``"""

from __future__ import annotations

import argparse
import json
from dataclasses import asdict

from mdtool.cli.findings import write_changes
from mdtool.cli.options import options
from mdtool.cli.source import EACH, MACHINE, Guests, access_of, source_arguments

EXAMPLE = """\
example:
  mdtool names web01.yaml                               what a Linux guest calls its NICs and disks
  mdtool names web01.yaml --against HEAD:web01.yaml     which names an edit changes; exit 1 where it changes any
  mdtool names guests/ --output-format jsonl            every description of a folder
"""
GUESTS = Guests(EACH, ("source",))


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("source", metavar="SOURCE", nargs="+", help=f"{MACHINE}; folders of descriptions")
    parser.add_argument("--against", metavar="OLD", help="show the names that changed since")
    options(parser, "--json")
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.review.names import names, renamed
    from mdtool.sources import tree_from_source

    tree = tree_from_source(args.source, access_of(args))
    if args.against:
        changed = renamed(tree_from_source(args.against, access_of(args)), tree)
        if args.json:
            print(json.dumps([asdict(one) for one in changed], indent=1))
        else:
            write_changes([(str(one), "") for one in changed], args.output_format, colour="yellow")
        return 1 if changed else 0
    found = names(tree)
    if args.json:
        print(json.dumps([asdict(one) for one in found], indent=1))
    else:
        for named in found:
            print(named)
    return 0
