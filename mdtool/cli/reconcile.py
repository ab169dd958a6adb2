"""``mdtool reconcile GUEST.xml GUEST.yaml``"""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.cli.output import coloured, say, warn_all

if TYPE_CHECKING:
    from mdtool.apply.live import Outcome
    from mdtool.apply.rebase import Rebased
    from mdtool.guest.model import Guest
    from mdtool.machine.document import Document
    from mdtool.machine.tree import Tree
    from mdtool.reconcile.plan import Plan

EXAMPLE = """\
example:
  mdtool reconcile web01.xml web01.yaml --dry-run    show the plan, change nothing (exit 1 where something would change)
  mdtool reconcile web01.xml web01.yaml              carry it out; makes web01.yaml where there is none
  mdtool reconcile web01.xml                         the same for a description inside of the XML (mdtool embed)
  mdtool reconcile web01.xml web01.yaml --write-xml web01.xml     and give the XML every address, for libvirt
  mdtool reconcile web01.xml web01.yaml --live /run/web01.qmp     do what needs no power cycle; exit 1 where some is left
  mdtool reconcile web01.xml web01.yaml --launch --source /run/web01.qmp --daemonize
                                                     power the guest down, start it with its new hardware
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("guest", metavar="GUEST.xml", help="the guest XML as it should be (libvirt domain XML)")
    says = "the machine description, made where it does not exist; without it, the one inside of GUEST.xml (mdtool embed)"
    parser.add_argument("description", metavar="GUEST.yaml", nargs="?", help=says)
    parser.add_argument("-o", "--output", metavar="OUT", help="write the new description here and leave GUEST.yaml alone")
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
    add("--write-xml", metavar="FILE", help="write the XML with every address filled in; may be GUEST.xml")
    says = "in that XML: leave aliases alone, write our ids, or give every device one that libvirt keeps (ua-...)"
    add("--aliases", choices=("kept", "own", "ua"), default="kept", help=says)
    add("--minimal", action="store_true", help="write a description without addresses, for QEMU or the next run to choose")
    add("--rebase-machine", metavar="TYPE", help="change the machine type, and show what the guest sees otherwise")
    add("--live", metavar="SOURCE", help="plug and unplug in the guest that runs there, and list what needs a power cycle")
    add("--launch", action="store_true", help="start the guest with its new hardware, checked before it runs")
    add("--source", metavar="SOURCE", help="with --launch: the guest that runs, to be powered down before")
    add("--force", action="store_true", help="with --source: end a guest that does not power down")
    says = "how long the guest may take: to let go of a device (20), to power down (120)"
    add("--timeout", metavar="SECONDS", type=float, help=says)
    add("--via", choices=list(WAYS), help="with --launch: as for mdtool launch --via")
    for name in _LAUNCH:
        add(f"--{name}", metavar=name.upper(), help=f"with --launch: as for mdtool launch --{name}")
    for name in _LAUNCH_FLAGS:
        add(f"--{name}", action="store_true", help=f"with --launch: as for mdtool launch --{name}")


_LAUNCH = ("qmp", "pidfile", "log", "connect")
_LAUNCH_FLAGS = ("daemonize", "paused")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import locked, write_file
    from mdtool.guest.devices import guest_from_bytes
    from mdtool.guest.xml import xml_from_file
    from mdtool.machine.edit import rewritten
    from mdtool.machine.writer import yaml_from_tree
    from mdtool.reconcile import Options, reconcile
    from mdtool.reconcile.minimal import minimal
    from mdtool.reconcile.plan import Plan, json_from_plan

    inside = args.description is None and args.output is None
    target = args.output or args.description or args.guest
    with locked(target, *([args.write_xml] if args.write_xml else [])):
        source = xml_from_file(args.guest)
        guest = guest_from_bytes(source, args.guest)
        old = _described(args, source)
        options = Options(prefer=args.prefer, forget=args.forget, prune=args.prune, strict=args.strict)
        before = old.tree if old else None
        result = reconcile(guest, _bare(args, guest, before) if args.rebase_machine else before, options)
        warn_all(result.warnings)
        rebase = _rebased(guest, before, result.tree) if args.rebase_machine and before else None
        plan = Plan((rebase.step, *result.plan.steps)) if rebase else result.plan
        tree, xml = rebase.tree if rebase else result.tree, None
        if rebase is None and before is not None:
            tree, plan = _followed(guest, before, tree, plan)
        if args.write_xml:
            xml = _xml_with_places(source, guest, tree, args.aliases)
            if _same_file(args.write_xml, args.guest):
                tree = reconcile(guest_from_bytes(xml.encode(), args.guest), tree, options).tree
        outcomes, after = None, tree
        if plan and not args.dry_run:
            if args.live:
                outcomes, tree = _live(args, guest, before, tree, plan)
            if args.launch and args.source:
                _shut_down(args)
        if args.minimal:
            tree = minimal(tree)
        text = rewritten(old, tree) if old else yaml_from_tree(tree)
        if not args.dry_run and inside:
            from mdtool.review.embed import with_embedded

            into = xml if xml is not None and _same_file(args.write_xml, args.guest) else source
            write_file(target, with_embedded(into, text, args.guest))
        elif not args.dry_run and (old is None or args.output or text != old.text):
            write_file(target, text)
        if not args.dry_run and xml is not None and not (inside and _same_file(args.write_xml, args.guest)):
            write_file(args.write_xml, xml)
    if plan:
        from mdtool.review.plan import with_names

        plan = with_names(plan, before, after)
    if args.json:
        live: dict[str, Any] = {} if outcomes is None else {"live": [outcome.data() for outcome in outcomes]}
        live |= {"machine": [one.data() for one in rebase.differences]} if rebase else {}
        print(json.dumps({**json_from_plan(plan), **live}, indent=2))
    else:
        from mdtool.review.plan import text_from_plan

        print(text_from_plan(plan, coloured, kept=args.verbose))
        for one in rebase.differences if rebase else ():
            print(f"!  {one}")
        for outcome in outcomes or ():
            print(outcome)
    if args.dry_run:
        return 1 if plan else 0
    if old is None:
        say(f"wrote {target}")
    if args.launch:
        return _launch(args, target, changed=bool(plan))
    return 1 if any(outcome.left for outcome in outcomes or ()) else 0


def _described(args: argparse.Namespace, source: bytes) -> Document | None:
    """The description that there is: the file, or what is inside of the guest XML; None for a first time."""
    from mdtool.machine.document import document_from_file, document_from_text

    if args.description is not None:
        return document_from_file(args.description) if Path(args.description).exists() else None
    from mdtool.review.embed import embedded_in

    text = embedded_in(source, args.guest)
    return document_from_text(text, f"{args.guest} (description)") if text is not None else None


def _same_file(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _bare(args: argparse.Namespace, guest: Guest, old: Tree | None) -> Tree:
    from mdtool.apply.rebase import bare
    from mdtool.errors import InputError

    if old is None:
        raise InputError(f"{args.description} is not there: there is no machine type to change")
    return bare(guest, old, args.rebase_machine)


def _rebased(guest: Guest, old: Tree, new: Tree) -> Rebased:
    from mdtool.apply.rebase import rebased

    return rebased(guest, old, new)


def _followed(guest: Guest, before: Tree, tree: Tree, plan: Plan) -> tuple[Tree, Plan]:
    """The tree with the built-ins that its sections make; as it is where QEMU cannot be asked."""
    from mdtool.apply.builtins import are_touched, followed
    from mdtool.errors import MdtoolError

    if not are_touched(before, tree):
        return tree, plan
    try:
        return followed(guest, before, tree, plan)
    except MdtoolError as error:
        say(f"warning: the built-ins stay as described, since a rehearsal cannot show what becomes of them: {error}")
        return tree, plan


def _live(args: argparse.Namespace, guest: Guest, old: Tree | None, new: Tree, plan: Plan) -> tuple[list[Outcome], Tree]:
    """What was done, and the machine that runs now."""
    from mdtool.apply.live import UNPLUG_SECONDS, as_far, carried_out, check_before, differences
    from mdtool.errors import InputError, QemuError
    from mdtool.launch.backends.base import Host
    from mdtool.launch.prepare import free_port, wanted_by
    from mdtool.qemu.runtime import runtime_base
    from mdtool.qemu.session import session_from_source

    if old is None:
        remedy = f"describe it first: mdtool dump {args.live} --xml {args.guest} -o {args.description}"
        raise InputError(f"{args.description} is not there, and --live changes a described guest", remedy=remedy)
    host = Host(guest, runtime_base() / guest.key, free_port)
    with session_from_source(args.live) as session:
        check_before(session, old)
        outcomes = carried_out(session, plan, old, new, wanted_by(guest, new), host, seconds=args.timeout or UNPLUG_SECONDS)
        if found := differences(session, new, outcomes):
            raise QemuError("plugged in, and not as described: " + "; ".join(found))
    return outcomes, as_far(old, new, outcomes)


def _shut_down(args: argparse.Namespace) -> None:
    from mdtool.apply.restart import POWERDOWN_SECONDS, shut_down
    from mdtool.qemu.session import session_from_source

    def may_end(why: str) -> bool:
        if args.force or not sys.stdin.isatty():
            return bool(args.force)
        print(f"{why}; end it as pulling the plug would? [y/N] ", end="", file=sys.stderr, flush=True)
        return sys.stdin.readline().strip().lower() in ("y", "yes")

    say(f"powering down the guest at {args.source}")
    with session_from_source(args.source, connect=args.connect) as session:
        shut_down(session, seconds=args.timeout or POWERDOWN_SECONDS, may_end=may_end)


def _launch(args: argparse.Namespace, target: str, *, changed: bool) -> int:
    from mdtool.cli import launch

    if args.source and not changed:
        say("nothing changed: the guest runs on")
        return 0
    if args.source and args.qmp is None and os.path.isabs(args.source):
        args.qmp = args.source  # where it was reached before it is reached again
    if args.source and args.via is None and args.source.startswith("libvirt:"):
        args.via = "libvirt"
    words = [
        word for name in ("via", *_LAUNCH) if getattr(args, name) is not None for word in (f"--{name}", getattr(args, name))
    ]
    words += [f"--{name}" for name in _LAUNCH_FLAGS if getattr(args, name)]
    parser = argparse.ArgumentParser(prog="mdtool launch")
    launch.arguments(parser)
    files = [args.guest] if target == args.guest else [args.guest, target]
    return launch.run(parser.parse_args([*files, *words]))


def _xml_with_places(source: bytes, guest: Guest, tree: Tree, aliases: str) -> str:
    from mdtool.errors import Report
    from mdtool.guest.devices import wanted_from_guest
    from mdtool.guest.write import unwritten, xml_with_places

    if hand := unwritten(tree):
        say(f"warning: the written XML has no element for what a hand added to the description: {', '.join(hand)}")
    return xml_with_places(source, guest, tree, wanted_from_guest(guest, Report()), aliases=aliases)
