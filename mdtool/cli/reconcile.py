"""``mdtool reconcile GUEST.xml GUEST.yaml``"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from typing import TYPE_CHECKING

from mdtool.cli.options import LAUNCH, REVISION, options, via_option
from mdtool.cli.output import said_kept, say, warn_all, wrote
from mdtool.cli.plan import show_plan
from mdtool.cli.source import MORE, PAIRS, XML, Guests, request_of, source_arguments
from mdtool.files import is_standard, locked, write_file

if TYPE_CHECKING:
    from collections.abc import Callable

    from mdtool.apply.revise import Request, Revision

EXAMPLE = """\
example:
  mdtool reconcile web01.xml web01.yaml --dry-run    show the plan, change nothing (exit 1 where something would change)
  mdtool reconcile web01.xml web01.yaml              carry it out; makes web01.yaml where there is none
  mdtool reconcile web01.xml                         the same for a description inside of the XML (mdtool embed)
  mdtool reconcile web01.xml web01.yaml --write-xml web01.xml     and give the XML every address, for libvirt
  mdtool reconcile web01.xml web01.yaml --dry-run --json -o plan.json      a plan for mdtool apply
  mdtool reconcile guests/ --output-format jsonl     every NAME.xml of a folder with the NAME.yaml beside it
"""
GUESTS = Guests(PAIRS, ("guest", "description", "more"), {"output": ".yaml", "write_xml": ".xml"})


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST.xml", help=f"the guest as it should be: {XML}")
    says = "its description, made where it does not exist; without it, the one inside of GUEST.xml (mdtool embed); - too"
    parser.add_argument("description", metavar="GUEST.yaml", nargs="?", help=says)
    parser.add_argument("more", metavar="MORE", nargs="*", default=[], help=MORE)
    says = "write the new description here and leave GUEST.yaml alone; with --dry-run --json: the plan, for mdtool apply"
    options(parser, "--output", help=says)
    parser.add_argument("--dry-run", action="store_true", help="only show the plan; exit 1 where something would change")
    options(parser, "--json", help="the plan as JSON on stdout")
    options(parser, *REVISION)
    add = parser.add_argument
    add("-v", "--verbose", action="store_true", help="show kept nodes as well")
    says = "in that XML: leave aliases alone, write our ids, or give every device one that libvirt keeps (ua-...)"
    add("--aliases", choices=("kept", "own", "ua"), default="kept", help=says)
    add("--minimal", action="store_true", help="write a description without addresses, for QEMU or the next run to choose")
    hidden = argparse.SUPPRESS  # what changes a guest is mdtool apply's; the old options work on
    add("--live", metavar="SOURCE", help=hidden)
    add("--launch", action="store_true", help=hidden)
    add("--source", metavar="SOURCE", help=hidden)
    add("--force", action="store_true", help=hidden)
    add("--timeout", metavar="SECONDS", type=float, help=hidden)
    via_option(parser, help=hidden)
    options(parser, *LAUNCH, help=hidden)
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.apply.revise import check_outputs, revised, write

    saves_plan = args.dry_run and args.json and args.output  # a dry run writes its plan there
    request = request_of(args, output=None if saves_plan else args.output)
    args.source, args.restart = args.live or args.source, args.launch
    if args.source and not args.dry_run:
        from mdtool.cli.apply import carry_out

        say("note: what changes a guest moved to mdtool apply, which shows the plan and asks first")
        return carry_out(args, request)
    started = _launch(args, request) if args.launch else None
    with ExitStack() as lock:
        if not args.dry_run:
            check_outputs(request)
            lock.enter_context(locked(*request.outputs))
        revision = revised(request)
        warn_all(revision.warnings)
        texts = revision.texts()
        if not args.dry_run:
            said_kept(*write(texts, request))
    if saves_plan:
        _save(args.output, revision)
    else:
        show_plan(args, revision, texts)
        rewritten = not args.dry_run and not revision.plan and request.target in texts
        if rewritten and revision.old is not None and not is_standard(request.target):
            say(f"{request.target} rewritten: the hardware is the same, what is recorded of it is not")
    if args.dry_run:
        return 1 if revision.plan or any(not is_standard(path) for path in texts) else 0
    if revision.old is None:
        wrote(request.target)
    return started() if started is not None else 0


def _launch(args: argparse.Namespace, request: Request) -> Callable[[], int]:
    """The launch of what is written, its arguments looked at before anything is."""
    from mdtool.cli import launch

    made = launch.arguments_for(args, request)
    return lambda: launch.run(made)


def _save(path: str, revision: Revision) -> None:
    from mdtool.apply.saved import data_from_revision

    write_file(path, json.dumps(data_from_revision(revision), indent=2) + "\n")
    wrote(path)
