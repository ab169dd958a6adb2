"""mdtool fingerprint: what a guest sees of its machine, read without a guest."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mdtool.cli.options import options, via_option
from mdtool.cli.output import say
from mdtool.cli.source import EACH, MACHINE, Guests, access_of, source_arguments

if TYPE_CHECKING:
    from mdtool.guest.model import Guest
    from mdtool.machine.tree import Tree
    from mdtool.proof.fingerprint import Fingerprint

EXAMPLE = """\
example:
  mdtool fingerprint web01.yaml -o web01.fingerprint            one line a device: put it in git beside the description
  mdtool fingerprint web01.yaml --against web01.fingerprint     what differs from a stored one; exit 1 where something does
  mdtool fingerprint web01.xml --json -o before.json            every byte of configuration space, every ACPI object
  mdtool fingerprint web01.yaml --against before.json --asl     the lines of ACPI code that differ too, by iasl
  mdtool fingerprint libvirt:web01 --against web01.fingerprint  a running guest, by another machine like it
  mdtool fingerprint guests/ -o fingerprints/                   every description of a folder
"""
GUESTS = Guests(EACH, ("guest",), {"output": ".fingerprint"})


def arguments(parser: argparse.ArgumentParser) -> None:
    guest = f"{MACHINE}; folders of descriptions; what runs is looked at by another machine like it"
    parser.add_argument("guest", metavar="SOURCE", nargs="+", help=guest)
    parser.add_argument("--description", metavar="GUEST.yaml", help="with a guest XML: the description of its machine")
    parser.add_argument("--hints", metavar="FILE", help="with a guest XML: addresses from this file instead")
    via_option(parser, help="with a guest XML: the way of 'launch --via' to start it")
    source_arguments(parser)
    options(parser, "--json", help="all of it, for --against")
    parser.add_argument("--against", metavar="FILE", help="a stored fingerprint to compare with; --json ones say more")
    parser.add_argument("--asl", action="store_true", help="with --against: the lines of ACPI code that differ (iasl)")
    options(parser, "--output")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import STANDARD, write_file
    from mdtool.proof.fingerprint import fingerprint_to_json, fingerprint_to_text

    stored = _stored(args) if args.against else None
    found = _fingerprint(args)
    for what in found.unread:
        say(f"not read: {what}")
    if stored is not None:
        return _compared(args, stored, found)
    text = fingerprint_to_json(found) if args.json else fingerprint_to_text(found)
    write_file(args.output or STANDARD, text)
    return 0


def _stored(args: argparse.Namespace) -> str | Fingerprint:
    """The fingerprint to compare with, read before any QEMU starts: its text where it has one line a device."""
    from mdtool.errors import InputError
    from mdtool.files import text_from_file
    from mdtool.proof.fingerprint import fingerprint_from_json

    text = text_from_file(args.against)
    if not text.startswith("machine "):
        return fingerprint_from_json(text, args.against)
    if args.asl:
        raise InputError(f"{args.against} has no ACPI code in it", expected="a fingerprint made with --json")
    return text


def _compared(args: argparse.Namespace, old: str | Fingerprint, found: Fingerprint) -> int:
    from mdtool.cli.findings import write_changes
    from mdtool.proof.differences import compare
    from mdtool.proof.fingerprint import fingerprint_to_text
    from mdtool.proof.textual import text_changes

    form = args.output_format
    if isinstance(old, str):
        lines = list(text_changes(old, fingerprint_to_text(found)))
        write_changes([(line, "") for line in lines], form)
        return 1 if lines else 0
    changes = compare(old, found)
    write_changes([(str(change), change.severity) for change in changes], form)
    if args.asl and form == "text":
        from mdtool.proof.iasl import asl_changes

        for line in asl_changes(old.aml, found.aml):
            print(line)
    return 1 if changes else 0


def _fingerprint(args: argparse.Namespace) -> Fingerprint:
    from mdtool.proof.fingerprint import fingerprint_from_argv
    from mdtool.proof.firmware import is_empty, without_firmware
    from mdtool.proof.running import argv_from_source, is_running
    from mdtool.sources import SourceKind, kind_of, tree_from_source

    if is_running(args.guest):
        with argv_from_source(args.guest) as argv:
            found = fingerprint_from_argv(argv, root=args.qemu_root)
        return without_firmware(found, "firmware: the guest's image cannot be read") if is_empty(argv) else found
    access = access_of(args)
    if kind_of(args.guest, access) is SourceKind.XML:
        return _from_xml(args)
    from mdtool.proof.standalone import argv_from_description, binary_of

    tree = tree_from_source(args.guest, access)
    alone = argv_from_description(tree, binary=args.qemu or binary_of(tree), root=args.qemu_root)
    for name, driver in alone.substitutes.items():
        say(f"{name}: {driver} takes the place of the described device, which needs the host")
    for name, why in alone.left_out.items():
        say(f"{name}: left out: {why}")
    found = fingerprint_from_argv(alone.argv, root=args.qemu_root)
    return without_firmware(found, alone.unread) if alone.unread else found


def _from_xml(args: argparse.Namespace) -> Fingerprint:
    """The rehearsed guest XML with its own firmware in place of empty flash; where that cannot be read, without a word
    of what stood there."""
    from mdtool.launch.rehearse import prepared_rehearsal
    from mdtool.proof.fingerprint import fingerprint_from_argv
    from mdtool.proof.firmware import image_of_guest, is_readable, prepared_with_image, without_firmware
    from mdtool.proof.prepared import fingerprint_from_prepared
    from mdtool.sources import Access, guest_from_source

    guest = guest_from_source(args.guest, Access(args.connect))
    way = args.via if args.via not in (None, "hints") else "device"
    prepared = prepared_rehearsal(guest, _described(args, guest), binary=args.qemu, via=way)
    image = image_of_guest(guest, secure=bool(prepared.tree.firmware.get("secure")))
    there = image is not None and is_readable(image)
    if image is not None and there:
        prepared = prepared_with_image(prepared, image)
    if args.qemu_root:
        found = fingerprint_from_argv(prepared.words(), root=args.qemu_root)
    else:
        found = fingerprint_from_prepared(prepared)
    if image is None or there:
        return found
    return without_firmware(found, "firmware: the image that the XML names cannot be read")


def _described(args: argparse.Namespace, guest: Guest) -> Tree | None:
    from mdtool.errors import InputError
    from mdtool.launch.hints import fitted, tree_from_hints
    from mdtool.sources import document_from_source

    if args.via == "libvirt":
        remedy = "launch it with --via libvirt, then: mdtool fingerprint libvirt:NAME"
        raise InputError("--via libvirt starts a guest, and a fingerprint starts none", remedy=remedy)
    if args.via == "hints" and not args.hints:
        raise InputError("--via hints without a hints file", remedy="name it with --hints FILE", rule="hints")
    if args.hints:
        return fitted(tree_from_hints(args.hints), guest)
    return document_from_source(args.description, access_of(args)).tree if args.description else None
