"""``mdtool schema``"""

from __future__ import annotations

import argparse

from mdtool.cli.output import result

EXAMPLE = """\
example:
  mdtool schema -o machine.schema.json                  what editors check and explain descriptions with
  mdtool schema --qemu qemu-system-x86_64 -o machine.schema.json
                                                        with this QEMU's drivers, properties, types and defaults

Descriptions name the file in their first line: # yaml-language-server: $schema=machine.schema.json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--qemu", metavar="BINARY", help="ask this QEMU for its drivers and properties")
    parser.add_argument("-o", "--output", metavar="FILE", help="write there; stdout without it")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import write_file
    from mdtool.qemu.introspect import knowledge
    from mdtool.review.schema import text

    said = text(knowledge(args.qemu) if args.qemu else None)
    if args.output:
        write_file(args.output, said)
    else:
        result(said)
    return 0
