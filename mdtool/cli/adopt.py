"""``mdtool adopt [GUEST...] DIR``"""

from __future__ import annotations

import argparse
from contextlib import chdir
from functools import partial
from pathlib import Path

from mdtool.cli.output import progress, say
from mdtool.cli.source import connect_argument
from mdtool.errors import InputError, MdtoolError, as_error
from mdtool.pool import each

EXAMPLE = """\
example:
  mdtool adopt guests/                                  all guests of this host's libvirt, in a git repository
  mdtool adopt web01 db01 guests/ --connect qemu:///system

Nothing in any guest changes. A second run updates descriptions in place, and leaves edited XML alone.
"""


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="GUEST", nargs="*", help="guests of libvirt; all of them without")
    parser.add_argument(
        "folder", metavar="DIR", help="where NAME.xml and NAME.yaml go; made, with git, where it is not there"
    )
    parser.add_argument("--no-git", action="store_true", help="leave git alone")
    connect_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.apply.adopt import renamed
    from mdtool.apply.status import names_in
    from mdtool.qemu.virsh import Virsh

    folder = Path(args.folder)
    known = Virsh(args.connect).uuids()
    if unknown := [name for name in args.names if name not in known]:
        from mdtool.machine.facts import near

        what, remedy = f"libvirt has no guest '{unknown[0]}'", "virsh list --all shows the names"
        raise InputError(what, expected=", ".join(near(unknown[0], known)) or None, remedy=remedy, rule="guest-name")
    names = args.names or sorted(known)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "it is a file" if folder.exists() else error.strerror
        raise MdtoolError(f"cannot make the folder {folder}: {why}", rule="output") from None
    if not args.no_git:
        _in_git(folder)
    for old, new in renamed(folder, known):
        say(f"{old} is {new} now: its files are renamed")
    failed = 0
    for number, (name, said, is_error) in enumerate(each(partial(_adopted, folder, args.connect), names, _lost), 1):
        progress(number, len(names))
        say(f"{name}: {'error: ' if is_error else ''}{said}")
        failed += is_error
    progress(0, 0)
    for name in names_in(folder):
        if name not in known and not args.names:
            say(f"{name}: gone from libvirt; its files stay until you remove them: git rm '{name}.*'")
    print(f"guests adopted in {folder}: {len(names) - failed}")
    return 2 if failed else 0


def _adopted(folder: Path, connect: str | None, name: str) -> tuple[str, str, bool]:
    """The guest's name, what became of it, and whether that is an error."""
    from mdtool.apply.adopt import adopted

    try:
        return name, adopted(name, folder, connect), False
    except Exception as error:
        return name, str(as_error(error)).removeprefix("error: "), True


def _lost(name: str) -> tuple[str, str, bool]:
    return name, "the process that worked on it ended", True


def _in_git(folder: Path) -> None:
    """A repository around the folder, with mdtool's drivers for diff and merge."""
    import subprocess

    from mdtool.review.git import set_up

    def git(*words: str) -> int:
        try:
            return subprocess.run(["git", "-C", str(folder), *words], capture_output=True, check=False).returncode
        except FileNotFoundError:
            raise MdtoolError("git is not installed", remedy="install it, or leave it out with --no-git") from None

    if git("rev-parse", "--git-dir") and git("init", "-q"):
        raise MdtoolError(f"{folder} cannot be made a git repository")
    with chdir(folder):
        set_up()
