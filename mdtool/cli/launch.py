"""``mdtool launch GUEST.xml GUEST.yaml``"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.cli.options import LAUNCH, options, via_option
from mdtool.cli.output import coloured, result, say, warn_all
from mdtool.cli.source import DESCRIPTION, XML, access_of, source_arguments
from mdtool.errors import ConflictError, InputError, MdtoolError
from mdtool.text import as_command, counted

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mdtool.apply.revise import Request
    from mdtool.compare import Compared, Difference
    from mdtool.guest.model import Guest, Wanted
    from mdtool.launch.prepare import Prepared
    from mdtool.launch.run import Settings
    from mdtool.launch.ways import Way
    from mdtool.machine.tree import Tree
    from mdtool.qemu.process import QemuProcess

EXAMPLE = """\
example:
  mdtool launch web01.xml web01.yaml                    start paused, compare, then run until it ends
  mdtool launch web01.xml web01.yaml --rehearse         only try it: no disks, no network; exit 0 if as described
  mdtool launch web01.xml web01.yaml --print            the command line, for a shell
  mdtool launch web01.xml web01.yaml --daemonize --qmp /run/web01.qmp --pidfile /run/web01.pid
"""


_SECONDS = 30.0
#: what only mdtool launch asks for
_NOT_ASKED: dict[str, Any] = {
    **dict.fromkeys(("hints", "hints_out", "incoming", "user")),
    **dict.fromkeys(("rehearse", "print", "no_sandbox"), False),
}


def arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("guest", metavar="GUEST.xml", help=f"devices and their host side: {XML}")
    add(
        "description",
        metavar="GUEST.yaml",
        nargs="?",
        help=f"{DESCRIPTION}; without it, as the XML alone says",
    )
    via_option(parser)
    add("--hints", metavar="FILE", help="addresses from this file in place of a description (mdtool hints export)")
    add("--hints-out", metavar="FILE", help="write the addresses of the machine that runs to this file")
    says = "start with placeholder back ends, compare, end; exit 1 where something differs"
    add("--rehearse", action="store_true", help=says)
    add("--print", action="store_true", help="show the command line, shell-quoted, and start nothing")
    options(parser, "--json", help="with --print a JSON list; otherwise what differs")
    options(parser, *LAUNCH)
    add("--incoming", metavar="URI", help="take the guest's state from a migration: tcp:0:4444, exec:cat FILE, ...")
    add("--user", metavar="USER", help="run QEMU as this user, with that user's groups (as root); a name, or UID:GID")
    add("--no-sandbox", action="store_true", help="do not restrict QEMU's system calls")
    add("--timeout", metavar="SECONDS", type=float, default=_SECONDS, help="how long QEMU may take to start (30)")
    source_arguments(parser)


def arguments_for(args: argparse.Namespace, request: Request) -> argparse.Namespace:
    """The arguments of a launch of what a request writes, by the options of another command.  Raises InputError."""
    made = argparse.Namespace(**{**_NOT_ASKED, **vars(args), "guest": request.guest, "timeout": _SECONDS})
    made.description = None if request.target == request.guest else request.target
    if args.source and made.qmp is None and os.path.exists(args.source):
        made.qmp = args.source  # the socket by which the guest was reached, and is reached again
    if args.source and made.via is None and args.source.startswith("libvirt:"):
        made.via = "libvirt"
    way_of(made)
    return made


def settings_of(args: argparse.Namespace, **more: Any) -> Settings:
    from mdtool.launch.run import Settings

    return Settings(
        paused=args.paused,
        qmp=args.qmp,
        pidfile=Path(args.pidfile) if args.pidfile else None,
        log=Path(args.log) if args.log else None,
        incoming=args.incoming,
        timeout=args.timeout,
        sandbox=not args.no_sandbox,
        user=args.user,
        say=say,
        **more,
    )


def run(args: argparse.Namespace) -> int:
    if not args.daemonize:
        return _launch(args, None)
    from mdtool.qemu.background import daemonized

    return daemonized(lambda ready: _launch(args, lambda: ready(0)))  # while the process is small, and so quick to fork


def _launch(args: argparse.Namespace, ready: Callable[[], None] | None) -> int:
    from mdtool.launch.context import LaunchContext
    from mdtool.launch.prepare import free_port, prepared, wanted_by
    from mdtool.sources import guest_from_source

    way = way_of(args)
    guest = guest_from_source(args.guest, access_of(args))
    tree = _up_to_date(args, guest)
    if way.by_libvirt:
        return _by_libvirt(guest, tree, wanted_by(guest, tree), args)

    def prepare(runtime: Path | None, port: Callable[[int], int] = int) -> Prepared:
        context = LaunchContext(rehearse=args.rehearse, runtime=runtime, port=port)
        made = prepared(guest, tree, wanted_by(guest, tree), via=way.name, context=context)
        warn_all(made.commandline.warnings if made.commandline is not None else ())
        return made

    if args.print:
        return _print(prepare(None), args)
    if args.rehearse and not (args.paused or args.qmp):  # with either, the guest is to be looked at first
        return _rehearse(prepare(None), args)
    return _start(guest, tree, lambda runtime: prepare(runtime, free_port), args, ready)


def _up_to_date(args: argparse.Namespace, guest: Guest) -> Tree:
    """What QEMU is to be: the description, which the XML must not change.  Raises ConflictError where it would."""
    from mdtool.reconcile import reconcile

    if args.hints:
        from mdtool.launch.hints import fitted, tree_from_hints

        old: Tree | None = fitted(tree_from_hints(args.hints), guest)
    else:
        old = _described(args)
    reconciled = reconcile(guest, old)
    warn_all(reconciled.warnings)
    if old is not None and not args.hints and reconciled.plan:
        from mdtool.review.plan import text_from_plan

        named = args.description or f"the description inside of {args.guest}"
        raise ConflictError(
            f"{named} is not up to date with {args.guest}:\n{text_from_plan(reconciled.plan)}",
            remedy=as_command("reconcile", args.guest, *filter(None, [args.description])),
            rule="reconciled",
        )
    return reconciled.tree


def _print(made: Prepared, args: argparse.Namespace) -> int:
    from mdtool.launch.script import data_from_prepared, script_from_prepared

    for error in made.commandline.refused if made.commandline is not None else ():
        say(f"a launch would end with this: {error}")
    script = script_from_prepared(made, paused=args.paused)
    result((json.dumps(data_from_prepared(made), indent=1) if args.json else script) + "\n")
    return 0


def _start(
    guest: Guest,
    tree: Tree,
    prepare: Callable[[Path], Prepared],
    args: argparse.Namespace,
    ready: Callable[[], None] | None,
) -> int:
    """Start QEMU, compare, let the guest run, and keep its hints up to date if asked to."""
    from mdtool.files import write_file
    from mdtool.launch import run as launch

    hints = Path(args.hints_out).absolute() if args.hints_out else None

    def runs() -> None:
        if hints is not None:
            from mdtool.launch.hints import hints_from_tree

            try:
                write_file(hints, hints_from_tree(tree))
            except MdtoolError as error:
                say(f"warning: {error.what}")

    def follow(qemu: QemuProcess) -> None:
        if hints is not None and os.path.isfile(args.guest):
            from mdtool.launch.hints import exported_while_it_runs

            exported_while_it_runs(qemu, Path(args.guest).absolute(), tree, partial(write_file, hints), say)

    settings = settings_of(args, runs=runs, ready=ready, follow=follow if hints is not None else None)
    try:
        return launch.launched(guest, prepare, settings)
    except launch.Differs as error:
        return show(args, error.found)


def way_of(args: argparse.Namespace) -> Way:
    """The way of ``--via``, which can do all that the arguments ask for.  Raises InputError."""
    from mdtool.launch.ways import chosen

    if args.hints and args.description:
        raise InputError("give either a description or --hints", rule="hints")
    way = chosen(args.via, hints=bool(args.hints))
    if args.rehearse and not way.rehearses:
        what = f"--via {way.name} cannot rehearse: libvirt starts no guest without its host side"
        raise InputError(what, remedy="rehearse with another --via: the machine is the same", rule="rehearse")
    if asked := [f"--{name.replace('_', '-')}" for name in way.refuses if getattr(args, name)]:
        what = f"{', '.join(asked)}: libvirt runs the guest, and decides that itself"
        raise InputError(what, remedy="leave it out, or launch with another --via", rule=f"via-{way.name}")
    return way


def _described(args: argparse.Namespace) -> Tree | None:
    """The description in its file, or the one inside of the guest XML; None if there is none."""
    from mdtool.sources import data_from_source, document_from_source, embedded_document

    access = access_of(args)
    if args.description:
        return document_from_source(args.description, access).tree
    document = embedded_document(data_from_source(args.guest, access), args.guest)
    return document.tree if document is not None else None


def _by_libvirt(guest: Guest, tree: Tree, wanted: Sequence[Wanted], args: argparse.Namespace) -> int:
    from mdtool.launch.libvirt import launched_by_libvirt, manual_overrides, xml_for_libvirt
    from mdtool.launch.run import Differs, Settings

    if args.print:
        result(xml_for_libvirt(guest.source, guest, tree, wanted, manual_overrides(tree, wanted)))
        return 0
    try:
        settings = Settings(paused=args.paused, say=say)
        launched_by_libvirt(guest, tree, wanted, connect=args.connect, settings=settings)
    except Differs as error:
        return show(args, error.found)
    if args.hints_out:
        from mdtool.files import write_file
        from mdtool.launch.hints import hints_from_tree

        write_file(args.hints_out, hints_from_tree(tree))
    return 0


def _rehearse(prepared: Prepared, args: argparse.Namespace) -> int:
    from mdtool.launch.rehearse import rehearsal
    from mdtool.launch.start import checked

    for name in ("pidfile", "log", "incoming", "daemonize", "user", "hints_out"):
        if getattr(args, name):
            what = f"--{name.replace('_', '-')}: a rehearsal starts, compares and ends"
            raise InputError(what, remedy="leave it out, or let it stay with --paused", rule="rehearse")
    with rehearsal(prepared, timeout=args.timeout, say=say) as qemu:
        found, compared = checked(qemu, prepared)
    if prepared.substitutes and not args.json:
        say("not compared, since they need the host: " + ", ".join(sorted(prepared.substitutes)))
    return show(args, found, compared)


def show(args: argparse.Namespace, found: Sequence[Difference], compared: Compared | None = None, **more: Any) -> int:
    """Print what differs, in the format of ``args``; exit status 1 where a guest would see it.

    ``more`` is added to what ``--json`` prints.
    """
    from mdtool.cli.findings import from_difference, write
    from mdtool.compare import guest_visible

    if args.json:
        data: dict[str, Any] = {"differences": [difference.data() for difference in found]}
        data |= {} if compared is None else {"compared": compared.data()}
        print(json.dumps({**data, **more}, indent=1))
    elif args.output_format != "text":
        write([from_difference(one) for one in found], args.output_format)
    else:
        for difference in found:
            colour = "red" if guest_visible([difference]) else "yellow"
            place = f"{difference.position}: " if difference.position else ""
            print(coloured(f"{place}{difference} [{difference.severity}]", colour))
        if compared is not None:
            print(f"{counted(len(guest_visible(found)), 'difference')} that a guest sees; {compared}")
    return 1 if guest_visible(found) else 0
