"""``mdtool completion SHELL``: shtab's completion of the commands' own parser, and argparse-manpage's page of it."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from mdtool import launch
from mdtool.cache import known, remember
from mdtool.cli.output import result
from mdtool.resources import resource

EXAMPLE = """\
example:
  source <(mdtool completion bash)                      in ~/.bashrc
  mdtool completion zsh > ~/.zfunc/_mdtool              a folder of $fpath
  mdtool completion fish > ~/.config/fish/completions/mdtool.fish
  mdtool completion man > /usr/local/share/man/man1/mdtool.1
"""
SHELLS = ("bash", "zsh", "fish")
_FILE = "file"
#: what an argument's metavar stands for -> what completes it: a kind of shtab's, or a function of complete.SHELL
KINDS = {
    **dict.fromkeys(("FILE", "PATH", "GUEST.yaml", "OUT", "BASE", "OURS", "THEIRS", "PATTERN"), _FILE),
    "DIR": "directory",
    **dict.fromkeys(("SOURCE", "GUEST.xml", "OLD", "NEW", "MORE", "COMMANDLINE"), "_mdtool_sources"),
    "GUEST": "_mdtool_libvirt_guests",
    "NAME": "_mdtool_guests",
    "ID": "_mdtool_devices",
    "BUS": "_mdtool_buses",
    "BINARY": "_mdtool_qemus",
    "URI": "_mdtool_uris",
}


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=(*SHELLS, "man"), help="for which shell; man is the manual page")


def run(args: argparse.Namespace) -> int:
    result(manual() if args.shell == "man" else completion(args.shell))
    return 0


class _Parser(argparse.ArgumentParser):
    """A parser whose arguments carry what shtab completes them with."""

    def add_argument(self, *names: Any, **settings: Any) -> argparse.Action:
        action = super().add_argument(*names, **settings)
        kind = KINDS.get(str(action.metavar))
        if kind is not None and action.help != argparse.SUPPRESS:
            ours = {"bash": kind, "zsh": kind, "fish": f"({kind})"}
            setattr(action, "complete", ours if kind.startswith("_") else kind)  # noqa: B010 shtab's name
        return action


def completion(shell: str) -> str:
    """The completion script of a shell, one of ``SHELLS``; made once, since shells ask for it whenever they start."""
    ours = resource("cli", f"complete.{shell}").read_text(encoding="utf-8")
    code = str(Path(__file__).parent), str(Path(launch.__file__).parent)
    script: str | None = known("completion", ours, *code)
    if script is None:
        script = _completion(shell, ours)
        remember("completion", ours, script, *code)
    return script


def _completion(shell: str, ours: str) -> str:
    import shtab

    from mdtool.cli import parser

    script: str = shtab.complete(parser(kind=_Parser), shell, preamble={shell: ours})  # type: ignore[arg-type]
    # bash hands on words that it split at : and =, which _mdtool puts together again
    return f"{script}\ncomplete -o bashdefault -F _mdtool mdtool\n" if shell == "bash" else script


def manual() -> str:
    """mdtool(1) for man(1)."""
    from argparse_manpage.manpage import Manpage

    from mdtool import __version__
    from mdtool.cli import COMMANDS, module_of, parser

    page = Manpage(parser())
    page.date, page.source, page.manual = "", f"mdtool {__version__}", "User Commands"
    page.description = "machine descriptions for QEMU: keep a guest's hardware in a file, in git, and unchanged"
    examples = "\n".join(module_of(name).EXAMPLE.replace("\\", "\\e").replace("-", "\\-") for name in COMMANDS)
    page.add_section("examples", ">", f".nf\n{examples}.fi")
    page.add_section("exit status", ">", "0 nothing differs, or all done; 1 differences, or changes planned; 2 an error.")
    files = "$XDG_CACHE_HOME/mdtool keeps what QEMU binaries said of themselves; it may be removed at any time."
    page.add_section("files", ">", files)
    page.add_section("see also", ">", ".BR qemu (1),\n.BR virsh (1)")
    # a usage may have lines that are longer than the page: they are not stretched
    return str(page).replace("\n.SH NAME", "\n.ad l\n.SH NAME", 1)
