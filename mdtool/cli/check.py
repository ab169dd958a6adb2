"""``mdtool check GUEST.yaml``"""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.cli.output import coloured, say
from mdtool.errors import MdtoolError, Report

if TYPE_CHECKING:
    from mdtool.machine.document import Document
    from mdtool.qemu.introspect import Knowledge

EXAMPLE = """\
example:
  mdtool check web01.yaml                               what QEMU would refuse, and what a guest would stumble over
  mdtool check --qemu qemu-system-x86_64 web01.yaml     drivers, properties and values as this QEMU has them
  mdtool check --qemu auto *.yaml                       the QEMU of each description's own architecture
  mdtool check --list                                   every rule, and what it says

Exit status: 0 no errors (warnings are shown), 2 errors; with --strict warnings are errors.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("descriptions", metavar="GUEST.yaml", nargs="*", help="machine descriptions")
    parser.add_argument("--qemu", metavar="BINARY", help="ask this QEMU what it has; 'auto' finds one")
    parser.add_argument("--strict", action="store_true", help="warnings are errors")
    parser.add_argument("--ignore-others", action="store_true", help="leave files alone that are no machine descriptions")
    parser.add_argument("--json", action="store_true", help="what was found, as JSON")
    parser.add_argument("--list", action="store_true", help="explain every check and end")


def run(args: argparse.Namespace) -> int:
    if args.list:
        return _list()
    if not args.descriptions:
        raise MdtoolError("nothing to check", expected="the name of a description", remedy="mdtool check GUEST.yaml")
    status = 0
    rows: list[dict[str, Any]] = []
    for name in args.descriptions:
        if args.ignore_others and not _is_description(name):
            continue
        errors, warnings = _checked(name, args.qemu)
        if args.strict:
            errors, warnings = sorted([*errors, *warnings], key=lambda e: (e.at is not None, e.at)), []
        if errors:
            status = 2
        for error in [*errors, *warnings]:
            if args.json:
                rows.append(_data(error, "error" if error in errors else "warning"))
            else:
                print(coloured(_text(error, error in errors), "red" if error in errors else "yellow"))
        if not errors and not args.json:
            say(f"{name}: no errors" + (f", {len(warnings)} warnings" if warnings else ""))
    if args.json:
        print(json.dumps(rows, indent=1))
    return status


def _is_description(name: str) -> bool:
    from mdtool.review.merge3 import is_description

    try:
        return is_description(Path(name).read_text(errors="replace"))
    except OSError:
        return True  # which is then said


def _checked(name: str, qemu: str | None) -> tuple[list[MdtoolError], list[MdtoolError]]:
    from mdtool.machine.document import document_from_file
    from mdtool.review.check import checked

    report = Report()
    with report.step():
        document = document_from_file(name)
        found = checked(document, _knowledge(document, qemu))
        return [*found.errors], [*found.warnings]
    return report.errors, []


def _knowledge(document: Document, qemu: str | None) -> Knowledge | None:
    from mdtool.qemu.introspect import binary_of, knowledge

    if qemu is None:
        return None
    return knowledge(binary_of(str(document.tree.machine.get("arch", "x86_64"))) if qemu == "auto" else qemu)


def _text(error: MdtoolError, as_error: bool) -> str:
    text = str(error)
    return text.replace(": warning: ", ": error: ", 1) if as_error else text


def _data(error: MdtoolError, severity: str) -> dict[str, Any]:
    said = {"what": error.what, "expected": error.expected, "remedy": error.remedy, "rule": error.rule}
    at = {"file": error.at.file, "line": error.at.line, "column": error.at.column} if error.at else {}
    return {**at, "severity": severity, **{name: value for name, value in said.items() if value is not None}}


def _list() -> int:
    from mdtool.review.check import CHECKS

    print("schema-*, unknown-key, missing-key, duplicate-key, yaml-syntax, pins-*")
    print("    error    the file is a description at all; nothing else is checked where it is none")
    for check in CHECKS:
        needs = f"; after {', '.join(check.needs)}" if check.needs else ""
        asks = "; with --qemu" if check.asks else ""
        print(f"{check.name}\n    {check.severity:<8} {check.says}{needs}{asks}")
    return 0
