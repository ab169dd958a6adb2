"""``mdtool embed GUEST.xml GUEST.yaml``"""

from __future__ import annotations

import argparse

from mdtool.cli.output import result, say
from mdtool.errors import InputError

EXAMPLE = """\
example:
  mdtool embed web01.xml web01.yaml                     put the description into web01.xml
  mdtool embed web01.xml web01.yaml -o - | virsh define /dev/stdin
  mdtool embed libvirt:web01 web01.yaml                 into the XML that libvirt keeps
  mdtool embed --remove web01.xml                       take it out again
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST.xml", help="the guest XML, or libvirt:NAME")
    parser.add_argument("description", metavar="GUEST.yaml", nargs="?", help="the machine description")
    parser.add_argument("-o", "--output", metavar="OUT", help="write there (- for stdout) and leave GUEST.xml alone")
    parser.add_argument("--remove", action="store_true", help="take the description out")
    parser.add_argument("--connect", metavar="URI", help="libvirt's URI for libvirt:NAME")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import locked, write_file
    from mdtool.guest.xml import xml_from_file
    from mdtool.machine.document import document_from_file
    from mdtool.qemu.virsh import Virsh
    from mdtool.review.embed import with_embedded

    if bool(args.description) == args.remove:
        raise InputError("nothing to embed", expected="a description, or --remove")
    document = document_from_file(args.description) if args.description else None
    text = document.text if document else None
    scheme, _, name = args.guest.partition(":")
    if scheme == "libvirt":
        virsh = Virsh(args.connect)
        xml = with_embedded(virsh.xml(virsh.named(name), "--inactive"), text, args.guest)
        if not args.output:
            virsh.define(xml)
            return 0
        return _write(args.output, xml)
    if args.output:
        return _write(args.output, with_embedded(xml_from_file(args.guest), text, args.guest))
    with locked(args.guest):
        write_file(args.guest, with_embedded(xml_from_file(args.guest), text, args.guest))
    say(f"wrote {args.guest}")
    return 0


def _write(path: str, text: str) -> int:
    from mdtool.files import write_file

    if path == "-":
        result(text)
    else:
        write_file(path, text)
    return 0
