"""mdtool audit: what guests will see differently with another QEMU."""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.cli.findings import Reported, data, from_error, write
from mdtool.cli.many import DESCRIPTIONS, files_in
from mdtool.cli.options import options
from mdtool.cli.output import coloured, say
from mdtool.cli.source import MACHINE, connect_argument
from mdtool.errors import InputError, MdtoolError, Position, Report

if TYPE_CHECKING:
    from mdtool.machine.tree import Tree
    from mdtool.proof.audit import Audit, ChangeGroup

EXAMPLE = """\
example:
  mdtool audit web01.yaml --qemu /opt/qemu-11/bin/qemu-system-x86_64
  mdtool audit web01.yaml --qemu qemu-system-x86_64 --qemu-root /srv/sid     a debootstrapped folder, without chroot
  mdtool audit web01.yaml --qemu-root /srv/sid --fix                         write what restores the old view
  mdtool audit guests/ --qemu-root /srv/sid                                  one table for a folder of descriptions
  mdtool audit libvirt:web01 --qemu-root /srv/sid                            a guest that runs, without a description
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sources", metavar="SOURCE", nargs="+", help=f"{MACHINE}; or a folder of descriptions")
    connect_argument(parser)
    parser.add_argument("--qemu", metavar="BINARY", help="the new QEMU; default: the guest's architecture's, by name")
    parser.add_argument("--qemu-root", metavar="DIR", help="the folder that the new QEMU lives in, as / does")
    parser.add_argument("--against", metavar="BINARY", help="the old QEMU; default: the installed one")
    parser.add_argument("--against-root", metavar="DIR", help="the folder that the old QEMU lives in")
    parser.add_argument(
        "--fix", action="store_true", help="write the properties that restore the old view into the descriptions"
    )
    parser.add_argument("--no-causes", action="store_true", help="do not look for responsible properties: quicker")
    parser.add_argument("--no-migration", action="store_true", help="do not try the state of one in the other")
    parser.add_argument(
        "--fail-on",
        metavar="SEVERITY",
        choices=("identity", "address", "pci", "property", "firmware", "text"),
        help="exit with 1 only for what is at least so bad: identity, address, pci, property, firmware (tables), text "
        "(builds of firmware and ROMs); without it for anything",
    )
    parser.add_argument(
        "--jobs",
        metavar="N",
        type=int,
        default=0,
        help="how many guests at the same time (2, or one on a single processor)",
    )
    options(parser, "--json", help="the whole report as JSON")


def run(args: argparse.Namespace) -> int:
    from mdtool.proof.verdict import fails

    files = _files(args.sources)
    if args.fix:
        _check_fixable(files)
    audits, errors = _audits(files, args)
    report = Report()
    for error in errors.values():
        report.error(error)
    if args.output_format == "jsonl":
        for file in files:
            print(json.dumps({"guest": file, **_row(audits.get(file), errors.get(file), args.fail_on)}))
    elif args.json and audits:
        found_of = {file: found.data() for file, found in audits.items()}
        print(json.dumps(next(iter(found_of.values())) if len(files) == 1 and found_of else found_of, indent=1))
    elif args.output_format == "text":
        _write_text(audits, is_one=len(files) == 1, causes=not args.no_causes)
    else:
        write([*_findings(audits), *(one for error in report.errors for one in from_error(error))], args.output_format)
    if args.fix:
        for file, found in audits.items():
            _fix(file, found)
    if args.json and audits and args.output_format != "jsonl":  # standard output has one document already
        for error in report.errors:
            say(f"{error}")
    elif args.output_format == "text" or (args.json and args.output_format != "jsonl"):
        report.done()
    if report.errors:
        return 2
    return 1 if any(fails(found, args.fail_on) for found in audits.values()) else 0


def _row(found: Audit | None, error: MdtoolError | None, fail_on: str | None) -> dict[str, Any]:
    """One guest for ``jsonl``; an audit that did not start has an error in its place."""
    from mdtool.proof.verdict import fails, verdict

    if found is None:
        return {"status": 2, "result": None, "errors": [data(one) for one in from_error(error)] if error else []}
    return {"status": int(fails(found, fail_on)), "result": {**found.data(), "verdict": verdict(found)}}


def _write_text(audits: Mapping[str, Audit], *, is_one: bool, causes: bool) -> None:
    if is_one:
        for found in audits.values():
            _report(found, causes=causes)
        return
    _table(audits)
    _causes(audits, explained=causes)


def _findings(audits: Mapping[str, Audit]) -> list[Reported]:
    """What differs in each guest, at the device in its description; only another build of a text is a warning."""
    from mdtool.proof.verdict import TEXT, level

    found = []
    for file, audit in audits.items():
        at = Position(file, 1) if os.path.isfile(file) else None
        lines = _lines(file) if at is not None else {}
        if not audit.type.known:
            found.append(Reported("error", f"{audit.type.name} is gone from QEMU {audit.versions[1]}", "identity", at))
        for one in audit.findings:
            severity, where = "warning" if level(one) == TEXT else "error", lines.get(one.changes[0].node or "", at)
            found.append(Reported(severity, str(one), level(one), where))
        for name, loaded in (("forward", audit.forward), ("backward", audit.backward)):
            if loaded is not None and not loaded.ok:
                found.append(Reported("error", f"migration {name}: {loaded}", "migration", at))
    return found


def _lines(file: str) -> dict[str, Position]:
    """Where each device stands in a description; {} for another source."""
    from mdtool.machine.document import tree_from_file

    try:
        places = tree_from_file(file).places
    except MdtoolError:
        return {}
    return {place.name: place.node.position for place in places if place.node.position is not None}


def _audits(files: list[str], args: argparse.Namespace) -> tuple[dict[str, Audit], dict[str, MdtoolError]]:
    """The audit of each file, some at once; one that does not start keeps no other from being looked at: its error."""
    jobs = args.jobs if args.jobs > 0 else min(2, os.cpu_count() or 1)
    audits: dict[str, Audit] = {}
    errors: dict[str, MdtoolError] = {}
    trees: dict[str, Tree] = {}
    for file in files:  # a rehearsal handles signals, which is the main thread's
        try:
            trees[file] = _tree(file, args)
        except MdtoolError as error:
            errors[file] = error
    with ThreadPoolExecutor(max_workers=min(jobs, len(files))) as pool:
        running = {
            file: pool.submit(_audit, tree, args, f"{file}: " if len(files) > 1 else "") for file, tree in trees.items()
        }
        for number, (file, future) in enumerate(running.items(), 1):
            try:
                audits[file] = future.result()
            except MdtoolError as error:
                errors[file] = error
            if len(files) > 1 and sys.stderr.isatty():
                say(f"{number} of {len(files)}: {file}")
    return audits, errors


def _files(names: list[str]) -> list[str]:
    """The sources, with the descriptions of a folder in its place."""
    return [file for name in names for file in files_in(name, DESCRIPTIONS)]


def _check_fixable(files: list[str]) -> None:
    from mdtool.sources import SourceKind, is_running, kind_of

    for file in files:
        if is_running(file) or not Path(file).is_file() or kind_of(file) is not SourceKind.DESCRIPTION:
            raise InputError(f"--fix cannot write into {file}", expected="a file with a description", rule="audit-fix")


def _tree(file: str, args: argparse.Namespace) -> Tree:
    """The machine of a source; what is no description yet is made one by the old QEMU."""
    from mdtool.sources import Access, tree_from_source

    if args.qemu is None and args.qemu_root is None:
        raise InputError("audit needs the QEMU to look at", expected="--qemu BINARY or --qemu-root DIR")
    return tree_from_source(file, Access(args.connect, args.against, args.against_root, warn=say))


def _audit(tree: Tree, args: argparse.Namespace, subject: str) -> Audit:
    from mdtool.proof.audit import Qemu, audit
    from mdtool.proof.standalone import binary_of

    name = binary_of(tree)
    old = Qemu(args.against or name, Path(args.against_root) if args.against_root else None)
    new = Qemu(args.qemu or name, Path(args.qemu_root) if args.qemu_root else None)
    return audit(
        tree, old, new, causes=not args.no_causes, migration=not args.no_migration, say=lambda text: say(f"{subject}{text}")
    )


def _report(found: Audit, *, causes: bool) -> None:
    from mdtool.proof.verdict import level, verdict

    print(f"{found.type.name}: QEMU {found.versions[0]} ({found.old}) against {found.versions[1]} ({found.new})")
    kind = found.type
    later = f"; later ones are {', '.join(kind.next[:3])}{', ...' if len(kind.next) > 3 else ''}" if kind.next else ""
    if not kind.known:
        print(coloured(f"{kind.name} is gone from QEMU {found.versions[1]}{later} [identity]", "red"))
        return
    if kind.deprecated:
        print(coloured(f"{kind.name} is deprecated in QEMU {found.versions[1]}{later}", "yellow"))
    in_vain: set[str] = set()
    for finding in found.findings:
        print(coloured(f"{finding} [{level(finding)}]", "red"))
        if causes:
            _print_cause(finding, in_vain)
    for name, loaded in (("forward", found.forward), ("backward", found.backward)):
        if loaded is not None:
            print(coloured(f"migration {name}: {loaded}", "green" if loaded.ok else "red"))
    for what in found.unread:
        print(f"not compared: {what}")
    print(f"{len(found.findings)} differences that a guest sees, {len(found.fixes)} properties restore some of them")
    print(f"verdict: {verdict(found)}")


def _print_cause(finding: ChangeGroup, in_vain: set[str]) -> None:
    """Where a difference comes from; what does not restore it (``in_vain`` grows) is said once."""
    if (cause := _cause(finding)) not in in_vain:
        print(f"  {cause}")
        if not finding.fixes:
            in_vain.add(cause)


def _cause(finding: ChangeGroup) -> str:
    if finding.fixes:
        return "restored by " + ", ".join(map(str, finding.fixes))
    if finding.tried:
        own = [name for name in finding.tried if "." not in name]
        others = len(finding.tried) - len(own)
        tried = [f"of its properties {', '.join(own)}"] if own else []
        tried += [f"{others} switches of the chipset and the machine"] if others else []
        return f"none restores it: tried {' and '.join(tried)}"
    if finding.changes[0].field == "rom content":
        return "another build of the option ROM; the property romfile can name the old one"
    if finding.severity == "firmware":
        return "from QEMU's firmware or its tables; a running guest keeps its own through migration until it reboots"
    return "no property of a described device is behind it"


def _table(audits: Mapping[str, Audit]) -> None:
    from mdtool.proof.verdict import verdict, worst

    rows = [["DESCRIPTION", "MACHINE", "DIFFERENCES", "WORST", "FIXABLE", "FORWARD", "BACKWARD", "VERDICT"]]
    for file, found in audits.items():
        state = "gone" if not found.type.known else "deprecated" if found.type.deprecated else "there"
        loads = ["-" if one is None else "loads" if one.ok else "NO" for one in (found.forward, found.backward)]
        count, fixable = len(found.findings), sum(bool(finding.fixes) for finding in found.findings)
        machine = f"{found.type.name} {state}"
        rows.append([file, machine, str(count), worst(found) or "-", str(fixable), *loads, verdict(found)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())


def _causes(audits: Mapping[str, Audit], *, explained: bool) -> None:
    """What differs, once over all guests; what was tried in vain is listed once, too."""
    from mdtool.proof.verdict import causes

    in_vain: set[str] = set()
    for one in causes(audits):
        who = f"{len(one.guests)} of {len(audits)} guests" if len(one.guests) > 1 else one.guests[0]
        print(coloured(f"{one.finding} [{one.level}]: {who}", "red"))
        if explained:
            _print_cause(one.finding, in_vain)


def _fix(file: str, found: Audit) -> None:
    from mdtool.files import locked, write_file
    from mdtool.machine.document import document_from_file
    from mdtool.proof.audit import reasons
    from mdtool.proof.causes import with_fixes
    from mdtool.proof.rewrite import commented

    if not found.fixes:
        say(f"{file}: nothing to write: no property restores the old view")
        return
    comments = [(fix.where, fix.property, why) for fix, why in reasons(found)]
    with locked(file):
        document = document_from_file(file)
        write_file(file, commented(document, with_fixes(document.tree, found.fixes), comments))
    for fix in found.fixes:
        say(f"{file}: written: {fix}")
