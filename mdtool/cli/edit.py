"""``mdtool edit NAME|FILE``"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from mdtool.cli.options import options
from mdtool.cli.output import asked, say, warn_all, wrote
from mdtool.cli.plan import plan_text
from mdtool.cli.source import source_arguments
from mdtool.errors import InputError, MdtoolError
from mdtool.files import text_from_file
from mdtool.machine.document import XML, check_kind
from mdtool.records import replace
from mdtool.text import as_command

if TYPE_CHECKING:
    from mdtool.apply.revise import Revision
    from mdtool.qemu.virsh import Virsh

EXAMPLE = """\
example:
  mdtool edit web01                                     web01.xml of this folder, in $VISUAL or $EDITOR
  mdtool edit web01 --description                       web01.yaml
  mdtool edit guests/web01.yaml

What is wrong is shown as a comment at its line, and the editor opens again; leaving the text as it is then ends it, nothing
is written, and your text is kept.  The plan is shown before anything is; a guest of libvirt is defined.
"""
_TURNS = 5  # of an editor without a person behind it


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="NAME", help="a guest of this folder, or a file")
    parser.add_argument("--description", action="store_true", help="edit NAME.yaml, not NAME.xml")
    parser.add_argument("--no-define", action="store_true", help="leave libvirt alone")
    options(parser, "--prefer", "--yes")
    source_arguments(parser)


def run(args: argparse.Namespace) -> int:
    xml, description = _files(args)
    target = description if args.description else xml
    before = text_from_file(target)
    with _scratch(target, before) as scratch:
        edited = _edited(scratch, target, before, xml, description, args)
        if edited is None:
            say("nothing changed")
            return 0
        text, revision = edited
        if args.description:
            _show_diff(before, text, str(target))
        warn_all(revision.warnings)
        say(plan_text(revision))
        if not asked("write this?", yes=args.yes):
            say("nothing was written")
            return 1
        return _carried_out(text, before, revision, (target, xml, description), args)


@contextmanager
def _scratch(target: Path, before: str) -> Iterator[Path]:
    """The file that is edited; it stays where an error keeps a changed text from being written."""
    from mdtool.apply.edit import without_marks

    scratch, kept = Path(tempfile.mkdtemp(prefix="mdtool-edit-"), target.name), False
    scratch.write_text(before, encoding="utf-8")
    try:
        yield scratch
    except MdtoolError:
        text = without_marks(scratch.read_text(encoding="utf-8", errors="surrogateescape"))
        if kept := text != before:
            scratch.write_text(text, encoding="utf-8", errors="surrogateescape")
            say(f"nothing was written; your text is kept as {scratch}")
        raise
    finally:
        if not kept:
            shutil.rmtree(scratch.parent)


def _files(args: argparse.Namespace) -> tuple[Path, Path]:
    """Guest XML and description of what was named; which of them is edited is in ``args.description`` afterwards."""
    path = Path(args.name)
    if not path.is_file():
        path = Path(f"{args.name}.{'yaml' if args.description else 'xml'}")
    if not path.is_file():
        raise InputError(
            f"{args.name} is not here", expected="a guest of this folder, or a file", remedy="mdtool adopt DIR"
        )
    args.description = path.suffix in (".yaml", ".yml")
    xml, description = (path.with_suffix(".xml"), path) if args.description else (path, path.with_suffix(".yaml"))
    if not args.description:
        check_kind(text_from_file(xml), str(xml), XML)
    if not xml.is_file():
        raise InputError(f"{xml} is not there: a description is edited beside its guest XML")
    return xml, description


def _edited(
    scratch: Path, target: Path, before: str, xml: Path, description: Path, args: argparse.Namespace
) -> tuple[str, Revision] | None:
    """The new text once nothing is wrong with it, and what it leads to; None where it is the old one."""
    from mdtool.apply.edit import with_marks, without_marks

    shown = before
    for turn in count(1):
        _open(scratch)
        now = text_from_file(scratch)
        text = without_marks(now)
        if text == before:
            return None
        try:
            return text, _revision(text, xml, description, args)
        except MdtoolError as error:
            if now == shown or not _again(turn, error):
                raise
            shown = with_marks(text, error, str(target), xml=not args.description)
            scratch.write_text(shown, encoding="utf-8")
    raise AssertionError  # count() has no end


def _again(turn: int, error: MdtoolError) -> bool:
    """Whether the editor opens again: asked on a terminal; an editor that is a program gets a few turns."""
    if not sys.stdin.isatty():
        say(str(error))
        return turn < _TURNS
    print(f"{error}\nedit again? [Y/n] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in ("", "y", "yes")


def _open(file: Path) -> None:
    editor = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        status = subprocess.run([*shlex.split(editor), str(file)], check=False).returncode
    except OSError as error:
        raise InputError(f"the editor {editor} cannot be run: {error.strerror}", remedy="set EDITOR") from None
    if status:
        raise MdtoolError(f"the editor {editor} ended with status {status}; nothing was written")


def _revision(text: str, xml: Path, description: Path, args: argparse.Namespace) -> Revision:
    """What the text leads to in place of the file that is edited, which errors name."""
    from mdtool.apply.edit import checked_description
    from mdtool.apply.revise import Request, revised
    from mdtool.cli.source import access_of
    from mdtool.reconcile import Options

    if args.description:
        checked_description(text, str(description))
    access = replace(access_of(args), texts={str(description if args.description else xml): text.encode()})
    return revised(Request(str(xml), str(description), options=Options(prefer=args.prefer), access=access))


def _show_diff(before: str, text: str, name: str) -> None:
    from mdtool.machine.document import document_from_text
    from mdtool.review.diff import diff

    say(str(diff(document_from_text(before, name).tree, document_from_text(text, name).tree, everything=True)))


def _carried_out(text: str, before: str, shown: Revision, files: tuple[Path, Path, Path], args: argparse.Namespace) -> int:
    """libvirt first, which may refuse; then what was edited and what follows from it, all of it or nothing."""
    from mdtool.apply.define import define
    from mdtool.apply.saved import as_shown
    from mdtool.errors import ConflictError
    from mdtool.files import Rewrite, locked
    from mdtool.qemu.virsh import Virsh

    target, xml, description = files
    agreed = as_shown(shown)
    with locked(xml, description):
        if text_from_file(target) != before:
            raise ConflictError(f"{target} was changed by somebody else since it was opened", rule="plan-stale")
        revision = _revision(text, xml, description, args)
        agreed(revision)
        rewrite = Rewrite({str(target): text, **revision.texts()})
        rewrite.check()
        virsh, name = Virsh(args.connect), revision.guest.name
        state = None if args.no_define else _state(virsh, name)
        if state is not None:
            rewrite = Rewrite({str(target): text, **revision.texts(define(revision, virsh, say))})
        rewrite.write()
    wrote(*rewrite.texts)
    if state is not None:
        say(f"defined {name}")
        if state != "shut off":
            command = as_command("apply", xml, description, "--source", f"libvirt:{name}")
            say(f"the running guest still has its old hardware; to change it: {command}")
    return 0


def _state(virsh: Virsh, name: str) -> str | None:
    """libvirt's state of the guest; None where there is no libvirt here, or no such guest in it."""
    from mdtool.apply.define import check
    from mdtool.errors import MonitorError, QemuError

    try:
        return check(virsh, name)
    except (MonitorError, QemuError):
        return None
