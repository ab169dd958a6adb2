"""What was found, in the form that its reader wants: a person, a program, a forge.

text     file:line:column, with the source line and a caret on a terminal
json     a list of objects
jsonl    an object a line; of a command for many guests, a guest a line
github   workflow commands, shown beside the lines of a pull request
gitlab   a Code Quality report
sarif    SARIF 2.1.0, for code scanning
junit    a test suite in XML
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from mdtool import __version__
from mdtool.cli.output import coloured
from mdtool.errors import Errors, MdtoolError, Position, line_of
from mdtool.records import dataclass
from mdtool.text import printable

if TYPE_CHECKING:
    from mdtool.compare import Difference

_COLOURS = {"error": "red", "warning": "yellow"}


@dataclass(frozen=True, slots=True)
class Reported:
    """One thing that was found; ``severity`` is ``error`` or ``warning``, ``rule`` what kind of thing it is."""

    severity: str
    what: str
    rule: str = ""
    at: Position | None = None
    expected: str | None = None
    remedy: str | None = None

    @property
    def sentence(self) -> str:
        """All of it but its place, on one line."""
        expected = f"; expected {self.expected}" if self.expected else ""
        return " ".join(f"{self.what}{expected}{f' ({self.remedy})' if self.remedy else ''}".split())


def from_error(error: MdtoolError, severity: str | None = None) -> list[Reported]:
    """The findings of an error, which may be several."""
    if isinstance(error, Errors):
        return [found for one in error.errors for found in from_error(one, severity)]
    kind = severity or error.severity
    return [Reported(kind, error.what, error.rule or "", error.at, error.expected, error.remedy)]


def from_difference(difference: Difference) -> Reported:
    """A guest-visible difference is an error, another one a warning."""
    from mdtool.compare import guest_visible

    severity = "error" if guest_visible([difference]) else "warning"
    return Reported(severity, str(difference), difference.severity, difference.position)


# --- text ------------------------------------------------------------------------------------------------------------


def excerpt(at: Position | None) -> str:
    """The source line with a caret under the column; "" where there is no such line to be read."""
    if at is None or not os.path.isfile(at.file):
        return ""
    try:
        with open(at.file, encoding="utf-8", errors="replace") as stream:
            text = next((line for number, line in enumerate(stream, 1) if number == at.line), "").rstrip("\r\n")
    except OSError:
        return ""
    if not text.strip() or len(text) > 200:
        return ""
    gutter = f"{at.line:>6} | "
    before = "".join("\t" if char == "\t" else " " for char in text[: at.column - 1])
    return f"{gutter}{text}\n{' ' * (len(gutter) - 2)}| {before}^"


def print_text(findings: Iterable[Reported], stream: TextIO | None = None) -> None:
    """For a person; with source lines where ``stream`` (stdout) is a terminal."""
    stream = stream or sys.stdout
    for found in findings:
        first, *rest = line_of(found).split("\n")
        print(coloured(first, _COLOURS[found.severity], stream), file=stream)
        if stream.isatty() and (shown := excerpt(found.at)):
            print(coloured(shown, "dim", stream), file=stream)
        for line in rest:
            print(line, file=stream)


# --- for programs ----------------------------------------------------------------------------------------------------


def data(found: Reported) -> dict[str, Any]:
    at = {"file": found.at.file, "line": found.at.line, "column": found.at.column} if found.at else {}
    said = {"what": found.what, "expected": found.expected, "remedy": found.remedy, "rule": found.rule or None}
    return {**at, "severity": found.severity, **{name: value for name, value in said.items() if value is not None}}


def _json(findings: Sequence[Reported]) -> str:
    return json.dumps([data(found) for found in findings], indent=1)


def _jsonl(findings: Sequence[Reported]) -> str:
    return "\n".join(json.dumps(data(found)) for found in findings)


def _github(findings: Sequence[Reported]) -> str:
    """https://docs.github.com/actions/reference/workflow-commands-for-github-actions"""

    def value(text: str) -> str:
        text = printable(text)
        for char, code in (("%", "%25"), ("\r", "%0D"), ("\n", "%0A"), (":", "%3A"), (",", "%2C")):
            text = text.replace(char, code)
        return text

    def message(text: str) -> str:
        return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")

    rows = []
    for found in findings:
        at = found.at
        place = [f"file={value(at.file)}", f"line={at.line}", f"col={at.column}"] if at else []
        title = [f"title={value(found.rule)}"] if found.rule else []
        rows.append(f"::{found.severity} {','.join([*place, *title])}::{message(printable(found.sentence))}")
    return "\n".join(rows)


def _gitlab(findings: Sequence[Reported]) -> str:
    """https://docs.gitlab.com/ci/testing/code_quality: an array, with a fingerprint that stays where lines move"""
    from hashlib import sha256  # OpenSSL comes with it

    rows = [
        {
            "description": found.sentence,
            "check_name": found.rule or "mdtool",
            "fingerprint": sha256(
                f"{found.at.file if found.at else ''}\0{found.rule}\0{found.what}\0{number}".encode()
            ).hexdigest(),
            "severity": {"error": "major", "warning": "minor"}[found.severity],
            "location": {"path": found.at.file if found.at else "-", "lines": {"begin": found.at.line if found.at else 1}},
        }
        for number, found in _numbered(findings)
    ]
    return json.dumps(rows, indent=1)


def _numbered(findings: Sequence[Reported]) -> Iterable[tuple[int, Reported]]:
    """Each with how many alike came before it."""
    seen: dict[tuple[str, str, str], int] = {}
    for found in findings:
        key = (found.at.file if found.at else "", found.rule, found.what)
        yield seen.get(key, 0), found
        seen[key] = seen.get(key, 0) + 1


def _sarif(findings: Sequence[Reported]) -> str:
    """https://docs.oasis-open.org/sarif/sarif/v2.1.0"""
    results = []
    for found in findings:
        result: dict[str, Any] = {"level": found.severity, "message": {"text": found.sentence}}
        result["ruleId"] = found.rule or "mdtool"
        if found.at:
            region = {"startLine": found.at.line, "startColumn": found.at.column}
            place = {"artifactLocation": {"uri": _uri(found.at.file)}, "region": region}
            result["locations"] = [{"physicalLocation": place}]
        results.append(result)
    rules = [{"id": rule} for rule in sorted({result["ruleId"] for result in results})]
    driver = {"name": "mdtool", "version": __version__, "rules": rules}
    schema = "https://json.schemastore.org/sarif-2.1.0.json"
    return json.dumps(
        {"$schema": schema, "version": "2.1.0", "runs": [{"tool": {"driver": driver}, "results": results}]}, indent=1
    )


def _uri(path: str) -> str:
    from urllib.parse import quote

    return quote(path)


def _junit(findings: Sequence[Reported]) -> str:
    """A suite of failed tests; one that passed where nothing was found, which readers ask for."""
    from xml.sax.saxutils import escape, quoteattr  # all of urllib comes with it

    errors = sum(found.severity == "error" for found in findings)
    rows = [f'<testsuite name="mdtool" tests="{max(len(findings), 1)}" failures="{errors}">']
    for found in findings:
        where = str(found.at) if found.at else "mdtool"
        rows.append(f"  <testcase classname={quoteattr(printable(where))} name={quoteattr(found.rule or 'mdtool')}>")
        text = escape(printable(line_of(found).replace("\n", " ")))
        if found.severity == "error":
            rows.append(f"    <failure message={quoteattr(printable(found.sentence))}>{text}</failure>")
        else:
            rows.append(f"    <system-out>{text}</system-out>")
        rows.append("  </testcase>")
    if not findings:
        rows.append('  <testcase classname="mdtool" name="mdtool"/>')
    return "\n".join(["<?xml version='1.0' encoding='UTF-8'?>", *rows, "</testsuite>"])


#: ``--output-format`` -> what writes all findings at once; text is written as it comes
WRITERS: Mapping[str, Callable[[Sequence[Reported]], str]] = {
    "json": _json,
    "jsonl": _jsonl,
    "github": _github,
    "gitlab": _gitlab,
    "sarif": _sarif,
    "junit": _junit,
}


def write(findings: Sequence[Reported], form: str, stream: TextIO | None = None) -> None:
    """All findings in one of ``output.FORMATS``, to stdout; in text to ``stream``."""
    from mdtool.cli.output import result

    if form == "text":
        print_text(findings, stream)
    elif text := WRITERS[form](findings):
        result(f"{text}\n")


def write_changes(changes: Sequence[tuple[str, str]], form: str, colour: str = "red") -> None:
    """What differs between two machines: each a sentence and its severity ("" for none), which is its rule."""
    if form != "text":
        write([Reported("error", what, severity) for what, severity in changes], form)
        return
    for what, severity in changes:
        print(coloured(f"{what} [{severity}]" if severity else what, colour))
