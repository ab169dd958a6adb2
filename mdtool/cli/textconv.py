"""``mdtool textconv FILE``: what git's diff driver shows of a description."""

from __future__ import annotations

import argparse
from pathlib import Path

from mdtool.cli.output import result
from mdtool.errors import MdtoolError
from mdtool.text import printable

EXAMPLE = """\
example:
  mdtool textconv web01.yaml                            a device a line; mdtool git-setup makes git diff use it
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a description; another file is printed as it is")


def run(args: argparse.Namespace) -> int:
    """A file that fails would end git's diff or log of all the others: so nothing about its contents is an error."""
    from mdtool.files import bytes_from_file, is_standard
    from mdtool.machine.document import is_description

    try:
        data = bytes_from_file(args.file) if is_standard(args.file) else Path(args.file).read_bytes()
    except OSError as error:
        raise MdtoolError(f"cannot read {args.file}: {error.strerror}") from None
    text = data.decode(errors="replace")
    if not is_description(text):
        result(data)
        return 0
    try:
        shown = _shown(text, args.file)
    except Exception:  # a broken description is shown as it is
        shown = printable(text)
    result(shown)
    return 0


def _shown(text: str, file: str) -> str:
    """The lines of a description; of a merge that stopped both sides' with the markers around what differs."""
    from mdtool.machine.document import document_from_known_text
    from mdtool.review.textconv import lines

    if "<<<<<<<" not in text:
        return "".join(f"{line}\n" for line in lines(document_from_known_text(text, file).tree))
    from mdtool.review.merge3 import marked, sides_of

    ours, theirs = sides_of(text)
    return marked(_shown(ours, file), _shown(theirs, file))
