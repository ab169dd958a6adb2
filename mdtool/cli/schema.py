"""``mdtool schema``"""

from __future__ import annotations

import argparse
import platform

from mdtool.cli.options import options
from mdtool.cli.source import facts_arguments, facts_binary

EXAMPLE = """\
example:
  mdtool schema -o machine.schema.json                  what editors check and explain descriptions with
  mdtool schema --qemu-root /srv/sid -o machine.schema.json     of a QEMU in a debootstrapped folder
  mdtool schema --qemu qemu-system-x86_64 -o machine.schema.json
                                                        with this QEMU's drivers, properties, types and defaults

Descriptions name the file in their first line: # yaml-language-server: $schema=machine.schema.json
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    facts_arguments(parser)
    options(parser, "--output")


def run(args: argparse.Namespace) -> int:
    from mdtool.files import STANDARD, write_file
    from mdtool.qemu.introspect import knowledge
    from mdtool.review.schema import text

    binary = facts_binary(args, platform.machine())
    write_file(args.output or STANDARD, text(knowledge(binary) if binary else None))
    return 0
