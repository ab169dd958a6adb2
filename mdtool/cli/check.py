"""``mdtool check GUEST.yaml``"""

from __future__ import annotations

import argparse
import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.cli.findings import Finding, from_error, write
from mdtool.cli.output import say
from mdtool.cli.source import access_of, connect_argument
from mdtool.errors import InputError, MdtoolError, Position, Report
from mdtool.records import replace

if TYPE_CHECKING:
    from mdtool.qemu.introspect import Knowledge

EXAMPLE = """\
example:
  mdtool check web01.yaml                               what QEMU would refuse, and what a guest would stumble over
  mdtool check --qemu qemu-system-x86_64 web01.yaml     drivers, properties and values as this QEMU has them
  mdtool check --qemu auto *.yaml                       the QEMU of each description's own architecture
  mdtool check --fix web01.yaml                         mend what has one right answer: a taken slot, a duplicate chassis
  mdtool check --list                                   every rule, and what it says

Exit status: 0 no errors (warnings are shown), 2 errors; with --strict warnings are errors.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    says = "descriptions and guest XML: files, folders of them, -, REV:PATH, libvirt:NAME"
    parser.add_argument("sources", metavar="SOURCE", nargs="*", help=says)
    parser.add_argument("--qemu", metavar="BINARY", help="ask this QEMU what it has; 'auto' finds one")
    parser.add_argument("--qemu-root", metavar="DIR", help="the folder that this QEMU lives in, as / does")
    connect_argument(parser)
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    says = "mend descriptions where there is one right answer, and say what was done"
    parser.add_argument("--fix", action="store_true", help=says)
    parser.add_argument("--ignore-others", action="store_true", help="leave files alone that are no machine descriptions")
    parser.add_argument("--json", action="store_true", help="what was found, as JSON")
    parser.add_argument("--list", action="store_true", help="explain every check and end")


def run(args: argparse.Namespace) -> int:
    if args.list:
        return _list()
    if not args.sources:
        raise MdtoolError("nothing to check", expected="the name of a description", remedy="mdtool check GUEST.yaml")
    form = "json" if args.json else args.output_format
    found: list[Finding] = []
    counts: Counter[str] = Counter()
    for name in _files(args.sources):
        if args.ignore_others and not _is_one_of_ours(name):
            continue
        if args.fix:
            _fix(name, args)
        errors, warnings = _checked(name, args)
        if args.strict:
            errors, warnings = sorted([*errors, *warnings], key=lambda e: (e.at is not None, e.at)), []
        here = [one for error in errors for one in from_error(error, "error")]
        here += [one for error in warnings for one in from_error(error)]
        counts.update(one.severity for one in here)
        found += here
        if form == "text":
            write(here, form)
            if not errors:
                say(f"{name}: no errors" + (f", {len(warnings)} warnings" if warnings else ""))
    if form != "text":
        write(found, form)
    elif len(found) > 1:
        say(f"{counts['error']} errors, {counts['warning']} warnings")
    return 2 if counts["error"] else 0


def _files(sources: list[str]) -> Iterator[str]:
    """The sources; of a folder what is in it and below it, hidden folders aside."""
    for source in sources:
        if not os.path.isdir(source):
            yield source
            continue
        found = sorted(
            str(path)
            for path in Path(source).rglob("*")
            if path.suffix in (".yaml", ".yml", ".xml")
            and not any(part.startswith(".") for part in path.relative_to(source).parts)
            and _is_one_of_ours(str(path))
        )
        if not found:
            raise InputError(f"no description and no guest XML in {source}", expected="files *.yaml, *.yml, *.xml")
        yield from found


def _is_one_of_ours(name: str) -> bool:
    from mdtool.machine.document import is_description, is_xml
    from mdtool.sources import data_from_source

    try:
        text = data_from_source(name).decode(errors="replace")
    except MdtoolError:
        return True  # which is then said
    return is_description(text) or (is_xml(text) and "<domain" in text)


def _fix(name: str, args: argparse.Namespace) -> None:
    """Mend a description file in place; what is no description, or no file, is left alone."""
    from mdtool.files import bytes_from_file, locked, write_file
    from mdtool.machine.document import document_from_file
    from mdtool.review.fix import fixed
    from mdtool.sources import Kind, kind_of_data

    if not os.path.isfile(name) or kind_of_data(bytes_from_file(name), name) is not Kind.DESCRIPTION:
        return
    try:
        with locked(name):
            document = document_from_file(name)
            mended, done = fixed(document, _knowledge(str(document.tree.machine.get("arch", "x86_64")), args))
            if done:
                write_file(name, mended.text)
    except InputError:
        return  # what cannot be read is among the findings
    for line in done:
        say(f"{name}: {line}")


def _checked(name: str, args: argparse.Namespace) -> tuple[list[MdtoolError], list[MdtoolError]]:
    from mdtool.review.check import checked
    from mdtool.sources import (
        Kind,
        data_from_source,
        document_from_source,
        embedded_document,
        guest_from_source,
        kind_of_data,
    )

    report, access = Report(), replace(access_of(args), warn=lambda _: None, qemu=None, root=None)
    with report.step():
        data = data_from_source(name, access)
        if kind_of_data(data, name) is Kind.XML:
            guest, document = guest_from_source(name, access), embedded_document(data, name)
            if document is None:
                from mdtool.review.check_xml import checked_guest  # and all of reconcile with it

                found = checked_guest(guest, _knowledge(guest.arch, args))
                return [*found.errors], [*found.warnings]
        else:
            document = document_from_source(name, access)
        found = checked(document, _knowledge(str(document.tree.machine.get("arch", "x86_64")), args))
        if args.output_format == "text" and (left := [f"{one.name} ({one.failed})" for one in found.skipped if one.failed]):
            say(f"{name}: not checked, since a check that they build on found errors: {', '.join(left)}")
        return [*found.errors], sorted([*document.stray, *found.warnings], key=lambda one: one.at or Position("", 0))
    return report.errors, []


def _knowledge(arch: str, args: argparse.Namespace) -> Knowledge | None:
    if args.qemu is None and args.qemu_root is None:
        return None
    from mdtool.qemu.introspect import binary_of, knowledge
    from mdtool.qemu.root import program

    if args.qemu_root is not None:
        name = None if args.qemu == "auto" else args.qemu
        return knowledge(program(name or f"qemu-system-{arch}", args.qemu_root))
    return knowledge(binary_of(arch) if args.qemu == "auto" else args.qemu)


def _list() -> int:
    from mdtool.review.check import CHECKS

    print("schema-*, unknown-key, missing-key, duplicate-key, yaml-syntax, pins-*")
    print("    error    the file is a description at all; nothing else is checked where it is none")
    for check in CHECKS:
        needs = f"; after {', '.join(check.needs)}" if check.needs else ""
        asks = "; with --qemu" if check.asks else ""
        print(f"{check.name}\n    {check.severity:<8} {check.says}{needs}{asks}")
    return 0
