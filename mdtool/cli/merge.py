"""``mdtool merge BASE OURS THEIRS``"""

from __future__ import annotations

import argparse

from mdtool.cli.output import result, say

EXAMPLE = """\
example:
  mdtool merge base.yaml ours.yaml theirs.yaml -o web01.yaml
  mdtool git-setup                                      and git merges descriptions this way by itself

Exit status: 0 merged, 1 conflicts (marked in the file), 2 an error.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("base", metavar="BASE", help="the common ancestor; an empty file where there is none")
    parser.add_argument("ours", metavar="OURS", help="our description")
    parser.add_argument("theirs", metavar="THEIRS", help="the other one")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there; stdout without it")
    parser.add_argument("--name", metavar="PATH", help="what to call the file in messages")
    parser.add_argument("--marker-size", metavar="N", type=int, default=7, help="length of conflict markers (7)")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import text_from_file, write_file
    from mdtool.review.merge3 import merged_text

    name = args.name or args.output or args.ours
    base, ours, theirs = map(text_from_file, (args.base, args.ours, args.theirs))
    merged = merged_text(base, ours, theirs, name, args.marker_size)
    for note in merged.notes:
        say(f"{name}: {note}")
    for conflict in merged.conflicts:
        say(f"{name}: conflict: {conflict}")
    if args.output:
        write_file(args.output, merged.text)
    else:
        result(merged.text)
    return 1 if merged.conflicts else 0
