"""Start to verified and running, mdtool beside libvirt, on the same guest in the same run.

    python benchmarks/launch.py [--runs 7]

Both get web01 of samples/ with a disk that exists.  mdtool starts it paused, dumps it, compares it with its full
description and continues it; ``virsh start`` starts it.  Times are those of the whole commands, the median of the runs;
the aim is under half of libvirt's, and at most 0.12 s more than the bare QEMU, from its start to its end: status 1 where
one is missed.  Without libvirt only mdtool's times are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
import uuid
from pathlib import Path

from mdtool.launch.ways import DIRECT

ROOT = Path(__file__).parents[1]
MORE = 0.12  # seconds more than the bare QEMU
PART = 0.5  # of ``virsh start``


def run(*words: str | Path) -> float:
    start = time.perf_counter()
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, timeout=120, check=False)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))}: {done.stderr or done.stdout}")
    return time.perf_counter() - start


def prepare(folder: Path) -> tuple[Path, str]:
    name = f"mdtool-bench-{uuid.uuid4().hex[:6]}"
    disk = folder / "disk.qcow2"
    run("qemu-img", "create", "-q", "-f", "qcow2", disk, "1G")
    text = (ROOT / "samples/web01/guest.xml").read_text()
    text = re.sub(r"file='[^']*\.qcow2'", f"file='{disk}'", text)
    text = re.sub(r"<uuid>.*</uuid>", f"<uuid>{uuid.uuid4()}</uuid>", text).replace("<name>web01<", f"<name>{name}<")
    guest = folder / f"{name}.xml"
    guest.write_text(text)
    folder.chmod(0o755)
    return guest, name


def ended(pid: int) -> None:
    os.kill(pid, signal.SIGTERM)
    while Path(f"/proc/{pid}").exists():
        time.sleep(0.01)


def by_mdtool(guest: Path, description: Path, via: str) -> float:
    pidfile = guest.with_suffix(".pid")
    mdtool = [sys.executable, "-m", "mdtool", "launch", guest, description, "--via", via]
    seconds = run(*mdtool, "--daemonize", "--pidfile", pidfile)
    ended(int(pidfile.read_text()))
    while pidfile.exists():
        time.sleep(0.01)
    return seconds


def bare(guest: Path, description: Path, folder: Path) -> float:
    """The same QEMU by itself: started paused, and told to quit as soon as it answers."""
    mdtool = [
        sys.executable,
        "-m",
        "mdtool",
        "launch",
        str(guest),
        str(description),
        "--via",
        "device",
        "--print",
        "--json",
    ]
    shown = json.loads(subprocess.run(mdtool, capture_output=True, text=True, check=True).stdout)
    words = [re.sub(r"path=/[^,]*/", f"path={folder}/", word) for word in shown]  # sockets of a guest that does not run
    words = [re.sub(r"^127\.0\.0\.1:\d+$", r"\g<0>,to=999", word) for word in words]  # VNC, on a port that is free
    quit_ = '{"execute": "qmp_capabilities"}{"execute": "quit"}'
    start = time.perf_counter()
    done = subprocess.run([*words, "-qmp", "stdio"], input=quit_, capture_output=True, text=True, cwd=folder, timeout=60)
    seconds = time.perf_counter() - start
    if done.returncode:
        sys.exit(f"{words[0]}: {done.stderr}")
    return seconds


def by_libvirt(guest: Path, name: str) -> float | None:
    if subprocess.run(["virsh", "list"], capture_output=True, check=False).returncode:
        return None
    run("virsh", "define", guest)
    try:
        seconds = run("virsh", "start", name)
        run("virsh", "destroy", name)
    finally:
        run("virsh", "undefine", name)
    return seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=7)
    runs = parser.parse_args().runs
    os.chdir(ROOT)
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled modules
    with tempfile.TemporaryDirectory(prefix="mdtool-bench-") as folder:
        guest, name = prepare(Path(folder))
        full = Path(folder) / "full.yaml"
        run(sys.executable, "-m", "mdtool", "dump", guest, "-o", full)
        times: dict[str, list[float]] = {via: [] for via in (*DIRECT, "libvirt", "bare")}
        for _ in range(runs):  # in turns, so that a busy host is busy for all
            times["bare"].append(bare(guest, full, Path(folder)))
            for via in DIRECT:
                times[via].append(by_mdtool(guest, full, via))
            if _has_virsh() and (seconds := by_libvirt(guest, name)) is not None:
                times["libvirt"].append(seconds)
        alone = statistics.median(times["bare"])
        print(f"bare QEMU                    {alone:6.3f} s   started paused, ended")
        more = statistics.median(times["file"]) - alone
        missed = more > MORE
        print(f"mdtool needs {more:.3f} s more (aim: at most {MORE}){'  MISSED' if missed else ''}")
        for via in DIRECT:
            median = statistics.median(times[via])
            print(f"mdtool launch --via {via:8} {median:6.3f} s   paused, dumped, compared, running")
        if not times["libvirt"]:
            print("virsh start: no libvirt here")
            return int(missed)
        libvirt = statistics.median(times["libvirt"])
        print(f"virsh start                  {libvirt:6.3f} s   running")
        part = statistics.median(times["file"]) / libvirt
        print(f"mdtool needs {part:.0%} of libvirt's time (aim: under {PART:.0%}){'' if part < PART else '  MISSED'}")
        return int(missed or part >= PART)


def _has_virsh() -> bool:
    return any(os.access(os.path.join(path, "virsh"), os.X_OK) for path in os.get_exec_path())


if __name__ == "__main__":
    sys.exit(main())
