"""``mdtool merge BASE OURS THEIRS``"""

from __future__ import annotations

import argparse
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.cli.options import options
from mdtool.cli.output import result, say
from mdtool.errors import MdtoolError, unexpected

if TYPE_CHECKING:
    from mdtool.review.merge3 import MergedText

EXAMPLE = """\
example:
  mdtool merge base.yaml ours.yaml theirs.yaml -o web01.yaml
  mdtool merge v1.0:web01.yaml web01.yaml v2.0:web01.yaml
  mdtool git-setup                                      and git merges descriptions this way by itself

Exit status: 0 merged, 1 conflicts (marked in the file), 2 an error.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "base", metavar="BASE", help="the common ancestor, an empty file where there is none: a file, - or REV:PATH"
    )
    parser.add_argument("ours", metavar="OURS", help="our description, the same")
    parser.add_argument("theirs", metavar="THEIRS", help="the other one, the same")
    options(parser, "--output")
    parser.add_argument("--name", metavar="PATH", help="what to call the file in messages")
    parser.add_argument("--marker-size", metavar="N", type=int, default=7, help="length of conflict markers (7)")


def run(args: argparse.Namespace) -> int:
    """Whatever goes wrong, the output holds both sides: git takes every status up to 128 for conflicts marked in it."""
    sides = [_read(path) for path in (args.base, args.ours, args.theirs)]
    name = args.name or args.output or args.ours
    try:
        merged = _merged(sides, name, args.marker_size)
    except MdtoolError as error:
        say(f"{error}")
        return _by_lines(sides, name, args, 1)
    except Exception as error:
        say(f"{unexpected(error)}")
        return _by_lines(sides, name, args, 2)
    for note in merged.notes:
        say(f"{name}: {note}")
    for conflict in merged.conflicts:
        say(f"{name}: conflict: {conflict}")
    _write(args.output, merged.text.encode())
    return 1 if merged.conflicts else 0


def _read(source: str) -> bytes:
    """A side whole; a file that git gives is as large as it is."""
    if os.path.isfile(source):
        with suppress(OSError):  # which is reported below
            return Path(source).read_bytes()
    from mdtool.sources import data_from_source

    return data_from_source(source)


def _merged(sides: list[bytes], name: str, size: int) -> MergedText:
    from mdtool.files import text_from_bytes
    from mdtool.review.merge3 import merged_text

    base, ours, theirs = (text_from_bytes(data, name) for data in sides)
    return merged_text(base, ours, theirs, name, size)


def _by_lines(sides: list[bytes], name: str, args: argparse.Namespace, status: int) -> int:
    from mdtool.review.merge3 import bytes_by_lines

    base, ours, theirs = sides
    data, clean = bytes_by_lines(base, ours, theirs, args.marker_size)
    say(f"{name}: merged line by line" + ("" if clean else ", with conflicts"))
    _write(args.output, data)
    return 0 if clean and status == 1 else status


def _write(path: str | None, data: bytes) -> None:
    from mdtool.files import write_file

    if path:
        write_file(path, data)
    else:
        result(data)
