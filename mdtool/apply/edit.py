"""Editing guest XML or a description by hand: the text, what is wrong with it as comments at its place, and the result."""

from __future__ import annotations

import re
from pathlib import Path

from mdtool.errors import Errors, MdtoolError
from mdtool.machine.document import Document, document_from_text
from mdtool.review.check import checked
from mdtool.sources import SourceKind, kind_of_data
from mdtool.text import pattern

_XML_MARK, _YAML_MARK = "<!-- mdtool: ", "# mdtool: "
_MARKED = pattern(r"^[ \t]*(<!-- mdtool: .*? -->|# mdtool: .*)\r?\n", re.MULTILINE)


def is_xml(path: Path) -> bool:
    """Whether a file is guest XML; a description else."""
    return kind_of_data(path.read_bytes(), str(path)) is SourceKind.XML


def without_marks(text: str) -> str:
    """The text without the comments of ``with_marks``.

    >>> without_marks("a\\n  # mdtool: error: what\\n  b\\n")
    'a\\n  b\\n'
    """
    return _MARKED.sub("", text)


def with_marks(text: str, error: MdtoolError, file: str, *, xml: bool) -> str:
    """The text with a comment above each line that an error is about; errors without a line come first.

    >>> print(with_marks("a: 1\\n", MdtoolError("no such key"), "g.yaml", xml=False), end="")
    # mdtool: error: no such key
    a: 1
    """
    lines = text.splitlines(keepends=True)
    errors = error.errors if isinstance(error, Errors) else [error]
    first = 1 if xml and lines and lines[0].startswith("<?xml") else 0
    places = [(one.at.line - 1 if one.at and one.at.file == file else first, one) for one in errors]
    for at, one in sorted(places, key=lambda place: place[0], reverse=True):
        line = min(max(at, first), len(lines))
        indent = re.match(r"[ \t]*", lines[line])[0] if line < len(lines) else ""  # type: ignore[index]
        lines.insert(line, f"{indent}{_mark(one, xml=xml)}\n")
    return "".join(lines)


def _mark(error: MdtoolError, *, xml: bool) -> str:
    said = f"{error.severity}: {error.what}" + (f"; expected {error.expected}" if error.expected else "")
    said += f"; {error.remedy}" if error.remedy else ""
    line = " ".join(said.split())
    return f"{_XML_MARK}{line.replace('--', '- -')} -->" if xml else f"{_YAML_MARK}{line}"


def checked_description(text: str, file: str) -> Document:
    """The description; raises what is wrong with it, all at once."""
    document = document_from_text(text, file)
    checked(document).done()
    return document
