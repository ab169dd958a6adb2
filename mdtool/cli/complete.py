"""Completion for shells, and the manual page: both written from the commands' own arguments, so that neither lags."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module

from mdtool import __version__
from mdtool.cli import COMMANDS, output_arguments
from mdtool.records import dataclass


@dataclass(frozen=True, slots=True)
class Option:
    """One option or argument; ``flags`` are empty for an argument; ``metavar`` is "" for a switch."""

    flags: tuple[str, ...]
    metavar: str
    says: str
    choices: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Command:
    name: str
    says: str
    options: tuple[Option, ...]
    arguments: tuple[Option, ...]
    example: str


def commands() -> list[Command]:
    """Every command with its options, as argparse knows them."""
    found = []
    for name, says in COMMANDS.items():
        module = import_module(f"mdtool.cli.{name.replace('-', '_')}{'_' if name == 'import' else ''}")
        parser = argparse.ArgumentParser(prog=f"mdtool {name}", add_help=True)
        module.arguments(parser)
        output_arguments(parser)
        shown = [action for action in parser._actions if action.help is not argparse.SUPPRESS]
        rows = [option for action in shown for option in _options(action)]
        options, arguments = ([row for row in rows if bool(row.flags) is wanted] for wanted in (True, False))
        found.append(Command(name, says, tuple(options), tuple(arguments), module.EXAMPLE))
    return found


def _options(action: argparse.Action) -> Iterator[Option]:
    metavar = action.metavar or ("" if action.nargs == 0 else action.dest.upper())
    choices = tuple(str(choice) for choice in action.choices or ())
    yield Option(tuple(action.option_strings), str(metavar), action.help or "", choices)
    if isinstance(action, argparse._SubParsersAction):  # hints export: its arguments are the command's
        for inner in dict.fromkeys(action.choices.values()):
            for one in inner._actions:
                yield from _options(one)


def _takes_value(option: Option) -> bool:
    return bool(option.metavar)


# --- bash ------------------------------------------------------------------------------------------------------------


def bash() -> str:
    """For /etc/bash_completion.d/mdtool, or ``source <(mdtool completion bash)``."""
    rows = []
    for command in commands():
        flags = " ".join(flag for option in command.options for flag in option.flags)
        words = " ".join(choice for option in command.arguments for choice in option.choices)
        rows.append(f'    {command.name}) flags="{flags}"; words="{words}" ;;')
    values = [
        f'    "{command.name} {flag}") COMPREPLY=($(compgen -W "{" ".join(option.choices)}" -- "$cur")); return ;;'
        for command in commands()
        for option in command.options
        if option.choices
        for flag in option.flags
    ]
    return _BASH.format(commands=" ".join(COMMANDS), rows="\n".join(rows), values="\n".join(values))


_BASH = """\
# bash completion for mdtool
_mdtool() {{
  local flags="" words="" cur="${{COMP_WORDS[COMP_CWORD]}}"
  local prev="${{COMP_WORDS[COMP_CWORD-1]}}" command="${{COMP_WORDS[1]}}"
  if [ "$COMP_CWORD" -eq 1 ]; then
    COMPREPLY=($(compgen -W "{commands} --help --version" -- "$cur"))
    return
  fi
  case "$command $prev" in
{values}
  esac
  case "$command" in
{rows}
  esac
  if [[ "$cur" == -* ]]; then
    COMPREPLY=($(compgen -W "$flags" -- "$cur"))
  else
    COMPREPLY=($(compgen -W "$words" -- "$cur") $(compgen -f -- "$cur"))
  fi
}}
complete -o filenames -F _mdtool mdtool
"""

# --- zsh -------------------------------------------------------------------------------------------------------------


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def zsh() -> str:
    """For a file ``_mdtool`` in a folder of ``$fpath``."""
    listed = "\n".join(f"    {_quoted(f'{c.name}:{c.says}')}" for c in commands())
    cases = []
    for command in commands():
        specs = [_zsh_spec(option) for option in command.options]
        values = [choice for option in command.arguments for choice in option.choices]
        specs.append(_quoted(f"*:argument:({' '.join(values)})" if values else "*:file:_files"))
        cases.append(f"    {command.name}) _arguments {' '.join(specs)} ;;")
    return _ZSH.format(listed=listed, cases="\n".join(cases))


def _zsh_spec(option: Option) -> str:
    says = option.says.replace("[", "(").replace("]", ")").replace(":", "\\:")
    value = ""
    if _takes_value(option):
        value = f":{option.metavar}:({' '.join(option.choices)})" if option.choices else f":{option.metavar}:_files"
    return " ".join(_quoted(f"{flag}[{says}]{value}") for flag in option.flags)


_ZSH = """\
#compdef mdtool
_mdtool() {{
  local -a listed
  listed=(
{listed}
  )
  if (( CURRENT == 2 )); then
    _describe command listed
    return
  fi
  local command=$words[2]
  shift words
  (( CURRENT-- ))
  case $command in
{cases}
  esac
}}
if [ "$funcstack[1]" = "_mdtool" ]; then
  _mdtool "$@"
else
  compdef _mdtool mdtool
fi
"""

# --- fish ------------------------------------------------------------------------------------------------------------


def fish() -> str:
    """For ~/.config/fish/completions/mdtool.fish."""
    lines = ["# fish completion for mdtool"]
    for command in commands():
        lines.append(f"complete -c mdtool -n __fish_use_subcommand -f -a {command.name} -d {_quoted(command.says)}")
        seen = _quoted(f"__fish_seen_subcommand_from {command.name}")
        for option in command.options:
            flags = " ".join(f"-l {f[2:]}" if f.startswith("--") else f"-s {f[1:]}" for f in option.flags)
            value = " -r" if _takes_value(option) else ""
            value += f" -f -a {_quoted(' '.join(option.choices))}" if option.choices else ""
            lines.append(f"complete -c mdtool -n {seen} {flags}{value} -d {_quoted(option.says)}")
        values = [choice for option in command.arguments for choice in option.choices]
        if values:
            lines.append(f"complete -c mdtool -n {seen} -f -a {_quoted(' '.join(values))}")
    return "\n".join(lines) + "\n"


# --- the manual page -------------------------------------------------------------------------------------------------


def man() -> str:
    """mdtool(1) for man(1)."""
    lines = [
        f'.TH MDTOOL 1 "" "mdtool {__version__}" "User Commands"',
        ".SH NAME",
        "mdtool \\- machine descriptions for QEMU: keep a guest's hardware in a file, in git, and unchanged",
        ".SH SYNOPSIS",
        ".B mdtool",
        "COMMAND [OPTION]... [ARGUMENT]...",
        ".SH DESCRIPTION",
        "A guest remembers its hardware: addresses, and property values that show in them.",
        "mdtool writes all of it to a file (the machine description), keeps that file up to date with an edited guest XML",
        "while everything that stays keeps its place, starts QEMU with exactly that hardware, and checks it.",
        ".SH COMMANDS",
    ]
    for command in commands():
        arguments = " ".join(option.metavar for option in command.arguments)
        lines += [f".SS mdtool {_roff(command.name)} [OPTION]... {_roff(arguments)}".rstrip(), _roff(command.says) + "."]
        for option in (*command.arguments, *command.options):
            head = ", ".join(_roff(flag) for flag in option.flags)
            value = _roff("|".join(option.choices) if option.choices and option.flags else option.metavar)
            lines += [".TP", f"\\fB{head}\\fR \\fI{value}\\fR".replace("\\fB\\fR ", ""), _roff(option.says)]
        lines += [".PP", ".nf", *(_roff(line) or ".sp" for line in command.example.rstrip("\n").splitlines()), ".fi"]
    lines += [
        ".SH EXIT STATUS",
        "0 nothing differs, or all done; 1 differences, or changes planned; 2 an error.",
        ".SH FILES",
        "$XDG_CACHE_HOME/mdtool keeps what QEMU binaries said of themselves; it may be removed at any time.",
        ".SH SEE ALSO",
        ".BR qemu (1),",
        ".BR virsh (1)",
    ]
    return "\n".join(lines) + "\n"


def _roff(text: str) -> str:
    said = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{said}" if said.startswith((".", "'")) else said


WRITERS: Mapping[str, Callable[[], str]] = {"bash": bash, "zsh": zsh, "fish": fish, "man": man}
