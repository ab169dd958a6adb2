"""``mdtool extract GUEST.xml``"""

from __future__ import annotations

import argparse

from mdtool.cli.output import result
from mdtool.errors import InputError

EXAMPLE = """\
example:
  mdtool extract web01.xml -o web01.yaml                the description out of web01.xml
  mdtool extract libvirt:web01                          out of the XML that libvirt keeps
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST.xml", help="a guest XML with a description inside, or libvirt:NAME")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there; stdout without it")
    parser.add_argument("--connect", metavar="URI", help="libvirt's URI for libvirt:NAME")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import write_file
    from mdtool.qemu.virsh import Virsh
    from mdtool.review.embed import embedded, embedded_in

    scheme, _, name = args.guest.partition(":")
    if scheme == "libvirt":
        virsh = Virsh(args.connect)
        text = embedded_in(virsh.xml(virsh.named(name), "--inactive").encode(), args.guest)
    else:
        text = embedded(args.guest)
    if text is None:
        raise InputError(f"{args.guest} has no description inside", remedy=f"mdtool embed {args.guest} GUEST.yaml")
    if args.output:
        write_file(args.output, text)
    else:
        result(text)
    return 0
