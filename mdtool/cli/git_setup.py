"""``mdtool git-setup``"""

from __future__ import annotations

import argparse

EXAMPLE = """\
example:
  mdtool git-setup                                      in this repository, for *.yaml
  mdtool git-setup 'guests/*.yaml'                      for these only
  mdtool git-setup --global                             for all repositories of this user
  git diff; git merge other-branch                      devices a line; descriptions merge by node

A file that is no machine description is shown and merged as ever.  The configuration is not part of a clone: everybody
runs this once, and .gitattributes goes into git.  Checks before each commit: .pre-commit-hooks.yaml has mdtool-check.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("patterns", metavar="PATTERN", nargs="*", help="which files are descriptions (*.yaml)")
    parser.add_argument("--global", dest="everywhere", action="store_true", help="the user's git, not this repository's")
    parser.add_argument("--remove", action="store_true", help="take it out again")


def run(args: argparse.Namespace) -> int:
    from mdtool.review.git import PATTERNS, set_up

    for line in set_up(args.patterns or PATTERNS, everywhere=args.everywhere, remove=args.remove):
        print(line)
    return 0
