"""How long a dump takes, beside the walk that other tools do.

    python benchmarks/dump.py [--qemu BINARY]... [--json]

For each QEMU a paused q35 guest of 60 nodes and one of 300 devices are started, and in the same run

    walk         qom-list and qom-get for every property of every object below /machine, in the simplest loop over a
                 socket, as QEMU's own qom-tree script does
    in QMP       the time that mdtool dump spends waiting for QEMU
    end to end   process start to file written

are measured; the best of several runs counts, since what else the host does only adds.
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from mdtool.qemu.dump import dump  # noqa: E402
from mdtool.qemu.read import BATCH_SINCE  # noqa: E402
from mdtool.qemu.session import Question, Session, session_from_source  # noqa: E402

#: (what, the first QEMU it holds for, the QEMU it no longer holds for, at least how many times quicker than the walk)
GOALS = (
    ("in QMP", (0, 0, 0), BATCH_SINCE, 100.0),
    ("in QMP", BATCH_SINCE, (999, 0, 0), 14.0),
    ("end to end", (0, 0, 0), (999, 0, 0), 5.0),
)
GROWTH = {"in QMP": 5.5, "end to end": 2.0}  # 300 devices may take that many times as long as 60
SECONDS = 0.1  # end to end, of 60 devices


def guest(devices: int) -> list[str]:
    """Options of a q35 guest with root ports and something behind each: NICs, disks, SCSI, USB, serial ports."""
    words = ["-machine", "q35", "-m", "256"]
    words += ["-device", "qemu-xhci,id=usb,addr=2,p2=15,p3=15", "-device", "virtio-serial-pci,id=vs,addr=3"]
    words += ["-device", "virtio-scsi-pci,id=scsi,addr=4"]
    made, port = 3, 0
    while made < devices:
        slot, function = 5 + port // 8, port % 8
        if slot < 0x1A:
            more = ",multifunction=on" if function == 0 else ""
            place = f"addr={slot:x}.{function}{more}"
            words += ["-device", f"pcie-root-port,id=p{port},chassis={port + 1},{place}"]
            kind = ("virtio-net-pci,mac=52:54:00:00:{:02x}:{:02x}", "virtio-rng-pci", "virtio-blk-pci,drive=d{}")[port % 3]
            if "drive" in kind:
                words += ["-blockdev", f"null-co,node-name=d{port}"]
            words += ["-device", f"{kind.format(port >> 8 if 'mac' in kind else port, port & 255)},id=x{port},bus=p{port}"]
            made, port = made + 2, port + 1
        else:
            words += ["-blockdev", f"null-co,node-name=s{made}"]
            words += ["-device", f"scsi-hd,id=s{made},drive=s{made},bus=scsi.0,scsi-id={made % 250},lun={made // 250}"]
            made += 1
        if made % 20 == 0 and made // 20 < 16 and made < devices:
            words += ["-device", f"usb-tablet,id=u{made},bus=usb.0,port={made // 20}"]
            made += 1
    return words


@contextmanager
def running(binary: str, options: list[str], folder: Path) -> Iterator[str]:
    path = folder / "qmp"
    words = [binary, "-S", "-accel", "tcg", "-display", "none", "-nodefaults", "-no-user-config", *options]
    words += ["-qmp", f"unix:{path},server=on,wait=off"]
    with open(folder / "log", "w") as log:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
    try:
        while not path.exists() and process.poll() is None:
            time.sleep(0.02)
        time.sleep(0.1)
        with socket.socket(socket.AF_UNIX) as probe:  # it greets before its devices are there, and answers after
            probe.connect(str(path))
            probe.sendall(b'{"execute": "qmp_capabilities"}{"execute": "query-status"}')
            if not any("running" in line for line in probe.makefile()):
                raise SystemExit((folder / "log").read_text())
        yield str(path)
    finally:
        process.kill()
        process.wait()


def walk(path: str) -> tuple[int, int]:
    """Every property of every object, one command each; (commands, objects)."""
    with socket.socket(socket.AF_UNIX) as qemu:
        qemu.connect(path)
        lines = qemu.makefile("r")
        lines.readline()
        commands = objects = 0

        def execute(command: str, **arguments: Any) -> Any:
            nonlocal commands
            commands += 1
            qemu.sendall(json.dumps({"execute": command, "arguments": arguments}).encode() + b"\n")
            while "event" in (answer := json.loads(lines.readline())):
                pass
            return answer.get("return")

        execute("qmp_capabilities")
        paths = ["/machine"]
        while paths:
            here = paths.pop()
            objects += 1
            for entry in execute("qom-list", path=here):
                if entry["type"].startswith("child<"):
                    paths.append(f"{here}/{entry['name']}")
                else:
                    execute("qom-get", path=here, property=entry["name"])
    return commands, objects


class Timed(Session):
    """A session that adds up the time in which it waits for QEMU."""

    waited = 0.0

    def ask(self, questions: Sequence[Question], *, timeout: float | None = None) -> list[Any]:
        start = time.perf_counter()
        try:
            return super().ask(questions, timeout=timeout)
        finally:
            self.waited += time.perf_counter() - start


def in_qmp(path: str) -> tuple[float, int, int, tuple[int, int, int]]:
    """(seconds in QMP, round trips, nodes, version)."""
    with session_from_source(path) as plain:
        session = Timed(plain.source, plain._wire)
        tree = dump(session)
        return session.waited, session.trips, len(tree.places), session.version


def end_to_end(path: str, folder: Path) -> None:
    command = [sys.executable, "-m", "mdtool", "dump", path, "-o", str(folder / "out.yaml")]
    subprocess.run(command, check=True, cwd=HERE.parent, env={**os.environ, "PYTHONPATH": str(HERE.parent)})


def best(times: int, what: Callable[[], object]) -> float:
    found = []
    for _ in range(times):
        start = time.perf_counter()
        what()
        found.append(time.perf_counter() - start)
    return min(found)


def measured(binary: str, devices: int) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as name, running(binary, guest(devices), Path(name)) as path:
        start = time.perf_counter()
        commands, objects = walk(path)
        slow = time.perf_counter() - start
        if devices < 100:
            slow = min(slow, best(1, lambda: walk(path)))
        waited = min((in_qmp(path) for _ in range(5)), key=lambda found: found[0])
        whole = best(5, lambda: end_to_end(path, Path(name)))
        return {
            "version": list(waited[3]),
            "devices": devices,
            "nodes": waited[2],
            "objects": objects,
            "walk": {"seconds": slow, "trips": commands},
            "in QMP": {"seconds": waited[0], "trips": waited[1]},
            "end to end": {"seconds": whole},
        }


def shown(row: dict[str, Any]) -> str:
    slow = row["walk"]["seconds"]
    lines = [
        f"QEMU {'.'.join(map(str, row['version']))}, {row['devices']} devices:"
        f" {row['nodes']} nodes, {row['objects']} objects"
    ]
    lines.append(f"  {'walk':12}{slow * 1000:9.1f} ms  {row['walk']['trips']:6} round trips")
    for what in ("in QMP", "end to end"):
        seconds = row[what]["seconds"]
        trips = f"{row[what]['trips']:6} round trips" if "trips" in row[what] else " " * 18
        text = f"  {what:12}{seconds * 1000:9.1f} ms  {trips}  {slow / seconds:7.1f} times quicker"
        for name, since, until, goal in GOALS:
            if name == what and since <= tuple(row["version"]) < until and (name == "in QMP" or row["devices"] == 60):
                text += f"  (goal: {goal:g}, {'met' if slow / seconds >= goal else 'MISSED'})"
        lines.append(text)
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qemu", action="append", help="a qemu-system-x86_64; may be given again")
    parser.add_argument("--json", action="store_true", help="the figures as JSON")
    args = parser.parse_args()
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # users have compiled modules
    rows, lines = [], []
    for binary in args.qemu or ["qemu-system-x86_64"]:
        few, many = measured(binary, 60), measured(binary, 300)
        rows += [few, many]
        seconds = few["end to end"]["seconds"]
        found = [
            shown(few),
            shown(many),
            f"  60 devices end to end: {seconds:.3f} s  (goal: {SECONDS:g} s, {met(seconds, SECONDS)})",
        ]
        for what, goal in GROWTH.items():
            growth = many[what]["seconds"] / few[what]["seconds"]
            found.append(f"  300 devices {what}: {growth:.1f} times as long as 60  (goal: {goal:g}, {met(growth, goal)})")
        lines += found
        if not args.json:
            print(*found, sep="\n", flush=True)
    if args.json:
        print(json.dumps(rows, indent=1))
    return int(any("MISSED" in line for line in lines))


def met(found: float, goal: float) -> str:
    return "met" if found <= goal else "MISSED"


if __name__ == "__main__":
    raise SystemExit(main())
