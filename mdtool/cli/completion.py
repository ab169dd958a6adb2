"""``mdtool completion SHELL``"""

from __future__ import annotations

import argparse

from mdtool.cli.output import result

EXAMPLE = """\
example:
  source <(mdtool completion bash)                      in ~/.bashrc
  mdtool completion zsh > ~/.zfunc/_mdtool              a folder of $fpath
  mdtool completion fish > ~/.config/fish/completions/mdtool.fish
  mdtool completion man > /usr/local/share/man/man1/mdtool.1
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=("bash", "zsh", "fish", "man"), help="for which shell; man is the manual page")


def run(args: argparse.Namespace) -> int:
    from mdtool.cli.complete import WRITERS

    result(WRITERS[args.shell]())
    return 0
