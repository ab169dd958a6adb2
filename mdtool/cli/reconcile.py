"""``mdtool reconcile GUEST.xml GUEST.yaml``"""

from __future__ import annotations

import argparse
import json
import os
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mdtool.cli.output import coloured, said_kept, say, warn_all, wrote
from mdtool.cli.source import PAIRS, XML, Guests, access_of, source_arguments
from mdtool.files import is_standard, write_file

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from mdtool.apply.live import Outcome
    from mdtool.apply.relaunch import Relaunch
    from mdtool.apply.revise import Request, Revision
    from mdtool.guest.model import Guest
    from mdtool.machine.tree import Tree
    from mdtool.reconcile.plan import Plan

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
    says = "further guests: guest XML, each with its description beside it, and folders of both"
    parser.add_argument("more", metavar="MORE", nargs="*", help=says)
    parser.add_argument(
        "-o",
        "--output",
        metavar="OUT",
        help="write the new description here and leave GUEST.yaml alone; with --dry-run --json: the plan, for mdtool apply",
    )
    parser.add_argument("--dry-run", action="store_true", help="only show the plan; exit 1 where something would change")
    parser.add_argument("--json", action="store_true", help="the plan as JSON on stdout")
    parser.add_argument("--prefer", choices=("xml", "description"), help="which one wins where both changed")
    parser.add_argument("--forget", action="store_true", help="clear the addresses kept for removed devices")
    parser.add_argument("--prune", action="store_true", help="remove ports and controllers that nothing uses any more")
    _more_arguments(parser)
    parser.add_argument("--strict", action="store_true", help="what the XML says and mdtool leaves out is an error")
    parser.add_argument("-v", "--verbose", action="store_true", help="show kept nodes as well")


def _more_arguments(parser: argparse.ArgumentParser) -> None:
    from mdtool.launch.ways import WAYS

    add = parser.add_argument
    add("--write-xml", metavar="FILE", help="write the XML with every address filled in; may be GUEST.xml, or - for stdout")
    says = "in that XML: leave aliases alone, write our ids, or give every device one that libvirt keeps (ua-...)"
    add("--aliases", choices=("kept", "own", "ua"), default="kept", help=says)
    add("--minimal", action="store_true", help="write a description without addresses, for QEMU or the next run to choose")
    add("--rebase-machine", metavar="TYPE", help="change the machine type, and show what the guest sees otherwise")
    hidden = argparse.SUPPRESS  # what changes a guest is mdtool apply's; the old options work on
    add("--live", metavar="SOURCE", help=hidden)
    add("--launch", action="store_true", help=hidden)
    add("--source", metavar="SOURCE", help=hidden)
    add("--force", action="store_true", help=hidden)
    add("--timeout", metavar="SECONDS", type=float, help=hidden)
    add("--via", choices=list(WAYS), help=hidden)
    for name in _LAUNCH:
        add(f"--{name}", metavar=name.upper(), help=hidden)
    for name in _LAUNCH_FLAGS:
        add(f"--{name}", action="store_true", help=hidden)
    source_arguments(parser)


_LAUNCH = ("qmp", "pidfile", "log")
_LAUNCH_FLAGS = ("daemonize", "paused")


def run(args: argparse.Namespace) -> int:
    from mdtool.apply.revise import check_outputs, revised, write
    from mdtool.files import locked

    if (args.live or args.source) and not getattr(args, "applied", False):
        say("note: what changes a guest moved to mdtool apply, which shows the plan and asks first")
    request = _request(args)
    launch_args = _launch_arguments(args, request.target) if args.launch else None
    with ExitStack() as lock:
        if not args.dry_run:
            check_outputs(request)
            lock.enter_context(locked(request.target, *([request.write_xml] if request.write_xml else [])))
        revision = revised(request)
        if (agreed := getattr(args, "agreed", None)) is not None:  # by mdtool apply, which let go of the lock to ask
            agreed(revision)
        warn_all(revision.warnings)
        outcomes, tree = None, revision.tree
        changes = (revision.plan or getattr(args, "forced", False)) and not args.dry_run
        if changes and args.live:
            outcomes, tree = _live(args, revision.guest, revision.before, tree, revision.plan)
        texts = revision.texts(tree)
        if changes and args.source and launch_args is not None:
            relaunch = _relaunch(args, launch_args, revision, texts, lock)
            relaunch.check()
            _show(args, revision, texts, outcomes)
            relaunch.shut_down()
            return _relaunched(launch_args, relaunch)
        if not args.dry_run:
            said_kept(*write(texts, request))
    _show(args, revision, texts, outcomes)
    if args.dry_run:
        return 1 if revision.plan or any(not is_standard(path) for path in texts) else 0
    if revision.old is None:
        wrote(request.target)
    if launch_args is None:
        return 1 if any(outcome.left for outcome in outcomes or ()) else 0
    if args.source:
        say("nothing changed: the guest runs on")
        return 0
    from mdtool.cli import launch

    return launch.run(launch_args)


def _request(args: argparse.Namespace) -> Request:
    from mdtool.apply.revise import Request
    from mdtool.reconcile import Options

    return Request(
        guest=args.guest,
        description=args.description,
        output=None if args.dry_run and args.json else args.output,  # a dry run writes its plan there
        write_xml=args.write_xml,
        aliases=args.aliases,
        machine=args.rebase_machine,
        minimal=args.minimal,
        options=Options(prefer=args.prefer, forget=args.forget, prune=args.prune, strict=args.strict),
        access=access_of(args),
    )


def _show(
    args: argparse.Namespace, revision: Revision, texts: Mapping[str, str], outcomes: Sequence[Outcome] | None
) -> None:
    """The plan: on stdout, or on stderr where stdout has the description or the XML."""
    from mdtool.reconcile.plan import json_from_plan
    from mdtool.review.plan import text_from_plan, with_names

    plan, rebase = revision.plan, revision.rebase
    if plan:
        plan = with_names(plan, revision.before, revision.tree)
    stream = sys.stderr if not args.dry_run and any(map(is_standard, texts)) else sys.stdout
    written = sorted(path for path in texts if not is_standard(path))
    if args.json and args.dry_run and args.output:
        from mdtool.apply.saved import data_from_revision

        write_file(args.output, json.dumps(data_from_revision(revision), indent=2) + "\n")
        wrote(args.output)
        return
    if args.json:
        more: dict[str, Any] = {"writes": written}
        more |= {} if outcomes is None else {"live": [outcome.data() for outcome in outcomes]}
        more |= {"machine": [one.data() for one in rebase.differences]} if rebase else {}
        print(json.dumps({**json_from_plan(plan), **more}, indent=2), file=stream)
        return
    print(text_from_plan(plan, lambda text, colour: coloured(text, colour, stream), kept=args.verbose), file=stream)
    for one in rebase.differences if rebase else ():
        print(f"!  {one}", file=stream)
    for outcome in outcomes or ():
        print(outcome, file=stream)
    if not plan and revision.old is not None and revision.request.target in written:
        verb = "would be rewritten" if args.dry_run else "rewritten"
        say(f"{revision.request.target} {verb}: the hardware is the same, what is recorded of it is not")


def _live(args: argparse.Namespace, guest: Guest, old: Tree | None, new: Tree, plan: Plan) -> tuple[list[Outcome], Tree]:
    """What was done, and the machine that runs now."""
    from mdtool.apply.live import UNPLUG_SECONDS, as_far, carried_out, check_before, differences
    from mdtool.errors import InputError, QemuError
    from mdtool.launch.backends import backends_of
    from mdtool.launch.backends.base import Host
    from mdtool.launch.prepare import free_port, wanted_by
    from mdtool.qemu.runtime import runtime_base
    from mdtool.qemu.session import session_from_source

    if old is None:
        remedy = f"describe it first: mdtool dump {args.live} --xml {args.guest} -o {args.description}"
        raise InputError(f"{args.description} is not there, and --live changes a described guest", remedy=remedy)
    behind = backends_of(wanted_by(guest, new), Host(guest, runtime_base() / guest.key, free_port))
    with session_from_source(args.live) as session:
        check_before(session, old)
        outcomes = carried_out(session, plan, (old, new), behind, seconds=args.timeout or UNPLUG_SECONDS)
        if found := differences(session, new, outcomes):
            raise QemuError("plugged in, and not as described: " + "; ".join(found))
    return outcomes, as_far(old, new, outcomes)


def _launch_arguments(args: argparse.Namespace, target: str) -> argparse.Namespace:
    """The arguments of the launch, looked at before anything is done."""
    from mdtool.cli import launch, output_arguments

    if args.source and args.qmp is None and os.path.isabs(args.source):
        args.qmp = args.source  # where it was reached before it is reached again
    if args.source and args.via is None and args.source.startswith("libvirt:"):
        args.via = "libvirt"
    values = {name: getattr(args, name.replace("-", "_")) for name in ("via", "connect", "qemu", "qemu-root", *_LAUNCH)}
    words = [f"--{name}={value}" for name, value in values.items() if value is not None]
    words += [f"--{name}" for name in _LAUNCH_FLAGS if getattr(args, name)]
    parser = argparse.ArgumentParser(prog="mdtool launch")
    launch.arguments(parser)
    output_arguments(parser)
    words += ["--output-format", args.output_format]
    files = [args.guest] if target == args.guest else [args.guest, target]
    made = parser.parse_args([*words, "--", *files])
    launch.way_of(made)
    return made


def _relaunch(
    args: argparse.Namespace,
    launch_args: argparse.Namespace,
    revision: Revision,
    texts: Mapping[str, str],
    lock: ExitStack,
) -> Relaunch:
    from mdtool.apply.relaunch import Relaunch
    from mdtool.apply.restart import POWERDOWN_SECONDS
    from mdtool.apply.revise import write_one
    from mdtool.cli import launch
    from mdtool.files import Rewrite
    from mdtool.launch.run import Settings

    def may_end(why: str) -> bool:
        if args.force or not sys.stdin.isatty():
            return bool(args.force)
        print(f"{why}; end it as pulling the plug would? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    settings = Settings(
        paused=launch_args.paused,
        qmp=launch_args.qmp,
        pidfile=launch_args.pidfile,
        log=launch_args.log,
        timeout=launch_args.timeout,
        say=say,
    )
    return Relaunch(
        revision.guest,
        revision.tree,
        launch.way_of(launch_args),
        args.source,
        Rewrite(texts, lambda path, text: said_kept(write_one(path, text, revision.request))),
        settings,
        connect=args.connect,
        seconds=args.timeout or POWERDOWN_SECONDS,
        may_end=may_end,
        written=lock.close,
    )


def _relaunched(launch_args: argparse.Namespace, relaunch: Relaunch) -> int:
    """The exit status; where the machine is not as described, that is printed as a launch does."""
    from mdtool.cli import launch
    from mdtool.launch.run import Differs

    def start(ready: Callable[[int], None] | None) -> int:
        relaunch.ready = ready
        try:
            return relaunch.start()
        except Differs as error:
            return launch.shown(error.found, None, as_json=launch_args.json, output_format=launch_args.output_format)

    if not launch_args.daemonize:
        return start(None)
    from mdtool.qemu.background import daemonized

    return daemonized(start)
