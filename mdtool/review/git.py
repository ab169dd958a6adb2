"""git made to know descriptions: a diff that shows devices, a merge that merges nodes."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from mdtool.errors import MdtoolError
from mdtool.files import text_from_file, write_file

PATTERNS = ("*.yaml",)  # a file that is no description is merged and shown by lines, as ever


def settings(command: str) -> dict[str, str]:
    """git's configuration: name -> value.  ``command`` is how mdtool is started."""
    return {
        "diff.mdtool.textconv": f"{command} textconv --",  # git puts a file name behind it, which may begin with a dash
        "diff.mdtool.xfuncname": r"^([a-z].*)$",
        "merge.mdtool.name": "machine descriptions by node",
        "merge.mdtool.driver": f"{command} merge -o %A --marker-size %L --name=%P -- %O %A %B",
        "merge.mdtool.recursive": "binary",
    }


def command() -> str:
    """``mdtool`` where it is on PATH, of a virtual environment by its path; this interpreter where it is not."""
    found = shutil.which("mdtool")
    if found is None:
        return f"{shlex.quote(sys.executable)} -m mdtool"
    return "mdtool" if sys.prefix == sys.base_prefix else shlex.quote(os.path.abspath(found))


def set_up(patterns: Sequence[str] = PATTERNS, *, everywhere: bool = False, remove: bool = False) -> list[str]:
    """Configure the repository of the current folder (or the user's git); what was done, in words."""
    done: list[str] = []
    scope = "--global" if everywhere else "--local"
    for name, value in settings(command()).items():
        if remove:
            _git("config", scope, "--unset-all", name, may_fail=True)
        else:
            _git("config", scope, name, value)
    done.append(f"git config {scope}: {'removed ' if remove else ''}diff.mdtool and merge.mdtool")
    path = _attributes(everywhere)
    old = text_from_file(path) if path.exists() else ""
    ours = [f"{pattern} diff=mdtool merge=mdtool" for pattern in patterns]
    kept = [line for line in old.splitlines() if "merge=mdtool" not in line]
    new = "".join(f"{line}\n" for line in (kept if remove else [*kept, *ours]))
    if new != old:
        path.parent.mkdir(parents=True, exist_ok=True)
        if new:
            write_file(path, new)
        else:
            path.unlink()
        done.append(f"{'wrote' if new else 'removed'} {path}")
    return done


def files_of(revision: str, folder: str, suffixes: Sequence[str]) -> set[str]:
    """The files below a folder that git has in a revision, hidden ones aside, named as from here.

    Raises MdtoolError for a revision that git does not know.
    """
    listed = _git("ls-tree", "-r", "-z", "--name-only", "--end-of-options", revision, "--", folder)
    found = (name for name in listed.split("\0") if name.endswith(tuple(suffixes)))
    names = {str(Path(folder, os.path.relpath(name, folder))) for name in found}
    return {name for name in names if not any(part.startswith(".") and part != ".." for part in Path(name).parts)}


def committed_text(path: Path) -> str | None:
    """A file as the last commit has it; None where it has none, or where its folder is in no repository.

    Raises MdtoolError where git does not let itself be asked.
    """
    folder = path.parent.resolve()
    if not any((one / ".git").exists() for one in (folder, *folder.parents)):
        return None
    has_commits = _git("rev-list", "--max-count=1", "--all", folder=folder)
    if not has_commits or not _git("ls-tree", "HEAD", "--", path.name, folder=folder):
        return None
    return _git("show", f"HEAD:./{path.name}", folder=folder)


def _attributes(everywhere: bool) -> Path:
    if not everywhere:
        return Path(_git("rev-parse", "--show-toplevel")) / ".gitattributes"
    said = _git("config", "--global", "--get", "core.attributesFile", may_fail=True)
    return Path(said).expanduser() if said else Path("~/.config/git/attributes").expanduser()


def _git(*words: str, may_fail: bool = False, folder: Path | None = None) -> str:
    try:
        done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    except FileNotFoundError:
        raise MdtoolError("git is not installed") from None
    if done.returncode and not may_fail:
        remedy = "run this inside of a git repository, or with --global" if folder is None else None
        raise MdtoolError(f"git {words[0]}: {' '.join(done.stderr.split()).removeprefix('fatal: ')}", remedy=remedy)
    return done.stdout.strip()
