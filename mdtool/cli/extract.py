"""``mdtool extract GUEST.xml``"""

from __future__ import annotations

import argparse

from mdtool.cli.options import options
from mdtool.cli.output import said_kept
from mdtool.cli.source import XML, access_of, connect_argument
from mdtool.errors import InputError
from mdtool.text import as_command

EXAMPLE = """\
example:
  mdtool extract web01.xml -o web01.yaml                the description out of web01.xml
  mdtool extract libvirt:web01                          out of the XML that libvirt keeps
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST.xml", help=f"{XML}, with a description inside")
    options(parser, "--output")
    connect_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.files import STANDARD, write_over
    from mdtool.review.embed import embedded_in
    from mdtool.sources import data_from_source

    text = embedded_in(data_from_source(args.guest, access_of(args)), args.guest)
    if text is None:
        raise InputError(f"{args.guest} has no description inside", remedy=as_command("embed", args.guest, "GUEST.yaml"))
    said_kept(write_over(args.output or STANDARD, text))
    return 0
