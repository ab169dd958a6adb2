"""mdtool dump: the machine description of what runs."""

from __future__ import annotations

import argparse
import json
import os

from mdtool.cli.output import result
from mdtool.files import write_file
from mdtool.machine.tree import Tree

EXAMPLE = """\
example:
  mdtool dump /run/qemu/web01.qmp -o web01.yaml      a QMP socket
  mdtool dump tcp:localhost:4444 --xml web01.xml     link the devices to the XML elements they stand for
  mdtool dump libvirt:web01 --json                   a guest that libvirt runs
  mdtool dump web01.xml                              start the guest paused, without its disks and NICs, and dump that
  mdtool dump start-web01.sh                         the same for a QEMU command line
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    source = "a QMP socket path, tcp:HOST:PORT, pid:N, libvirt:NAME, a guest XML, or a file with a QEMU command line"
    parser.add_argument("source", metavar="SOURCE", help=source)
    parser.add_argument("--xml", metavar="GUEST.xml", help="link the devices to the elements of this guest XML")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there, whole or not at all; stdout without it")
    parser.add_argument("--json", action="store_true", help="both documents as JSON: {machine, pins}")
    parser.add_argument("--thorough", action="store_true", help="read every property one by one: slow, the reference")
    parser.add_argument("--connect", metavar="URI", help="libvirt's URI for libvirt:NAME")


def run(args: argparse.Namespace) -> int:
    tree = _tree(args)
    if args.json:
        from mdtool.machine.writer import json_from_tree

        text = json.dumps(json_from_tree(tree), indent=1, ensure_ascii=False) + "\n"
    else:
        from mdtool.machine.writer import yaml_from_tree

        text = yaml_from_tree(tree)
    if args.output:
        write_file(args.output, text)
    else:
        result(text)
    return 0


def _tree(args: argparse.Namespace) -> Tree:
    from mdtool.cli.output import say
    from mdtool.qemu.arguments import completed, firmware_of, with_sections
    from mdtool.qemu.dump import as_planned, dump
    from mdtool.qemu.read import Way
    from mdtool.qemu.session import session_from_source

    way = Way.WALK if args.thorough else None

    def warn(what: str) -> None:
        say(f"warning: {what}")

    if is_commandline(args.source):
        from mdtool.qemu.commandline import dumped_commandline

        tree = dumped_commandline(args.source, way=way, warn=warn)
    elif is_guest_xml(args.source):
        from mdtool.guest.devices import guest_from_file
        from mdtool.launch.rehearse import prepared_rehearsal, rehearsal

        guest = guest_from_file(args.source)
        plan = prepared_rehearsal(guest)
        with rehearsal(plan) as qemu:
            tree = as_planned(dump(qemu.session, way=way, warn=warn), plan.tree, plan.stands_in)
        tree = with_sections(tree, firmware_of(guest, tree))
    else:
        with session_from_source(args.source, connect=args.connect) as session:
            tree = dump(session, way=way, warn=warn)
            if not args.xml:
                tree = completed(tree, session, warn)
    return _linked(tree, args.xml) if args.xml else tree


def is_guest_xml(source: str) -> bool:
    """Whether SOURCE is a guest XML and not a monitor: by its name or, where it exists, by what it is."""
    return not _has_scheme(source) and (source.endswith(".xml") or os.path.isfile(source)) and not is_commandline(source)


def is_commandline(source: str) -> bool:
    """Whether SOURCE is a file, and no XML."""
    if _has_scheme(source) or source.endswith(".xml") or not os.path.isfile(source):
        return False
    try:
        with open(source, "rb") as file:
            return not file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"<")
    except OSError:
        return False


def _has_scheme(source: str) -> bool:
    return source.partition(":")[0] in ("tcp", "pid", "libvirt")


def _linked(tree: Tree, xml: str) -> Tree:
    from mdtool.cli.output import warn_all
    from mdtool.errors import Report
    from mdtool.guest.devices import guest_from_file
    from mdtool.reconcile import linked

    report = Report()
    guest = guest_from_file(xml)
    tree = linked(guest, tree, report)
    report.done()
    warn_all(report.warnings)
    return tree
