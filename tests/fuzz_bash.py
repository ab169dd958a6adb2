"""Random scripts, followed by mdtool and run by bash: QEMU is given the same words, or there is an error.

    python tests/fuzz_bash.py [--count N] [--seed N] [--jobs N]

bash finds a QEMU that writes down its words, and few other programs.  What only a run can tell (a file, what a program
prints) differs from run to run, and mdtool's words must be those of every run that starts a QEMU.  A script with other
words is shown without the lines that do not matter, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import random
import re
import select
import signal
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import suppress
from itertools import repeat
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from mdtool.commandline.program import without_accelerator
from mdtool.commandline.script import command_from_script
from mdtool.errors import MdtoolError, Report

RULES = Path(__file__).parent / "bash_scripts.txt"
_DEEP = 14  # from here on what needs least
_CHUNK = 50
PATIENCE = 3.0
_PROGRAMS = {
    "qemu-system-x86_64": '#!/bin/sh\n{ printf "%s\\0" "$#" "$@"; } >> "$REC"\n',
    "probe": '#!/bin/sh\ncase " $WORLD" in *" $1"*) echo "p$1"; exit 0 ;; esac\nexit 1\n',
    "sudo": '#!/bin/sh\nwhile :; do case "$1" in -*) shift ;; *) exec "$@" ;; esac; done\n',
}
_FOUND = ("bash", "seq", "expr", "basename", "dirname", "cat", "tr", "grep", "env", "nice", "setsid", "nohup", "true")
_SOURCED = "MEM=conf\nARGS+=(-conf)\n"


def rules_from_text(text: str) -> Mapping[str, list[str]]:
    """The ways of each symbol, those that are more likely more than once."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith("#"):
            head, _, ways = line.partition(": ")
            name, _, times = head.partition(" ")
            found.setdefault(name, []).extend(ways.split(" ¦ ") * int(times or 1))
    return found


def written(rules: Mapping[str, list[str]], chance: random.Random, symbol: str = "script", depth: int = 0) -> str:
    """A random text of a symbol."""
    ways = rules[symbol]
    if depth > _DEEP:
        least = min(way.count("‹") for way in ways)
        ways = [way for way in ways if way.count("‹") == least]
    text = re.sub("‹(.*?)›", lambda found: written(rules, chance, found[1], depth + 1), chance.choice(ways))
    return text.replace("¶", "\n")


class Bash:
    """bash, in a folder with a file that is sourced and, in some runs, others."""

    def __init__(self, folder: Path) -> None:
        self.bin, self.record, self.run = folder / "bin", folder / "record", folder / "run"
        self.path = self.run / "start.sh"
        (self.run / "sub").mkdir(parents=True)
        self.bin.mkdir()
        for name, text in _PROGRAMS.items():
            (self.bin / name).write_text(text)
            (self.bin / name).chmod(0o755)
        for name in _FOUND:
            (self.bin / name).symlink_to(f"/usr/bin/{name}")

    def put(self, text: str) -> None:
        """The folder as a script finds it."""
        for path in self.run.iterdir():
            if path.is_file():
                path.unlink()
        (self.run / "vm.conf").write_text(_SOURCED)
        self.path.write_text(text)

    def words(self, text: str, world: Sequence[str]) -> list[str] | None:
        """What the first QEMU is given; None where none is started, or bash stumbles."""
        self.put(text)
        for number in world:
            (self.run / f"file.{number}").touch()
        self.record.unlink(missing_ok=True)
        environment = {"PATH": str(self.bin), "REC": str(self.record), "WORLD": " ".join(world), "HOME": os.environ["HOME"]}
        reads, held = os.pipe()  # what still runs in the background holds it
        writes = fcntl.fcntl(held, fcntl.F_DUPFD, 100)  # no descriptor that a script takes
        os.close(held)
        process = subprocess.Popen(
            ["/bin/bash", self.path],
            cwd=self.run,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            pass_fds=[writes],
            start_new_session=True,
        )
        os.close(writes)
        has_ended = bool(select.select([reads], [], [], PATIENCE)[0])
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        errors = process.communicate()[1]
        os.close(reads)
        if not has_ended or not self.record.exists() or b"error token" in errors:
            return None
        said = self.record.read_bytes().decode(errors="replace").split("\0")
        return [word.replace(f"{self.bin}/qemu", "qemu") for word in said[1 : int(said[0]) + 1]]


def fault(text: str, bash: Bash) -> str | None:
    """What is wrong; "" where mdtool has an error, None where its words are those of bash."""
    bash.put(text)
    report = Report()
    try:
        command = command_from_script(text, str(bash.path), report, str(bash.run))
    except MdtoolError as error:
        return "" if error.what else "an error without a word"
    except Exception as error:
        return repr(error)
    have = [word.text for word in command.words[1:]]
    worlds: Sequence[Sequence[str]] = ((), ("1",), ("2",), ("1", "2"))
    for world in worlds if "probe" in text or "file." in text else worlds[:1]:
        words = bash.words(text, world)
        if words is not None and words != have and without_accelerator(words) != without_accelerator(have):
            return f"bash   {words}\nmdtool {have}\n{[warning.what for warning in report.warnings]}"
    return None


def smaller(text: str, bash: Bash) -> str:
    """The script without the lines that the fault does not need."""
    lines, before = text.splitlines(), 0
    while before != len(lines):
        before = len(lines)
        for size in (6, 4, 3, 2, 1):
            at = 1
            while at < len(lines):
                less = lines[:at] + lines[at + size :]
                lines, at = (less, at) if fault("\n".join(less) + "\n", bash) else (lines, at + 1)
    return "\n".join(lines) + "\n"


def tried(seed: int, first: int) -> list[tuple[str, str]]:
    """What became of a few scripts, and the report of each that is wrong."""
    rules = rules_from_text(RULES.read_text())
    found = []
    with tempfile.TemporaryDirectory(prefix="mdtool-bash-") as folder:
        bash = Bash(Path(folder))
        for number in range(first, first + _CHUNK):
            text = written(rules, random.Random(f"{seed} {number}")) + "\n"
            wrong = fault(text, bash)
            kind = "as bash has it" if wrong is None else "wrong" if wrong else "an error"
            least = smaller(text, bash) if wrong else ""
            found.append((kind, f"== seed {seed}, script {number}\n{least}--\n{fault(least, bash)}\n" if wrong else ""))
    return found


def main() -> int:
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--count", type=int, default=2000)
    options.add_argument("--seed", type=int, default=0)
    options.add_argument("--jobs", type=int, default=2)
    args = options.parse_args()
    counts: Counter[str] = Counter()
    with ProcessPoolExecutor(args.jobs) as pool:
        for found in pool.map(tried, repeat(args.seed), range(0, args.count, _CHUNK)):
            for kind, report in found:
                counts[kind] += 1
                if report:
                    print(report, flush=True)
    print(f"{counts.total():,} scripts: {', '.join(f'{times:,} {kind}' for kind, times in counts.most_common())}")
    return 1 if counts["wrong"] else 0


if __name__ == "__main__":
    sys.exit(main())
