"""``mdtool textconv FILE``: what git's diff driver shows of a description."""

from __future__ import annotations

import argparse
import sys
from contextlib import suppress

from mdtool.errors import MdtoolError

EXAMPLE = """\
example:
  mdtool textconv web01.yaml                            a device a line; mdtool git-setup makes git diff use it
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a description; another file is printed as it is")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import bytes_from_file
    from mdtool.machine.document import document_from_text
    from mdtool.review.merge3 import is_description
    from mdtool.review.textconv import lines

    text = bytes_from_file(args.file).decode(errors="replace")
    if is_description(text):
        with suppress(MdtoolError):  # a broken description (one with conflict markers, say) is shown as it is
            text = "".join(f"{line}\n" for line in lines(document_from_text(text, args.file).tree))
    sys.stdout.write(text)
    return 0
