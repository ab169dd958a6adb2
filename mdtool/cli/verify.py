"""``mdtool verify GUEST.yaml SOURCE``"""

from __future__ import annotations

import argparse

from mdtool.cli.launch import shown

EXAMPLE = """\
example:
  mdtool verify web01.yaml /run/web01.qmp               what differs; exit 0 where nothing does, 1 where something does
  mdtool verify web01.yaml libvirt:web01 --json
  mdtool verify web01.yaml web01.xml                    a rehearsal of the guest XML
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    source = "a QMP socket path, tcp:HOST:PORT, pid:N, libvirt:NAME, or a guest XML"
    parser.add_argument("description", metavar="GUEST.yaml", help="the machine description")
    parser.add_argument("source", metavar="SOURCE", help=source)
    parser.add_argument("--json", action="store_true", help="the differences as JSON")
    parser.add_argument("--connect", metavar="URI", help="libvirt's URI for libvirt:NAME")


def run(args: argparse.Namespace) -> int:
    from mdtool.cli.dump import is_guest_xml
    from mdtool.document import tree_from_file
    from mdtool.proof.verify import comparison
    from mdtool.qemu.dump import dump
    from mdtool.qemu.session import session_from_source

    tree = tree_from_file(args.description)
    if is_guest_xml(args.source):
        from mdtool.launch.rehearse import prepared_rehearsal, rehearsal
        from mdtool.launch.run import checked

        prepared = prepared_rehearsal(args.source, tree)
        with rehearsal(prepared) as qemu:
            found, compared = checked(qemu, prepared)
    else:
        with session_from_source(args.source, connect=args.connect) as session:
            found, compared = comparison(tree, dump(session))
    return shown(found, compared, as_json=args.json)
