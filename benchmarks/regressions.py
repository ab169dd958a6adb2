"""What got slower since a revision: instructions of each command, counted, so that a busy host does not matter.

    python benchmarks/regressions.py [REVISION]

The revision (by default the last release) is checked out in a worktree of its own, with a virtual environment of its own.
``valgrind --tool=callgrind`` counts what Python executes, compiled modules and a filled cache given, as users have them.
Ends with status 1 where a command needs more than a fiftieth more.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))

from growth import guest_xml  # noqa: E402

SLOWER = 1.02
#: command: its words; {xml} is a guest of 60 disks, {yaml} its description
COMMANDS = {
    "--help": "--help",
    "reconcile": "reconcile {xml} {yaml} --dry-run",
    "check": "check {yaml}",
    "show": "show {yaml}",
    "diff": "diff {yaml} {yaml}",
    "launch --print": "launch {xml} {yaml} --print",
    "completion": "completion bash",
}


def run(*words: str | Path, **more: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **more)  # type: ignore[call-overload]
    if done.returncode not in (0, 1):
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr or done.stdout}")
    return done


def installed(revision: str, folder: Path) -> Path:
    """A Python that has mdtool of that revision."""
    run("git", "-C", ROOT, "worktree", "add", "--detach", folder / "tree", revision)
    run(sys.executable, "-m", "venv", folder / "venv")
    run(folder / "venv/bin/python", "-m", "pip", "install", "--quiet", "--editable", folder / "tree")
    return folder / "venv/bin/python"


def counted(python: Path | str, folder: Path) -> dict[str, float]:
    """Millions of instructions of each command."""
    folder.mkdir()
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "PYTHONHASHSEED": "0"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    xml, yaml = folder / "guest.xml", folder / "guest.yaml"
    xml.write_text(guest_xml("instructions", 60))
    run(python, "-m", "mdtool", "reconcile", xml, yaml, env=environment, cwd=folder)
    found = {}
    for name, words in COMMANDS.items():
        command = [python, "-m", "mdtool", *words.format(xml=xml, yaml=yaml).split()]
        run(*command, env=environment, cwd=folder)  # so that modules are compiled and the cache is filled
        done = run("valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", *command, env=environment, cwd=folder)
        total = re.search(r"Collected : (\d+)", done.stderr)
        found[name] = int(total[1]) / 1e6 if total else float("nan")
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("revision", nargs="?", help="the last release where it is not given")
    revision = parser.parse_args().revision
    if shutil.which("valgrind") is None:
        sys.exit("valgrind is not installed")
    if revision is None:
        tag = subprocess.run(["git", "-C", ROOT, "describe", "--tags", "--abbrev=0"], capture_output=True, text=True)
        if tag.returncode:
            print("there is no release yet: name a revision to compare with")
            return 0
        revision = tag.stdout.strip()
    with tempfile.TemporaryDirectory(prefix="mdtool-bench-") as name:
        folder = Path(name)
        try:
            before = counted(installed(revision, folder), folder / "before")
        finally:
            subprocess.run(["git", "-C", ROOT, "worktree", "remove", "--force", folder / "tree"], capture_output=True)
        now = counted(sys.executable, folder / "now")
    for name in COMMANDS:
        ratio = now[name] / before[name]
        verdict = "SLOWER" if ratio > SLOWER else "quicker" if ratio < 1 / SLOWER else "the same"
        print(f"{name:16} {before[name]:8.1f} -> {now[name]:8.1f} million instructions, {ratio:5.2f} times: {verdict}")
    return 1 if any(now[name] > SLOWER * before[name] for name in COMMANDS) else 0


if __name__ == "__main__":
    sys.exit(main())
