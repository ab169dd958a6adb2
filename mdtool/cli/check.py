"""``mdtool check GUEST.yaml``"""

from __future__ import annotations

import argparse
import json
import os
from collections import Counter
from functools import partial
from typing import TYPE_CHECKING

from mdtool.cli.findings import Reported, data, from_error, write
from mdtool.cli.many import files_in, is_one_of_ours, lost
from mdtool.cli.options import options
from mdtool.cli.output import progress, say
from mdtool.cli.source import access_of, connect_argument, facts_arguments, facts_binary
from mdtool.errors import InputError, MdtoolError, Position, Report, as_error
from mdtool.pool import each
from mdtool.records import NamedTuple, replace
from mdtool.text import counted

if TYPE_CHECKING:
    from mdtool.qemu.introspect import Knowledge

EXAMPLE = """\
example:
  mdtool check web01.yaml                               what QEMU would refuse, and what a guest would have trouble with
  mdtool check --qemu qemu-system-x86_64 web01.yaml     drivers, properties and values as this QEMU has them
  mdtool check --qemu auto *.yaml                       the QEMU of each description's own architecture
  mdtool check --fix web01.yaml                         mend what has one right answer: a taken slot, a duplicate chassis
  mdtool check --list                                   every rule, and what it says

Exit status: 0 no errors (warnings are shown), 2 errors; with --strict warnings are errors.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    says = "descriptions and guest XML: files, folders of them, -, REV:PATH, libvirt:NAME"
    parser.add_argument("sources", metavar="SOURCE", nargs="*", help=says)
    facts_arguments(parser)
    connect_argument(parser)
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    says = "repair descriptions where there is one right answer, and report what was done"
    parser.add_argument("--fix", action="store_true", help=says)
    parser.add_argument("--ignore-others", action="store_true", help="skip files that are not machine descriptions")
    options(parser, "--json", help="what was found, as JSON")
    parser.add_argument("--list", action="store_true", help="explain every check and end")


def run(args: argparse.Namespace) -> int:
    if args.list:
        return _list()
    if not args.sources:
        raise MdtoolError("nothing to check", expected="the name of a description", remedy="mdtool check GUEST.yaml")
    form = "json" if args.json else args.output_format
    found: list[Reported] = []
    counts: Counter[str] = Counter()
    names = [name for source in args.sources for name in files_in(source)]
    names = [name for name in names if not args.ignore_others or is_one_of_ours(name)]
    for number, (name, notes, here) in enumerate(each(partial(_one, args), names, _lost), 1):
        progress(number, len(names))
        here_counts = Counter(one.severity for one in here)
        counts.update(here_counts)
        found += here
        for note in notes:
            say(f"{name}: {note}")
        if form == "text":
            write(here, form)
            if not here_counts["error"]:
                say(f"{name}: no errors" + (f", {counted(len(here), 'warning')}" if here else ""))
        elif form == "jsonl":
            status = 2 if here_counts["error"] else 0
            print(json.dumps({"guest": name, "status": status, "result": [data(one) for one in here]}))
    progress(0, 0)
    if form not in ("text", "jsonl"):
        write(found, form)
    elif len(found) > 1:
        say(f"{counted(counts['error'], 'error')}, {counted(counts['warning'], 'warning')}")
    return 2 if counts["error"] else 0


class _Checked(NamedTuple):
    """One source: what was done to it or left out, and what was found."""

    name: str
    notes: list[str]
    found: list[Reported]


def _one(args: argparse.Namespace, name: str) -> _Checked:
    notes: list[str] = []
    try:
        if args.fix:
            _fix(name, args, notes)
        errors, warnings = _checked(name, args, notes)
    except Exception as error:
        errors, warnings = [as_error(error)], []
    if args.strict:
        errors, warnings = sorted([*errors, *warnings], key=lambda e: (e.at is not None, e.at)), []
    here = [one for error in errors for one in from_error(error, "error")]
    return _Checked(name, notes, here + [one for error in warnings for one in from_error(error)])


def _lost(name: str) -> _Checked:
    return _Checked(name, [], from_error(lost(name)))


def _fix(name: str, args: argparse.Namespace, notes: list[str]) -> None:
    """Mend a description file in place; what is no description, or no file, is left alone."""
    from mdtool.files import bytes_from_file, locked, write_file
    from mdtool.machine.document import document_from_file
    from mdtool.review.fix import fixed
    from mdtool.sources import SourceKind, kind_of_data

    if not os.path.isfile(name) or kind_of_data(bytes_from_file(name), name) is not SourceKind.DESCRIPTION:
        return
    try:
        with locked(name):
            document = document_from_file(name)
            mended, done = fixed(document, _knowledge(str(document.tree.machine.get("arch", "x86_64")), args))
            if done:
                write_file(name, mended.text)
    except InputError:
        return  # what cannot be read is among the findings
    notes += done


def _checked(name: str, args: argparse.Namespace, notes: list[str]) -> tuple[list[MdtoolError], list[MdtoolError]]:
    from mdtool.review.check import checked
    from mdtool.sources import (
        SourceKind,
        data_from_source,
        document_from_source,
        embedded_document,
        guest_from_source,
        kind_of_data,
    )

    report, access = Report(), replace(access_of(args), warn=lambda _: None, qemu=None, root=None)
    with report.step():
        data = data_from_source(name, access)
        if kind_of_data(data, name) is SourceKind.XML:
            guest, document = guest_from_source(name, access), embedded_document(data, name)
            if document is None:
                from mdtool.review.check_xml import checked_guest  # and all of reconcile with it

                found = checked_guest(guest, _knowledge(guest.arch, args))
                return [*found.errors], [*found.warnings]
        else:
            document = document_from_source(name, access)
        found = checked(document, _knowledge(str(document.tree.machine.get("arch", "x86_64")), args))
        if args.output_format == "text" and (left := [f"{one.name} ({one.failed})" for one in found.skipped if one.failed]):
            notes.append(f"not checked, since a check that they build on found errors: {', '.join(left)}")
        return [*found.errors], sorted([*document.stray, *found.warnings], key=lambda one: one.at or Position("", 0))
    return report.errors, []


def _knowledge(arch: str, args: argparse.Namespace) -> Knowledge | None:
    if (binary := facts_binary(args, arch)) is None:
        return None
    from mdtool.qemu.introspect import knowledge

    return knowledge(binary)


def _list() -> int:
    from mdtool.review.check import CHECKS

    print("schema-*, unknown-key, missing-key, duplicate-key, yaml-syntax, pins-*")
    print("    error    the file is a description at all; nothing else is checked where it is none")
    for check in CHECKS:
        needs = f"; after {', '.join(check.needs)}" if check.needs else ""
        asks = "; with --qemu" if check.asks else ""
        print(f"{check.name}\n    {check.severity:<8} {check.says}{needs}{asks}")
    return 0
