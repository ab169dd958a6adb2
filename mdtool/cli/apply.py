"""``mdtool apply GUEST.xml GUEST.yaml --source SOURCE``: a plan carried out in a guest."""

from __future__ import annotations

import argparse
import json
import sys
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any

from mdtool.cli import launch
from mdtool.cli.options import LAUNCH, REVISION, options, via_option
from mdtool.cli.output import asked, coloured, said_kept, say, warn_all
from mdtool.cli.plan import show_plan
from mdtool.cli.source import MORE, PAIRS, XML, Guests, access_of, request_of, source_arguments

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from mdtool.apply.live_libvirt import Pending
    from mdtool.apply.relaunch import Relaunch
    from mdtool.apply.revise import Request, Revision
    from mdtool.qemu.virsh import Virsh
    from mdtool.reconcile.plan import Plan, Step

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
    from mdtool.apply.live_libvirt import pending_of
    from mdtool.apply.revise import check_outputs, revised
    from mdtool.apply.saved import as_shown
    from mdtool.qemu.session import session_from_source
    from mdtool.qemu.virsh import RUNS

    request = _request(args)
    check_outputs(request)
    revision = revised(request)
    _check_saved(args, revision)
    warn_all(revision.warnings)
    virsh, state = _libvirt(args, revision) if args.source.startswith("libvirt:") else (None, "running")
    if virsh is None:
        with session_from_source(args.source):
            pass  # there is a guest, before anybody is asked about it
    pending = pending_of(revision, virsh) if virsh is not None and state in RUNS else None
    host_side = _out_of_step(args, virsh, state, revision, pending) if virsh is not None else None
    if not revision.plan and not revision.texts() and host_side is None and (virsh or not _differs(args, revision)):
        say(_DONE)
        return 0
    _preview(args, revision, pending, state)
    if host_side:
        say(f"the host side changes: {', '.join(host_side)}")
    if not asked("apply this?", yes=args.yes):
        say("nothing was done")
        return 1
    if virsh is not None and not (state in RUNS and args.restart):
        return _define(args, request, as_shown(revision), virsh, state, pending)
    return carry_out(args, request, as_shown(revision), forced=True)


def _differs(args: argparse.Namespace, revision: Revision) -> bool:
    """Whether the machine that runs is not the described one, though nothing is to be reconciled: an edit came before.

    Raises ConflictError for one that must not be restarted.
    """
    from mdtool.apply.live import check_before
    from mdtool.compare import comparison, guest_visible
    from mdtool.qemu.dump import dump
    from mdtool.qemu.session import session_from_source

    with session_from_source(args.source) as session:
        if args.restart:
            return bool(guest_visible(comparison(revision.tree, dump(session))[0]))
        check_before(session, revision.tree)
    return False


def _request(args: argparse.Namespace) -> Request:
    from mdtool.apply.saved import request_from_plan

    data = _plan(args)
    return request_of(args) if data is None else request_from_plan(data, args.guest, access_of(args))


def _plan(args: argparse.Namespace) -> dict[str, Any] | None:
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


def _check_saved(args: argparse.Namespace, revision: Revision) -> None:
    from mdtool.apply.saved import check_same

    if (data := _plan(args)) is not None:
        check_same(data, revision, args.guest)


def _libvirt(args: argparse.Namespace, revision: Revision) -> tuple[Virsh, str | None]:
    from mdtool.apply.define import check
    from mdtool.errors import ConflictError
    from mdtool.qemu.virsh import Virsh

    name = args.source.partition(":")[2]
    if name != revision.guest.name:
        raise ConflictError(f"{args.source} is another guest than '{revision.guest.name}'", rule="other-guest")
    virsh = Virsh(args.connect)
    return virsh, check(virsh, name)


def _out_of_step(
    args: argparse.Namespace, virsh: Virsh, state: str | None, revision: Revision, pending: Pending | None
) -> list[str] | None:
    """What libvirt's definition, or with ``--restart`` the guest that runs, has otherwise on the host side; None where all
    is as it should be, the machine too."""
    from mdtool.apply.define import differences, not_running, undefined

    if state is None:
        return []
    domain = virsh.named(revision.guest.name)
    kept = virsh.public_xml(domain)
    more = undefined(revision.guest, revision.tree, kept)
    if pending is not None and args.restart:
        more += not_running(kept, virsh("dumpxml", domain))
    steps = differences(kept, revision.tree) or (pending is not None and pending.steps)
    return sorted({*more}) if more or steps else None


def _preview(args: argparse.Namespace, revision: Revision, pending: Pending | None, state: str | None) -> None:
    """What a person wants to know first: what the guest notices, what is done live, what needs a power cycle, how long."""
    from mdtool.reconcile.plan import Action

    plan = _shown(revision, pending)
    say(_text(plan, revision, pending))
    steps = [step for step in plan.steps if step.action is not Action.KEEP]
    noticed = [step.name for step in steps if step.notices or step.action is not Action.MODIFY]
    say("the guest will notice: " + (", ".join(noticed) or "nothing"))
    for path in revision.texts():
        say(f"will be written: {path}")
    say(_how(args, steps, state, is_live=pending is not None))


def _shown(revision: Revision, pending: Pending | None) -> Plan:
    """The plan for the machine that runs, where libvirt runs one."""
    return pending.plan if pending is not None and pending.plan else revision.plan


def _text(plan: Plan, revision: Revision, pending: Pending | None) -> str:
    from mdtool.review.plan import text_from_plan, with_names

    old, new = (pending.running, pending.tree) if pending is not None else (revision.before, revision.tree)
    return text_from_plan(with_names(plan, old, new) if plan else plan)


def _how(args: argparse.Namespace, steps: list[Step], state: str | None, *, is_live: bool) -> str:
    name = args.source.partition(":")[2]
    of_libvirt = args.source.startswith("libvirt:")
    if of_libvirt and not is_live:
        return (
            f"libvirt's '{name}' is {state or 'not there yet'}: it is defined, and has the new hardware from its next start"
        )
    seconds = args.timeout
    if args.restart:
        return f"the guest is powered down (up to {seconds or 120:g} s) and started with its new hardware"
    parts = [f"libvirt's '{name}' is defined, for its next start"] if of_libvirt else []
    live = [step.name for step in steps if step.hot]
    cold = [step.name for step in steps if not step.hot]
    parts += [f"live: {', '.join(live)} (up to {seconds or 20:g} s each to be released)"] if live else []
    parts += [f"needs a power cycle (--restart), and is left: {', '.join(cold)}"] if cold else []
    return "; ".join(parts) or "nothing is done in the guest"


def _define(
    args: argparse.Namespace,
    request: Request,
    agreed: Callable[[Revision], None],
    virsh: Virsh,
    state: str | None,
    pending: Pending | None,
) -> int:
    """libvirt first, which may refuse; then what can be done live.  mdtool status lists what is left."""
    from mdtool.apply.define import check, define
    from mdtool.apply.live import UNPLUG_SECONDS
    from mdtool.apply.live_libvirt import carried_out, pending_of
    from mdtool.apply.revise import revised, write
    from mdtool.errors import ConflictError
    from mdtool.files import locked
    from mdtool.reconcile.plan import json_from_plan

    with locked(request.target):
        revision = revised(request)
        agreed(revision)
        now = check(virsh, revision.guest.name)
        same = pending is None or (now == state and pending_of(revision, virsh).plan == pending.plan)
        if now != state or not same:
            was = f"was {state or 'not there'} with other hardware when the plan was shown"
            what = f"libvirt's '{revision.guest.name}' is {now or 'gone'}, and {was}"
            raise ConflictError(what, remedy="review the plan again", rule="plan-stale")
        define(revision, virsh, say)
        texts = revision.texts()
        said_kept(*write(texts, revision.request))
        say(coloured(f"defined {revision.guest.name}", "green"))
        outcomes = carried_out(pending, seconds=args.timeout or UNPLUG_SECONDS) if pending is not None else []
    if args.json:
        done = {"writes": sorted(texts), "live": [outcome.data() for outcome in outcomes]}
        print(json.dumps({**json_from_plan(_shown(revision, pending)), **done}, indent=2))
    else:
        for outcome in outcomes:
            print(outcome)
    return 1 if any(outcome.left for outcome in outcomes) else 0


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
