"""A command for many guests in one process: folders and many files in place of one, on all cores, an answer a guest.

calls(args, guests)    the guests that arguments name, by a command's ``source.Guests``
run(command, ...)      the command for all of them
"""

from __future__ import annotations

import argparse
import io
import json
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from mdtool.cli.findings import Reported, data, from_error, write
from mdtool.cli.output import Guarded, chosen_output, progress, say
from mdtool.cli.source import EACH, LIBVIRT, PAIRS, SIDES, Guests, words_of
from mdtool.errors import InputError, MdtoolError, as_error
from mdtool.pool import each
from mdtool.records import NamedTuple, replace
from mdtool.text import as_command, counted

DESCRIPTIONS, XML = (".yaml", ".yml"), (".xml",)


class Call(NamedTuple):
    """One guest: what its answer is called, and the arguments that are its own."""

    name: str
    own: dict[str, Any]


class Outcome(NamedTuple):
    """What a command reported about one guest."""

    name: str
    status: int
    output: bytes = b""
    messages: str = ""
    errors: tuple[Reported, ...] = ()


# --- which guests ----------------------------------------------------------------------------------------------------


def files_in(source: str, suffixes: Sequence[str] = (*DESCRIPTIONS, *XML)) -> list[str]:
    """A source that is not a directory; of a folder the descriptions and guest XML in it and below it, hidden ones aside.

    Raises InputError for a folder without any.
    """
    if not os.path.isdir(source):
        return [source]
    found = sorted(
        str(path)
        for path in Path(source).rglob("*")
        if path.suffix in suffixes
        and (path.is_file() or not path.exists())  # a dangling link is reported; pipes and sockets are not guests
        and not any(part.startswith(".") for part in path.relative_to(source).parts)
        and is_one_of_ours(str(path))
    )
    if not found:
        what = "description and no guest XML" if len(suffixes) > 2 else "description"
        raise InputError(
            f"no {what} in {source}", expected="files " + ", ".join(f"*{one}" for one in suffixes), rule="folder"
        )
    return found


def is_one_of_ours(name: str) -> bool:
    """Whether a file is a description or guest XML; one that cannot be read counts, and is reported later."""
    from mdtool.machine.document import is_description, is_xml
    from mdtool.sources import data_from_source

    try:
        text = data_from_source(name).decode(errors="replace")
    except MdtoolError:
        return True
    return is_description(text) or (is_xml(text) and "<domain" in text)


def calls(args: argparse.Namespace, guests: Guests) -> list[Call]:
    """A call a guest."""
    found = _KINDS[guests.kind](args, guests.names)
    taken: dict[str, str] = {}
    for call in found:
        for option, suffix in guests.files.items():
            if folder := getattr(args, option, None):
                call.own[option] = _own_file(call.name, folder, ".json" if getattr(args, "dry_run", False) else suffix)
                if (other := taken.setdefault(call.own[option], call.name)) != call.name:
                    raise InputError(
                        f"{call.own[option]} would be written for {other} and for {call.name}", rule="many-files"
                    )
        if getattr(args, "source", None) == LIBVIRT:
            call.own["source"] = LIBVIRT + Path(call.name).stem
    return found


def _own_file(name: str, folder: str, suffix: str) -> str:
    if not os.path.isdir(folder):
        raise InputError(
            f"{folder} is not a directory", expected="for many guests, a folder for a file each", rule="many-files"
        )
    return os.path.join(folder, Path(name).stem + suffix)


def _each(args: argparse.Namespace, names: Sequence[str]) -> list[Call]:
    (name,) = names
    return [Call(file, {name: file}) for source in getattr(args, name) for file in files_in(source, DESCRIPTIONS)]


def _pairs(args: argparse.Namespace, names: Sequence[str]) -> list[Call]:
    guest, description, more = names
    words = words_of(args, names)
    found: dict[str, Call] = {}
    for word in words:
        for file in files_in(word):
            stem, suffix = os.path.splitext(file)
            beside = next((stem + one for one in DESCRIPTIONS if os.path.exists(stem + one)), stem + DESCRIPTIONS[0])
            if suffix in DESCRIPTIONS and not os.path.exists(stem + XML[0]) and os.path.isdir(word):
                say(f"warning: {file}: there is no {Path(stem).name}.xml beside it, and it is left alone")
                continue
            xml = stem + XML[0] if suffix in DESCRIPTIONS else file
            own: dict[str, Any] = {guest: xml, description: None if _is_inside(xml, beside) else beside, more: []}
            found.setdefault(xml, Call(xml, own))
    if len(words) == 2 and len(found) == 2:
        _check_apart(*found)
    return [*found.values()]


def _check_apart(first: str, second: str) -> None:
    """Raise InputError where two files of guest XML are the same guest: the second one should be its description."""
    from mdtool.guest.devices import guest_from_bytes
    from mdtool.sources import data_from_source

    names: list[str] = []
    for file in (first, second):
        with suppress(MdtoolError):  # which the command reports
            names.append(guest_from_bytes(data_from_source(file), file).name)
    if len(names) == 2 and names[0] == names[1]:
        raise InputError(
            f"{first} and {second} are guest XML of one guest, {names[0]}",
            expected="its description in second place",
            remedy=f"give {os.path.splitext(first)[0]}.yaml; {as_command('diff', first, second)} compares the two",
            rule="many-files",
        )


def _is_inside(xml: str, beside: str) -> bool:
    """Whether the description of a guest is the one inside of its XML."""
    from mdtool.sources import data_from_source, embedded_document

    if os.path.exists(beside):
        return False
    with suppress(MdtoolError):
        return embedded_document(data_from_source(xml), xml) is not None
    return False  # which the command says


def _sides(args: argparse.Namespace, names: Sequence[str]) -> list[Call]:
    left, right = words_of(args, names)
    if not os.path.isdir(left):
        return [Call(file, {names[0]: left + file, names[1]: file}) for file in _in_both(left, right)]
    if right != LIBVIRT and not os.path.isdir(right):
        raise InputError(f"{right} is one machine, and {left} a folder", expected=f"a folder, or {LIBVIRT}", rule="folder")
    return [Call(file, {names[0]: file, names[1]: _other(file, left, right)}) for file in files_in(left, DESCRIPTIONS)]


def _in_both(revision: str, folder: str) -> list[str]:
    """The descriptions that a folder has in a revision too; one that either lacks is reported, and is no difference."""
    from mdtool.review.git import files_of

    there, here = files_of(revision.removesuffix(":"), folder, DESCRIPTIONS), files_in(folder, DESCRIPTIONS)
    for says, names in (("new", {*here} - there), ("no longer there", there - {*here})):
        for name in sorted(names):
            say(f"{name}: {says}")
    return [name for name in here if name in there]


def _other(file: str, left: str, right: str) -> str:
    if right == LIBVIRT:
        return LIBVIRT + Path(file).stem
    there = Path(right, os.path.relpath(file, left))
    others = (one for one in (there, there.with_suffix(".xml")) if one.exists() and not one.samefile(file))
    return str(next(others, there))


_KINDS = {EACH: _each, PAIRS: _pairs, SIDES: _sides}


# --- all of them -----------------------------------------------------------------------------------------------------


def run(command: Callable[[argparse.Namespace], int], args: argparse.Namespace, found: list[Call], guests: Guests) -> int:
    """Run a command for every guest; the worst exit status of all."""
    form = "jsonl" if getattr(args, "json", False) or args.output_format == "json" else args.output_format
    if form not in ("text", "jsonl", "github"):
        raise InputError(
            f"--output-format {form} is one document, and these are many guests", expected="text, jsonl or github"
        )
    worst, counts = 0, [0, 0, 0]
    is_array = args.output_format == "json"
    work = partial(_answered, command, args, form)
    for number, answer in enumerate(each(work, found, _lost, one_by_one=guests.one_by_one), 1):
        progress(number, len(found))
        if is_array:
            print("[" if number == 1 else ",", end="")
        _put(answer, "markdown" if getattr(args, "format", "") == "markdown" and form == "text" else form)
        worst = max(worst, answer.status)
        counts[min(answer.status, 2)] += 1
        if guests.one_by_one and answer.status == 2 and number < len(found):
            say(f"warning: stopped: {counted(len(found) - number, 'guest')} left as before, from {found[number].name} on")
            break
    progress(0, 0)
    if is_array:
        print("]")
    says = f"{counts[0]} as they should be, {counts[1]} with differences, {counts[2]} with errors"
    say(f"{counted(len(found), 'guest')}: {says}")
    return worst


def lost(name: str) -> MdtoolError:
    """What is reported about a guest whose process died."""
    return MdtoolError(f"{name}: the process that worked on it ended", remedy="was there enough memory?", rule="lost")


def _lost(call: Call) -> Outcome:
    return Outcome(call.name, 2, errors=tuple(from_error(lost(call.name))))


def _answered(command: Callable[[argparse.Namespace], int], args: argparse.Namespace, form: str, call: Call) -> Outcome:
    own = argparse.Namespace(**{**vars(args), **call.own})
    if form == "jsonl":
        own.output_format = "text" if hasattr(own, "json") else "json"
        own.json = True
    errors: list[Reported] = []
    with _captured() as (output, messages), chosen_output("never", quiet=args.quiet):
        try:
            status = command(own)
        except Exception as error:
            status = 2
            errors = [
                one if one.at else replace(one, what=f"{call.name}: {one.what}") for one in from_error(as_error(error))
            ]
    return Outcome(call.name, status, output.getvalue(), messages.getvalue().decode(errors="replace"), tuple(errors))


@contextmanager
def _captured() -> Iterator[tuple[io.BytesIO, io.BytesIO]]:
    """What is printed inside, in place of printing it."""
    before = sys.stdout, sys.stderr
    taken = io.BytesIO(), io.BytesIO()
    streams = [io.TextIOWrapper(one, encoding="utf-8", errors="surrogateescape", write_through=True) for one in taken]
    sys.stdout, sys.stderr = (cast("Any", Guarded(stream)) for stream in streams)
    try:
        yield taken
    finally:
        sys.stdout, sys.stderr = before
        for stream in streams:
            stream.detach()


def _put(answer: Outcome, form: str) -> None:
    """One answer: a line of JSON, or what the command printed under the guest's name."""
    if form == "jsonl":
        row: dict[str, Any] = {"guest": answer.name, "status": answer.status, "result": _parsed(answer.output)}
        row |= {"messages": answer.messages.splitlines()} if answer.messages else {}
        row |= {"errors": [data(one) for one in answer.errors]} if answer.errors else {}
        print(json.dumps(row))
        return
    text = answer.output.decode(errors="surrogateescape").rstrip("\n")
    if form == "github":
        print(text, end="\n" if text else "")
    elif form == "markdown":
        print(f"### {answer.name}\n\n{text}\n" if answer.status == 1 else "", end="\n" if answer.status == 1 else "")
    elif text:
        print(f"{answer.name}: {text}" if "\n" not in text else f"{answer.name}:\n{text}")
    for line in answer.messages.splitlines():
        say(line if answer.name in line else f"{answer.name}: {line}")
    sys.stdout.flush()  # an error comes after what came before it
    write(answer.errors, "text" if form == "markdown" else form, sys.stderr)


def _parsed(output: bytes) -> Any:
    """A result as the command printed it: as JSON where it is, else as text."""
    if not output:
        return None
    try:
        return json.loads(output)
    except ValueError:
        return output.decode(errors="replace")
