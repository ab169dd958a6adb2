"""``mdtool verify GUEST.yaml SOURCE``"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from mdtool.cli.launch import show
from mdtool.cli.options import options
from mdtool.cli.source import DESCRIPTION, ROOT, SIDES, Guests, access_of, connect_argument
from mdtool.errors import InputError
from mdtool.text import as_command, counted

if TYPE_CHECKING:
    from mdtool.compare import Compared, Difference
    from mdtool.machine.tree import Tree
    from mdtool.proof.migration import Refusal
    from mdtool.qemu.session import Session

EXAMPLE = """\
example:
  mdtool verify web01.yaml /run/web01.qmp               what differs; exit 0 where nothing does, 1 where something does
  mdtool verify web01.yaml libvirt:web01 --json
  mdtool verify web01.yaml web01.xml                    a rehearsal of the guest XML
  mdtool verify web01.yaml /run/web01.qmp --migration   and whether its state would load into the described machine
  mdtool verify guests/ libvirt: --output-format jsonl  every description of a folder, against the guest of its name
"""
GUESTS = Guests(SIDES, ("description", "source"))


def arguments(parser: argparse.ArgumentParser) -> None:
    source = "the machine: a QMP socket, tcp:HOST:PORT, pid:N, libvirt:NAME, or guest XML to rehearse (a file, -, REV:PATH)"
    parser.add_argument("description", metavar="GUEST.yaml", help=f"{DESCRIPTION}; or a folder of them")
    parser.add_argument("source", metavar="SOURCE", help=f"{source}; libvirt: or a folder for many")
    options(parser, "--json", help="the differences as JSON")
    parser.add_argument("--strict", action="store_true", help="exit with 1 also where something was not compared")
    parser.add_argument("--migration", action="store_true", help="try to load its state into the described machine")
    parser.add_argument("--stop", action="store_true", help="allow --migration to stop a running guest for a moment")
    says = "rehearse with this QEMU; with --migration and a running machine, the QEMU to load the state into"
    parser.add_argument("--qemu", metavar="BINARY", help=says)
    parser.add_argument("--qemu-root", metavar="DIR", help=ROOT)
    connect_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.compare import noticed
    from mdtool.qemu.session import session_from_source
    from mdtool.sources import SourceKind, document_from_source, guest_from_source, is_running, kind_of, rehearsal_of

    access = access_of(args)
    rehearsed = not is_running(args.source)
    if rehearsed and kind_of(args.source, access) is SourceKind.DESCRIPTION:
        what, machine = f"{args.source} is a description as well", "a running machine, or guest XML to rehearse"
        remedy = as_command("diff", args.description, args.source)
        raise InputError(what, expected=machine, remedy=remedy, rule="file-kind")
    tree = document_from_source(args.description, access).tree
    if rehearsed:
        from mdtool.launch.start import counts

        with rehearsal_of(guest_from_source(args.source, access), access) as (session, prepared):
            found, compared, refused = _verified(tree, session, args, is_rehearsal=True)
        found = [difference for difference in found if counts(difference, prepared)]
    else:
        with session_from_source(args.source, connect=args.connect) as session:
            found, compared, refused = _verified(tree, session, args)
    migration = {"migration": refused.data() if refused else {"loads": True}} if args.migration else {}
    show(args, found, compared if args.json else None, **migration)
    if not args.json and args.output_format == "text":
        for view in compared.views:
            print(view)
        print(f"{counted(len(noticed(found)), 'difference')} that a guest sees")
        if args.migration:
            print(refused or "the state loads")
    return 1 if noticed(found) or refused or (args.strict and compared.not_compared) else 0


def _verified(
    tree: Tree, session: Session, args: argparse.Namespace, *, is_rehearsal: bool = False
) -> tuple[list[Difference], Compared, Refusal | None]:
    from mdtool.proof.enumerated import verified

    machine, found, compared = verified(tree, session, is_rehearsal=is_rehearsal)
    if not args.migration:
        return found, compared, None
    from mdtool.proof.migration import foretold

    return (
        found,
        compared,
        foretold(
            tree,
            session,
            machine,
            found,
            stop=args.stop,
            binary=access_of(args).binary(f"qemu-system-{tree.machine.get('arch', 'x86_64')}"),
        ),
    )
