"""Where the time of a command goes: Python itself, imports, our own work, and waiting for QEMU.

    python benchmarks/where.py [--draw docs/performance.svg]

Each command runs in a process of its own, which adds up its CPU time in the imports of modules and in everything else, and
the time in which it waits for QEMU; the quickest of several runs counts.  The machine is a q35 guest of 60 devices.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from drawing import bars  # noqa: E402
from dump import guest, running  # noqa: E402
from growth import guest_xml  # noqa: E402

RUNS = 15
#: what a process does for us
PROBE = """
import time
began = time.process_time()
import builtins, json, os, sys
spent = {"imports": 0.0, "QEMU": 0.0}
inside, load = [0], builtins.__import__
def timed(what, call, clock):
    def around(*words, **more):
        if inside[0]:
            return call(*words, **more)
        inside[0], start = 1, clock()
        try:
            return call(*words, **more)
        finally:
            inside[0] = 0
            spent[what] += clock() - start
    return around
def loading(name, *more):
    if name in sys.modules and not (len(more) > 2 and more[2]):
        return load(name, *more)
    return first(name, *more)
first = timed("imports", load, time.process_time)
builtins.__import__ = loading
out, words = sys.argv[1], sys.argv[2:]
from mdtool.cli import main
if words[0] in ("dump", "verify"):
    from mdtool.qemu.session import Session
    Session.ask = timed("QEMU", Session.ask, time.perf_counter)
sys.argv = ["mdtool", *words]
try:
    main()
except SystemExit:
    pass
whole = time.process_time() - began - spent["imports"]
row = {"Python's start": began, "imports": spent["imports"], "our work": whole}
with open(out, "w") as stream:
    json.dump(row | {"waiting for QEMU": spent["QEMU"]}, stream)
os._exit(0)
"""


def measured(words: list[str], folder: Path) -> dict[str, float]:
    """Milliseconds by part of the quickest run."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    out, found = folder / "row.json", []
    for _ in range(RUNS):
        command = [sys.executable, "-c", PROBE, str(out), *words]
        subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False)
        found.append({part: seconds * 1000 for part, seconds in json.loads(out.read_text()).items()})
    return min(found, key=lambda row: sum(row.values()))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", metavar="FILE.svg", help="write the picture there")
    draw = parser.parse_args().draw
    with tempfile.TemporaryDirectory(prefix="mdtool-bench-") as name:
        folder = Path(name)
        xml, yaml, dumped = (str(folder / file) for file in ("guest.xml", "guest.yaml", "dump.yaml"))
        Path(xml).write_text(guest_xml("where", 60))
        subprocess.run([sys.executable, "-m", "mdtool", "reconcile", xml, yaml], cwd=HERE.parent, capture_output=True)
        rows = {
            "--help": measured(["--help"], folder),
            "reconcile": measured(["reconcile", xml, yaml, "--dry-run"], folder),
            "check": measured(["check", yaml], folder),
            "show": measured(["show", yaml], folder),
            "launch --print": measured(["launch", xml, yaml, "--print"], folder),
        }
        with running("qemu-system-x86_64", guest(60), folder) as path:
            rows["dump"] = measured(["dump", path, "-o", dumped], folder)
            rows["verify"] = measured(["verify", dumped, path], folder)
    for command, row in rows.items():
        print(f"{command:16}{sum(row.values()):7.1f} ms: " + ", ".join(f"{part} {ms:.1f}" for part, ms in row.items()))
    if draw:
        Path(draw).write_text(bars("Where the time of a command goes: a guest of 60 devices", rows, "ms"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
