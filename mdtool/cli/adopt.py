"""``mdtool adopt [GUEST...] DIR``"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import chdir
from pathlib import Path

from mdtool.cli.output import say
from mdtool.cli.source import connect_argument
from mdtool.errors import InputError, MdtoolError

EXAMPLE = """\
example:
  mdtool adopt guests/                                  all guests of this host's libvirt, in a git repository
  mdtool adopt web01 db01 guests/ --connect qemu:///system

Nothing in any guest changes. A second run updates descriptions in place, and leaves edited XML alone.
"""
_WORKERS = 4


def arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("names", metavar="GUEST", nargs="*", help="guests of libvirt; all of them without")
    parser.add_argument(
        "folder", metavar="DIR", help="where NAME.xml and NAME.yaml go; made, with git, where it is not there"
    )
    parser.add_argument("--no-git", action="store_true", help="leave git alone")
    connect_argument(parser)


def run(args: argparse.Namespace) -> int:
    from mdtool.apply.adopt import adopted
    from mdtool.qemu.virsh import Virsh

    folder = Path(args.folder)
    known = Virsh(args.connect).names()
    if unknown := [name for name in args.names if name not in known]:
        raise InputError(f"libvirt has no guest '{unknown[0]}'", expected=", ".join(known) or "none", rule="guest-name")
    names = args.names or known
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MdtoolError(f"cannot make {folder}: {error.strerror}") from None
    if not args.no_git:
        _in_git(folder)
    failed = 0
    with ProcessPoolExecutor(min(_WORKERS, len(names) or 1)) as pool:  # a process each: a rehearsal has signal handlers
        work = {pool.submit(adopted, name, folder, args.connect): name for name in names}
        for number, future in enumerate(as_completed(work), 1):
            progress = f"[{number}/{len(names)}] " if sys.stderr.isatty() else ""
            try:
                say(f"{progress}{work[future]}: {future.result()}")
            except MdtoolError as error:
                failed += 1
                say(f"{progress}{work[future]}: {error}")
    print(f"guests in {folder}: {len(names) - failed}")
    return 2 if failed else 0


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
