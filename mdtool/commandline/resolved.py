"""The options of a command line, each with its place: ``-readconfig`` and ``-set`` resolved, secrets taken out.

What a script says in the clear (``password=``, ``secret,data=``) stays in the script.  It is taken out before anything
else looks at the options, so that neither QEMU nor an error, the XML or the description ever has it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mdtool.commandline.config import options_from_config
from mdtool.commandline.option import Option, grouped, json_from_text, text_from_bag
from mdtool.commandline.script import Command, grammar
from mdtool.commandline.table import GONE, LOST, OPTIONS, is_keyed
from mdtool.errors import InputError, Report
from mdtool.records import replace
from mdtool.text import pattern


def options_from_command(command: Command, report: Report) -> list[Option]:
    """The options with their places; raises InputError (or Errors) for what cannot be read and for what is no more."""
    errors = Report(warnings=report.warnings)
    found: list[Option] = []
    for option in _in_words(command):
        row = OPTIONS.get(option.name)
        if row is None:
            what = f"-{option.name} is not known; it is kept unchanged" + (
                f", with {_short(option.value)} as its argument" if option.value is not None else ""
            )
            report.warn(what, at=option.position, rule="option-known")
        elif row.fate == GONE:
            error = InputError(
                f"-{option.name} is no longer an option of QEMU", at=option.position, remedy=row.says, rule="option-gone"
            )
            errors.error(error)
            continue
        elif row.fate == LOST and option.value == "none":
            continue
        elif row.fate == LOST:
            report.warn(f"-{option.name} is not carried over", at=option.position, remedy=row.says, rule="option-lost")
            continue
        with errors.step():
            read = _read_config(option, command) if option.name == "readconfig" else [option]
            found += [one for option in read for one in (_spelled_out(option) if option.name == "machine" else [option])]
    found = [safe for option in found if (safe := _without_secrets(option, report)) is not None]
    with errors.step():
        found = _set(found)
    for option in found:
        with errors.step():
            _ = option.bag if is_keyed(option.name) or option.is_json else None
    errors.done()
    return found


def _in_words(command: Command) -> Iterator[Option]:
    rest = command.words[1:]
    try:
        for name, value, at in grouped([word.text for word in rest]):
            yield Option(name, value, rest[at].position)
    except InputError as error:
        error.at = rest[-1].position
        raise


def _short(value: str | None) -> str:
    return repr(value) if value is not None and len(value) < 40 else repr(f"{(value or '')[:40]}...")


def bag_by_grammar(text: str) -> dict[str, Any]:
    """``key=value,...`` read by grammar/options.lark: the reference for ``words.bag_from_text``."""
    tree = grammar().parse(text, start="value")
    bag: dict[str, Any] = {}
    for pair in tree.children:
        parts = [str(token).replace(",,", ",") for token in getattr(pair, "children", [])]
        if pair.data == "keyed":  # type: ignore[union-attr]
            key, value = parts[0], parts[1] if len(parts) > 1 else ""
        elif parts:
            key, value = (parts[0][2:], "off") if parts[0].startswith("no") and len(parts[0]) > 2 else (parts[0], "on")
        else:
            continue
        bag[key] = value if key not in bag else [*(bag[key] if isinstance(bag[key], list) else [bag[key]]), value]
    return bag


#: what -machine takes in the place of an option: the option, and its key where it has several
_OF_MACHINE = {"firmware": ("bios", ""), **{name: (name, "") for name in ("kernel", "initrd", "append", "dtb")},
               "memory.size": ("m", "size"), "memory.slots": ("m", "slots"), "memory.max-size": ("m", "maxmem"),
               **{f"boot.{key}": ("boot", key) for key in ("order", "once", "menu", "splash", "splash-time",
                                                           "reboot-timeout", "strict")},
               **{f"smp.{key}": ("smp", key) for key in ("cpus", "sockets", "dies", "clusters", "cores", "threads",
                                                         "maxcpus")}}  # fmt: skip


def _spelled_out(machine: Option) -> Iterator[Option]:
    """``-machine q35,kernel=K,smp.cpus=2`` as ``-machine q35 -kernel K -smp cpus=2``."""
    bag = machine.bag
    others: dict[str, dict[str, Any]] = {}
    for key in [key for key in bag if key in _OF_MACHINE]:
        name, part = _OF_MACHINE[key]
        others.setdefault(name, {})[part] = bag.pop(key)
    yield machine.with_bag(bag) if others else machine
    for name, said in others.items():
        yield Option(name, said[""] if "" in said else text_from_bag(said), machine.position)


# --- -readconfig, -set ---------------------------------------------------------------------------------------------


def _read_config(option: Option, command: Command) -> list[Option]:
    """The groups of QEMU's own configuration file as options, each at its line."""
    path = option.value or ""
    if path == "/dev/stdin" and command.stdin is not None:
        text, file, first = command.stdin.text, command.stdin.position.file, command.stdin.position.line + 1
    else:
        file, first = os.path.join(command.folder or "", path), 1
        try:
            with open(file, encoding="utf-8") as stream:
                text = stream.read()
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
            raise InputError(f"-readconfig: cannot read {file}: {why}", at=option.position, rule="readconfig") from None
    return options_from_config(text, file, first)


def _set(options: Sequence[Option]) -> list[Option]:
    """``-set group.id.key=value`` merged into the option that it refers to."""
    found = list(options)
    for option in options:
        if option.name != "set":
            continue
        match = re.fullmatch(r"([\w-]+)\.([^.]+)\.([^=]+)=(.*)", option.value or "", re.S)
        index = next((n for n, o in enumerate(found) if match and o.name == match[1] and o.id == match[2]), None)
        if match is None or index is None:
            raise InputError(f"-set {option.value}: there is no such option", at=option.position, rule="options-syntax")
        found[index] = found[index].with_bag({**found[index].bag, match[3]: match[4]})
    return [option for option in found if option.name != "set"]


# --- secrets -------------------------------------------------------------------------------------------------------

#: keys whose value gives access to anyone who reads it; libvirt hands cookies to QEMU as secrets, too
_SECRET_KEYS = frozenset({"password", "passwd", "cookie", "proxy-password", "key"})
#: the same in malformed JSON, which cannot be taken apart
_IN_BROKEN_JSON = pattern(
    r"""(["'](?:[^"']*\.)?(?:password|passwd|cookie|proxy-password|key)["']\s*:\s*)(?:"[^"]*"?|'[^']*'?)"""
)
#: a secret in the midst of a text: the part before it, and the secret
_INSIDE = pattern(r"([a-z]://[^/@,\s:%]*[:%])[^/@,\s]+(?=@)|(:(?:key|password)=)[^:,\s]+")
_FILE = "keep it in a file that only you can read: -object secret,id=ID,file=PATH, and password-secret=ID"
#: where a secret goes, by option
_WAYS = {
    "spice": "until you set <graphics passwd='...'> in the XML, the display listens nowhere",
    "vnc": "until you set <graphics passwd='...'> in the XML, the display listens nowhere",
    "object": "keep it in a file that only you can read: -object secret,id=ID,file=PATH",
}


def _without_secrets(option: Option, report: Report) -> Option | None:
    """The option without secrets in the clear; None for a secret object, which is nothing else.

    A key that held a secret stays, empty: who reads the option knows that there was one.
    """
    if option.value is None or option.name in ("append", "fw_cfg", "smbios", "name"):
        return option
    if is_keyed(option.name):
        bag = option.bag
        kind = str(bag.get("qom-type", ""))
        is_secret = option.name == "object" and kind.startswith("secret") and "data" in bag
        cleaned = _cleaned(bag)
        text = _IN_BROKEN_JSON.sub(r'\1""', option.with_bag(cleaned).value or "")
        if not is_secret and text == option.value:
            return option
        found = None if is_secret else replace(option, value=text)
    else:
        cleaned_text = _INSIDE.sub(_blank, option.value)
        if cleaned_text == option.value:
            return option
        found = replace(option, value=cleaned_text)
    what = f"-{option.name}: a secret in the clear, which is not carried over"
    report.warn(what, at=option.position, remedy=_WAYS.get(option.name, _FILE), rule="secret")
    return found


def _blank(match: re.Match[str]) -> str:
    return (match[1] or match[2])[: -1 if match[1] else None]


def _cleaned(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {
            key: "" if key.rpartition(".")[2] in _SECRET_KEYS and item not in ("on", "off") else _cleaned(item)
            for key, item in value.items()
        }
    if isinstance(value, list):
        return [_cleaned(item) for item in value]
    if isinstance(value, str) and value.startswith("json:"):
        try:
            data = json_from_text(value[5:])
            cleaned = _cleaned(data)
            return value if cleaned == data else "json:" + json.dumps(cleaned)
        except (ValueError, RecursionError):
            return _IN_BROKEN_JSON.sub(r'\1""', value)
    return _INSIDE.sub(_blank, value) if isinstance(value, str) else value


__all__ = ["bag_by_grammar", "options_from_command"]
