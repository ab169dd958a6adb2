"""mdtool fingerprint: what a guest sees of its machine, read without a guest."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.cli.output import coloured, say

if TYPE_CHECKING:
    from mdtool.proof.fingerprint import Fingerprint

EXAMPLE = """\
example:
  mdtool fingerprint web01.yaml -o web01.fingerprint     one line a device: put it in git beside the description
  mdtool fingerprint web01.xml --json                    every byte of configuration space, every ACPI object
  mdtool fingerprint web01.yaml --against before.json    what differs from a stored one; exit 1 where something does
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST.yaml|GUEST.xml", help="a machine description, or a guest XML")
    parser.add_argument("--description", metavar="GUEST.yaml", help="with a guest XML: the description of its machine")
    parser.add_argument("--via", metavar="WAY", help="with a guest XML: the way of 'launch --via' to start it")
    parser.add_argument("--qemu", metavar="BINARY", help="the QEMU to look at, in place of the installed one")
    parser.add_argument("--qemu-root", metavar="DIR", help="a folder with another distribution's QEMU (debootstrap)")
    parser.add_argument("--json", action="store_true", help="all of it, for --against")
    parser.add_argument("--against", metavar="FILE", help="a stored fingerprint (--json) to compare with")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there, whole or not at all; stdout without it")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import write_file
    from mdtool.proof.fingerprint import fingerprint_to_json, fingerprint_to_text

    found = _fingerprint(args)
    for what in found.unread:
        say(f"not read: {what}")
    if args.against:
        return _compared(args.against, found)
    text = fingerprint_to_json(found) if args.json else fingerprint_to_text(found)
    if args.output:
        write_file(args.output, text)
    else:
        sys.stdout.write(text)
    return 0


def _compared(file: str, found: Fingerprint) -> int:
    from mdtool.errors import InputError
    from mdtool.proof.compare import compare
    from mdtool.proof.fingerprint import fingerprint_from_json

    try:
        text = Path(file).read_text()
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from None
    changes = compare(fingerprint_from_json(text, file), found)
    for change in changes:
        print(coloured(f"{change} [{change.severity}]", "red"))
    return 1 if changes else 0


def _fingerprint(args: argparse.Namespace) -> Fingerprint:
    from mdtool.cli.dump import is_guest_xml
    from mdtool.document import tree_from_file
    from mdtool.proof.fingerprint import fingerprint_from_argv

    if args.guest.endswith(".xml") or (is_guest_xml(args.guest) and _is_xml(args.guest)):
        from mdtool.launch.rehearse import prepared_rehearsal

        tree = tree_from_file(args.description) if args.description else None
        way = args.via or "device"
        prepared = prepared_rehearsal(args.guest, tree, binary=args.qemu, via=way)
        if args.qemu_root:
            return fingerprint_from_argv(prepared.words(), root=args.qemu_root)
        from mdtool.proof.ways import fingerprint_from_prepared

        return fingerprint_from_prepared(prepared)
    from mdtool.proof.alone import argv_from_description, binary_of

    tree = tree_from_file(args.guest)
    alone = argv_from_description(tree, binary=args.qemu or binary_of(tree))
    for name, driver in alone.stand_ins.items():
        say(f"{name}: {driver} stands in: the described device needs a host")
    for name, why in alone.left_out.items():
        say(f"{name}: left out: {why}")
    return fingerprint_from_argv(alone.argv, root=args.qemu_root)


def _is_xml(path: str) -> bool:
    with open(path, "rb") as stream:
        return stream.read(256).lstrip().startswith(b"<")
