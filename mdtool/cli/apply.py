"""``mdtool apply GUEST.xml GUEST.yaml --source SOURCE``: a plan carried out in a guest."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mdtool.cli import launch
from mdtool.cli.options import LAUNCH, REVISION, options, via_option
from mdtool.cli.output import asked, said_kept, say, warn_all
from mdtool.cli.plan import show_plan
from mdtool.cli.source import MORE, PAIRS, XML, Guests, access_of, request_of, source_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mdtool.apply.proposal import Proposal
    from mdtool.apply.relaunch import Relaunch
    from mdtool.apply.revise import Request, Revision

EXAMPLE = """\
example:
  mdtool apply web01.xml web01.yaml --source /run/web01.qmp             do what can be done live; exit 1 where some is left
  mdtool apply web01.xml web01.yaml --source /run/web01.qmp --restart   power it down, start it with its new hardware
  mdtool apply web01.xml web01.yaml --source libvirt:web01              the same, and define it for its next start
  mdtool reconcile web01.xml web01.yaml --dry-run --json -o plan.json   a plan to look at, and later
  mdtool apply plan.json --source libvirt:web01 --restart --yes         carried out, or refused where it is another by now
  mdtool apply guests/ --source libvirt: --yes                          guest by guest, up to the first that fails

Nothing is done before the plan was shown and agreed to: on a terminal by an answer, else with --yes.
"""
GUESTS = Guests(PAIRS, ("guest", "description", "more"), {"write_xml": ".xml"}, one_by_one=True)
_DONE = "nothing to do: the guest is as described"


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("guest", metavar="GUEST.xml", help=f"the guest as it should be: {XML}; or a saved plan")
    add("description", metavar="GUEST.yaml", nargs="?", help="its description; without it, the one inside of GUEST.xml")
    add("more", metavar="MORE", nargs="*", default=[], help=MORE)
    says = "the guest: a QMP socket, tcp:HOST:PORT, pid:N or libvirt:NAME; libvirt: for many"
    add("--source", metavar="SOURCE", required=True, help=says)
    add("--restart", action="store_true", help="power the guest down and start it with its new hardware")
    add("--force", action="store_true", help="with --restart: end a guest that does not power down")
    says = "how long to wait for the guest: to release a device (20), to power down (120)"
    add("--timeout", metavar="SECONDS", type=float, help=says)
    options(parser, "--yes")
    options(parser, "--json", help="the plan and what became of it as JSON on stdout")
    options(parser, *REVISION)
    with_restart = parser.add_argument_group("with --restart, as for mdtool launch")
    via_option(with_restart)
    options(with_restart, *LAUNCH)
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.apply.proposal import proposed
    from mdtool.apply.revise import check_outputs, revised
    from mdtool.apply.saved import as_shown, check_same

    plan = _saved_plan(args)
    request = _request(args, plan)
    check_outputs(request)
    revision = revised(request)
    if plan is not None:
        check_same(plan, revision, args.guest)
    warn_all(revision.warnings)
    proposal = proposed(revision, args.source, restart=args.restart, connect=args.connect)
    if proposal is None:
        say(_DONE)
        return 0
    _preview(proposal, args.timeout)
    if not asked("apply this?", yes=args.yes):
        say("nothing was done")
        return 1
    if proposal.defines:
        return _define(args, proposal)
    return carry_out(args, request, as_shown(revision), forced=True)


def _saved_plan(args: argparse.Namespace) -> dict[str, Any] | None:
    """The saved plan that the first argument names; None where it is guest XML."""
    from mdtool.files import text_from_bytes
    from mdtool.sources import data_from_source

    data = data_from_source(args.guest, access_of(args))
    if args.description is not None or not data.lstrip().startswith(b"{"):
        return None
    try:
        found = json.loads(text_from_bytes(data, args.guest))
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _request(args: argparse.Namespace, plan: dict[str, Any] | None) -> Request:
    if plan is None:
        return request_of(args)
    from mdtool.apply.saved import request_from_plan

    return request_from_plan(plan, args.guest, access_of(args))


def _preview(proposal: Proposal, seconds: float | None) -> None:
    """What a person wants to know first: what the guest notices, what is done live, what needs a power cycle, how long."""
    from mdtool.review.plan import text_from_plan, with_names

    revision, pending, plan = proposal.revision, proposal.pending, proposal.plan
    old, new = (pending.running, pending.tree) if pending is not None else (revision.before, revision.tree)
    say(text_from_plan(with_names(plan, old, new) if plan else plan))
    say("the guest will notice: " + (", ".join(proposal.noticed) or "nothing"))
    for path in revision.texts():
        say(f"will be written: {path}")
    say(_how(proposal, seconds))
    if proposal.xml_paths:
        say(f"what changes in the XML: {', '.join(proposal.xml_paths)}")


def _how(proposal: Proposal, seconds: float | None) -> str:
    name, state = proposal.revision.guest.name, proposal.state or "not there yet"
    if proposal.virsh is not None and proposal.pending is None:
        return f"libvirt's '{name}' is {state}: it is defined, and has the new hardware from its next start"
    if proposal.restart:
        return f"the guest is powered down (up to {seconds or 120:g} s) and started with its new hardware"
    parts = [f"libvirt's '{name}' is defined, for its next start"] if proposal.virsh is not None else []
    live = [step.name for step in proposal.plan.changes if step.hot]
    cold = [step.name for step in proposal.plan.changes if not step.hot]
    wait = any(step.hot and step.action.value in "-±" for step in proposal.plan.changes)
    patience = f" (up to {seconds or 20:g} s for the guest to release a device)" if wait else ""
    parts += [f"live: {', '.join(live)}{patience}"] if live else []
    parts += [f"needs a power cycle (--restart), and is left: {', '.join(cold)}"] if cold else []
    return "; ".join(parts) or "nothing is done in the guest"


def _define(args: argparse.Namespace, proposal: Proposal) -> int:
    """libvirt's part of a proposal, and what became of it; mdtool status lists what is left."""
    from mdtool.reconcile.plan import json_from_plan

    done = proposal.define(say, args.timeout)
    said_kept(*done.kept)
    if args.json:
        more = {"writes": done.written, "live": [outcome.data() for outcome in done.outcomes]}
        print(json.dumps({**json_from_plan(proposal.plan), **more}, indent=2))
    else:
        for outcome in done.outcomes:
            print(outcome)
    return 1 if any(outcome.left for outcome in done.outcomes) else 0


def carry_out(
    args: argparse.Namespace,
    request: Request,
    agreed: Callable[[Revision], None] = lambda _: None,
    *,
    forced: bool = False,
) -> int:
    """The request in the guest at ``args.source``: live, or with ``args.restart`` by a power cycle.

    ``forced`` is for a power cycle without a plan: the guest that runs is not as its description already says.
    """
    from mdtool.apply.live import UNPLUG_SECONDS, plugged
    from mdtool.apply.revise import check_outputs, revised, write
    from mdtool.files import locked

    started = launch.arguments_for(args, request) if args.restart else None
    with ExitStack() as lock:
        check_outputs(request)
        lock.enter_context(locked(*request.outputs))
        revision = revised(request)
        agreed(revision)
        warn_all(revision.warnings)
        if started is not None and (revision.plan or forced):
            return _power_cycle(args, started, revision, lock, seen=forced)
        outcomes, tree = None, revision.tree
        if started is None and revision.plan:
            outcomes, tree = plugged(revision, args.source, args.timeout or UNPLUG_SECONDS)
        texts = revision.texts(tree)
        said_kept(*write(texts, request))
    show_plan(args, revision, texts, outcomes, seen=forced)
    if started is not None:
        say("nothing changed: the guest keeps running")
    return 1 if any(outcome.left for outcome in outcomes or ()) else 0


def _power_cycle(
    args: argparse.Namespace, started: argparse.Namespace, revision: Revision, lock: ExitStack, *, seen: bool
) -> int:
    """The exit status; where the new machine is not as described, what differs is printed as a launch prints it."""
    from mdtool.launch.run import Differs

    texts = revision.texts()
    relaunch = _relaunch(args, started, revision, texts, lock)
    relaunch.check()
    show_plan(args, revision, texts, seen=seen)
    relaunch.shut_down()

    def start(ready: Callable[[int], None] | None) -> int:
        relaunch.ready = ready
        try:
            return relaunch.start()
        except Differs as error:
            return launch.show(args, error.found)

    if not args.daemonize:
        return start(None)
    from mdtool.qemu.background import daemonized

    return daemonized(start)


def _relaunch(
    args: argparse.Namespace, started: argparse.Namespace, revision: Revision, texts: Mapping[str, str], lock: ExitStack
) -> Relaunch:
    from mdtool.apply.relaunch import Relaunch
    from mdtool.apply.restart import POWERDOWN_SECONDS
    from mdtool.apply.revise import write_one
    from mdtool.files import Rewrite

    def may_end(why: str) -> bool:
        if args.force or not sys.stdin.isatty():
            return bool(args.force)
        return asked(f"{why}; end it as a power cut would?")

    return Relaunch(
        revision.guest,
        revision.tree,
        launch.way_of(started),
        args.source,
        Rewrite(texts, lambda path, text: said_kept(write_one(path, text, revision.request))),
        launch.settings_of(started),
        connect=args.connect,
        seconds=args.timeout or POWERDOWN_SECONDS,
        may_end=may_end,
        written=lock.close,
    )
