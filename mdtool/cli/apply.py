"""``mdtool apply GUEST.xml GUEST.yaml --source SOURCE``: a plan carried out in a guest."""

from __future__ import annotations

import argparse
import json
from typing import TYPE_CHECKING, Any

from mdtool.cli.output import asked, coloured, say, warn_all
from mdtool.cli.source import PAIRS, XML, Guests, access_of, source_arguments

if TYPE_CHECKING:
    from collections.abc import Callable

    from mdtool.apply.live_libvirt import Pending
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
_DONE = "nothing to do: the guest has this hardware, as far as its description knows"


def arguments(parser: argparse.ArgumentParser) -> None:
    from mdtool.launch.ways import WAYS

    add = parser.add_argument
    add("guest", metavar="GUEST.xml", help=f"the guest as it should be: {XML}; or a saved plan")
    add("description", metavar="GUEST.yaml", nargs="?", help="its description; without it, the one inside of GUEST.xml")
    add("more", metavar="MORE", nargs="*", help="further guest XML, and folders of XML and descriptions")
    add(
        "--source",
        metavar="SOURCE",
        required=True,
        help="the guest: a QMP socket, tcp:HOST:PORT, pid:N, libvirt:NAME (libvirt:)",
    )
    add("--restart", action="store_true", help="power the guest down and start it with its new hardware")
    add("--force", action="store_true", help="with --restart: end a guest that does not power down")
    add(
        "--timeout",
        metavar="SECONDS",
        type=float,
        help="how long: to let go of a device (20), to power down (120)",
    )
    add("-y", "--yes", action="store_true", help="do not ask")
    add("--json", action="store_true", help="the plan and what became of it as JSON on stdout")
    add("--prefer", choices=("xml", "description"), help="which one wins where both changed")
    add("--forget", action="store_true", help="clear the addresses kept for removed devices")
    add("--prune", action="store_true", help="remove ports and controllers that nothing uses any more")
    add("--write-xml", metavar="FILE", help="write the XML with every address filled in; may be GUEST.xml")
    add("--rebase-machine", metavar="TYPE", help="change the machine type")
    add("--strict", action="store_true", help="what the XML says and mdtool leaves out is an error")
    add("--via", choices=list(WAYS), help="with --restart: as for mdtool launch --via")
    for name in ("qmp", "pidfile", "log"):
        add(f"--{name}", metavar=name.upper(), help=f"with --restart: as for mdtool launch --{name}")
    for name in ("daemonize", "paused"):
        add(f"--{name}", action="store_true", help=f"with --restart: as for mdtool launch --{name}")
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.apply.live_libvirt import pending_of
    from mdtool.apply.revise import check_outputs, revised
    from mdtool.apply.saved import as_shown
    from mdtool.qemu.virsh import RUNS

    request = _request(args)
    check_outputs(request)
    revision = revised(request)
    _check_saved(args, revision)
    warn_all(revision.warnings)
    virsh, state = _libvirt(args, revision) if args.source.startswith("libvirt:") else (None, "running")
    pending = pending_of(revision, virsh) if virsh is not None and state in RUNS else None
    texts = revision.texts()
    in_step = virsh is None or state is None or _is_defined(virsh, revision)
    if not revision.plan and not texts and in_step and not _differs(args, revision, pending):
        say(_DONE)
        return 0
    _preview(args, revision, pending, state)
    if not asked("apply this?", yes=args.yes):
        say("nothing was done")
        return 1
    if virsh is not None and not (state in RUNS and args.restart):
        return _define(args, request, as_shown(revision), virsh, state, pending)
    return _carry_out(args, request, as_shown(revision))


def _differs(args: argparse.Namespace, revision: Revision, pending: Pending | None) -> bool:
    """Whether a machine that runs is not the described one, though nothing is to be reconciled: an edit came before."""
    if pending is not None or not args.restart:
        return pending is not None and bool(pending.steps)
    from mdtool.compare import comparison, guest_visible
    from mdtool.qemu.dump import dump
    from mdtool.qemu.session import session_from_source

    with session_from_source(args.source, connect=args.connect) as session:
        return bool(guest_visible(comparison(revision.tree, dump(session))[0]))


def _request(args: argparse.Namespace) -> Request:
    from mdtool.apply.revise import Request
    from mdtool.apply.saved import request_from_plan
    from mdtool.reconcile import Options

    access = access_of(args)
    if (data := _plan(args)) is not None:
        return request_from_plan(data, args.guest, access)
    return Request(
        guest=args.guest,
        description=args.description,
        write_xml=args.write_xml,
        machine=args.rebase_machine,
        options=Options(prefer=args.prefer, forget=args.forget, prune=args.prune, strict=args.strict),
        access=access,
    )


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


def _is_defined(virsh: Virsh, revision: Revision) -> bool:
    """Whether libvirt's XML makes the described machine already."""
    from mdtool.apply.define import differences

    return not differences(virsh.xml(virsh.named(revision.guest.name), "--inactive"), revision.tree)


def _preview(args: argparse.Namespace, revision: Revision, pending: Pending | None, state: str | None) -> None:
    """What a person wants to know first: what the guest notices, what is done live, what needs a power cycle, how long."""
    from mdtool.reconcile.plan import Action

    plan = _shown(revision, pending)
    say(_text(plan, revision, pending))
    steps = [step for step in plan.steps if step.action is not Action.KEEP]
    noticed = [step.name for step in steps if step.notices or step.action is not Action.MODIFY]
    say("the guest will notice: " + (", ".join(noticed) or "nothing"))
    for path in revision.texts():
        say(f"written: {path}")
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
    parts += [f"live: {', '.join(live)} (up to {seconds or 20:g} s each to let go)"] if live else []
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
    """libvirt first, which may refuse; then what can be done live.  What is left is told by mdtool status."""
    from mdtool.apply.define import check, define
    from mdtool.apply.live import UNPLUG_SECONDS
    from mdtool.apply.live_libvirt import carried_out, pending_of
    from mdtool.apply.revise import revised, write
    from mdtool.cli.output import said_kept
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
            raise ConflictError(what, remedy="look at the plan again", rule="plan-stale")
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


def _carry_out(args: argparse.Namespace, request: Request, agreed: Callable[[Revision], None]) -> int:
    """By the same service as ``mdtool reconcile --live`` and ``--launch``."""
    from mdtool.cli import output_arguments, reconcile

    words = [request.guest, *([request.description] if request.description else [])]
    words += ["--launch", "--source", args.source] if args.restart else ["--live", args.source]
    options = request.options
    given = {"prefer": options.prefer, "write-xml": request.write_xml, "rebase-machine": request.machine}
    given |= {"aliases": request.aliases, "qemu-root": args.qemu_root}
    given |= {name: getattr(args, name) for name in ("timeout", "via", "qmp", "pidfile", "log", "connect", "qemu")}
    words += [word for name, value in given.items() if value is not None for word in (f"--{name}", str(value))]
    flags = {"forget": options.forget, "prune": options.prune, "strict": options.strict, "minimal": request.minimal}
    flags |= {name: getattr(args, name) for name in ("force", "json", "daemonize", "paused")}
    words += [f"--{name}" for name, value in flags.items() if value]
    parser = argparse.ArgumentParser(prog="mdtool apply")
    reconcile.arguments(parser)
    output_arguments(parser)
    words += ["--output-format", args.output_format]
    parser.set_defaults(applied=True, agreed=agreed, forced=args.restart)
    return reconcile.run(parser.parse_args(words))
