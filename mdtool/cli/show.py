"""``mdtool show GUEST.yaml``"""

from __future__ import annotations

import argparse

from mdtool.cli.output import coloured, width, wrote
from mdtool.cli.source import EACH, MACHINE, Guests, access_of, source_arguments

EXAMPLE = """\
example:
  mdtool show web01.yaml                                the tree
  mdtool show web01.yaml --mine --depth 2               without the machine's own devices, two levels
  mdtool show web01.yaml --driver 'virtio-*'            some devices, and what they sit on
  mdtool show web01.yaml --against HEAD:web01.yaml      with what changed since the last commit
  mdtool show web01.yaml --plan web01.xml               with what a reconcile would change
  mdtool show web01.yaml --html web01.html              a page to look at, one file
  mdtool show guests/ --html pages/                     a page a guest
"""
GUESTS = Guests(EACH, ("source",), {"svg": ".svg", "html": ".html"})


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("source", metavar="SOURCE", nargs="+", help=f"{MACHINE}; folders of descriptions")
    add("--against", metavar="OLD", help="mark what differs from this one")
    add("--plan", metavar="GUEST.xml", help="mark what a reconcile with this guest XML would change")
    add("--changed", action="store_true", help="only what differs (with --against or --plan)")
    add("--mine", action="store_true", help="leave out what the machine type makes by itself")
    add("--bus", metavar="BUS", help="only this bus (a pattern, as in a shell)")
    add("--driver", metavar="DRIVER", help="only these drivers (a pattern)")
    add("--id", metavar="ID", help="only these devices (a pattern)")
    add("--depth", metavar="N", type=int, help="only so many levels of devices")
    add("--svg", metavar="FILE", help="write a picture")
    add("--html", metavar="FILE", help="write a page: one file, searchable, for dark and light")
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.files import write_file
    from mdtool.review.show import Filter, headline, lines_of_diff, pruned, text, view
    from mdtool.sources import guest_from_source, tree_from_source

    access = access_of(args)
    tree = tree_from_source(args.source, access)
    old = tree_from_source(args.against, access) if args.against else None
    changes = lines_of_diff(old, tree) if old is not None else []
    if args.plan:
        from mdtool.reconcile import reconcile
        from mdtool.review.show import lines_of_plan

        result, old = reconcile(guest_from_source(args.plan, access), tree), tree
        tree, changes = result.tree, lines_of_plan(result.plan, old, result.tree)
    wish = Filter(args.bus, args.driver, args.id, args.changed and old is not None, not args.mine, args.depth)
    items = pruned(view(tree, old), wish)
    if args.svg:
        from mdtool.review.svg import svg

        write_file(args.svg, svg(items, headline(tree), changes))
        wrote(args.svg)
    if args.html:
        from mdtool.review.html import html

        write_file(args.html, html(items, headline(tree), changes))
        wrote(args.html)
    if not (args.svg or args.html):
        print(coloured(headline(tree), "bold"))
        if items:
            print(text(items, coloured, width(120)))
    return 0
