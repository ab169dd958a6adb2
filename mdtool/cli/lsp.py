"""``mdtool lsp``"""

from __future__ import annotations

import argparse

from mdtool.cli.source import facts_arguments, facts_binary
from mdtool.errors import MdtoolError

EXAMPLE = """\
example:
  mdtool lsp                                            an editor starts it and speaks to it over stdin and stdout
  mdtool lsp --qemu qemu-system-x86_64                  ask this QEMU for drivers and properties

docs/editors.md has the set-up for VS Code, Neovim, Emacs, Helix and Kate.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    facts_arguments(parser)


def run(args: argparse.Namespace) -> int:
    try:
        from mdtool.integrations.lsp.server import made
        from mdtool.qemu.introspect import binary_of
    except ModuleNotFoundError as error:
        remedy = "pip install 'mdtool[lsp]'"
        raise MdtoolError(f"the language server needs {error.name}", remedy=remedy, rule="missing-package") from None
    made(lambda arch: facts_binary(args, arch) or binary_of(arch)).start_io()
    return 0
