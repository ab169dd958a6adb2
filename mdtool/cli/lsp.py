"""``mdtool lsp``"""

from __future__ import annotations

import argparse

from mdtool.errors import MdtoolError

EXAMPLE = """\
example:
  mdtool lsp                                            an editor starts it and speaks to it over stdin and stdout
  mdtool lsp --qemu qemu-system-x86_64                  ask this QEMU for drivers and properties

docs/editors.md has the set-up for VS Code, Neovim, Emacs, Helix and Kate.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    says = "ask this QEMU for drivers and properties (by default the one of each description's architecture)"
    parser.add_argument("--qemu", metavar="BINARY", help=says)


def run(args: argparse.Namespace) -> int:
    try:
        from mdtool.integrations.lsp.server import made
    except ModuleNotFoundError as error:
        remedy = "pip install 'mdtool[lsp]'"
        raise MdtoolError(f"the language server needs {error.name}", remedy=remedy, rule="missing-package") from None
    made(args.qemu).start_io()
    return 0
