"""``mdtool embed GUEST.xml GUEST.yaml``"""

from __future__ import annotations

import argparse

from mdtool.cli.options import options
from mdtool.cli.output import wrote
from mdtool.cli.source import DESCRIPTION, MORE, PAIRS, XML, Guests, access_of, connect_argument
from mdtool.errors import InputError
from mdtool.files import STANDARD
from mdtool.records import replace

EXAMPLE = """\
example:
  mdtool embed web01.xml web01.yaml                     put the description into web01.xml
  mdtool embed web01.xml web01.yaml -o - | virsh define /dev/stdin
  mdtool embed libvirt:web01 web01.yaml                 into the XML that libvirt keeps
  mdtool embed --remove web01.xml                       take it out again
  mdtool embed guests/ -o defined/                      every NAME.xml of a folder with the NAME.yaml beside it
"""
GUESTS = Guests(PAIRS, ("guest", "description", "more"), {"output": ".xml"})


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST.xml", help=XML)
    parser.add_argument("description", metavar="GUEST.yaml", nargs="?", help=DESCRIPTION)
    parser.add_argument("more", metavar="MORE", nargs="*", default=[], help=MORE)
    options(parser, "--output", help="write there (- for stdout) and leave GUEST.xml alone")
    parser.add_argument("--remove", action="store_true", help="take the description out")
    connect_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.files import locked, write_file
    from mdtool.qemu.virsh import Virsh
    from mdtool.review.embed import with_embedded
    from mdtool.sources import check_output, data_from_source, document_from_source

    if bool(args.description) == args.remove:
        raise InputError("nothing to embed", expected="a description, or --remove")
    access = replace(access_of(args), secrets=args.output is None)
    text = document_from_source(args.description, access).text if args.description else None
    in_libvirt = args.guest.startswith("libvirt:")
    target = args.output or (STANDARD if in_libvirt else args.guest)
    check_output(target)
    with locked(target):
        xml = with_embedded(data_from_source(args.guest, access), text, args.guest)
        if in_libvirt and not args.output:
            Virsh(args.connect).define(xml)
            return 0
        write_file(target, xml)
    if not args.output:
        wrote(target)
    return 0
