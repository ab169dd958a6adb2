"""How time and memory of a command grow with the guest: from 200 to 2,000 devices, at most 12 times.

    python benchmarks/growth.py [--draw docs/growth.svg]

Each command is a process of its own; the least of several runs counts, of CPU time without what an empty command
(``--version``) takes.  Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from contextlib import nullcontext
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent)]

from drawing import bars  # noqa: E402
from dump import running  # noqa: E402

FEW, MANY, AIM = 200, 2000, 12.0
RUNS = 3


def guest_xml(name: str, disks: int) -> str:
    """A q35 guest of so many SCSI disks, 200 a controller."""
    lines = [f"<controller type='scsi' index='{at}' model='virtio-scsi'/>" for at in range((disks + 199) // 200)]
    for number in range(disks):
        letters, rest = "", number + 1
        while rest:
            rest, letter = divmod(rest - 1, 26)
            letters = chr(97 + letter) + letters
        place = f"controller='{number // 200}' bus='0' target='{number % 200}' unit='0'"
        lines.append(
            f"<disk type='file' device='disk'><source file='/images/{number}.img'/><serial>S{number}</serial>"
            f"<target dev='sd{letters}' bus='scsi'/><address type='drive' {place}/></disk>"
        )
    return (
        f"<domain type='qemu'><name>{name}</name><uuid>6ba7b810-9dad-41d1-80b4-{disks:012}</uuid>"
        "<memory unit='MiB'>64</memory><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>"
        f"<devices>{chr(10).join(lines)}</devices></domain>"
    )


def options(disks: int) -> list[str]:
    """The same for QEMU."""
    words = ["-machine", "pc-q35-7.2", "-m", "64"]
    for at in range((disks + 199) // 200):
        words += ["-device", f"virtio-scsi-pci,id=scsi{at},addr={at + 2:x}"]
    for number in range(disks):
        words += ["-blockdev", f"null-co,node-name=d{number}"]
        words += ["-device", f"scsi-hd,id=s{number},drive=d{number},bus=scsi{number // 200}.0,scsi-id={number % 200}"]
    return words


def cost(words: list[str], folder: Path) -> tuple[float, float]:
    """(CPU seconds, MB) of ``mdtool WORDS``: the least of several runs."""
    environment = {**os.environ, "PYTHONPATH": str(HERE.parent), "XDG_CACHE_HOME": str(folder / "cache")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    found = []
    for _ in range(RUNS):
        process = subprocess.Popen(
            [sys.executable, "-m", "mdtool", *words],
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        assert process.stderr is not None
        said = process.stderr.read()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1):
            sys.exit(f"mdtool {' '.join(words)}: {said.decode()}")
        found.append((usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024))
    return min(seconds for seconds, _ in found), min(memory for _, memory in found)


def measured(disks: int, folder: Path, *, qemu: bool) -> dict[str, tuple[float, float]]:
    xml, description, other = (folder / f"{disks}.{end}" for end in ("xml", "yaml", "other.yaml"))
    xml.write_text(guest_xml("growth", disks))
    cost(["reconcile", str(xml), str(description)], folder)
    other.write_text(description.read_text().replace("serial: S7\n", "serial: other\n"))
    found = {
        "reconcile": cost(["reconcile", str(xml), str(description), "--dry-run"], folder),
        "check": cost(["check", str(description)], folder),
        "show": cost(["show", str(description)], folder),
        "diff": cost(["diff", str(description), str(other)], folder),
    }
    monitor = folder / f"qemu{disks}"
    monitor.mkdir()
    with running("qemu-system-x86_64", options(disks), monitor) if qemu else nullcontext("") as path:
        if path:
            found["dump"] = cost(["dump", path, "-o", str(folder / f"{disks}.dump.yaml")], folder)
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--draw", metavar="FILE.svg", help="write the picture there")
    parser.add_argument("--no-qemu", action="store_true", help="without the dump")
    args = parser.parse_args()
    missed, rows = 0, {}
    with tempfile.TemporaryDirectory(prefix="mdtool-bench-") as name:
        folder = Path(name)
        nothing = cost(["--version"], folder)
        few, many = (measured(disks, folder, qemu=not args.no_qemu) for disks in (FEW, MANY))
    for command in few:
        ratios = (
            (many[command][0] - nothing[0]) / (few[command][0] - nothing[0]),
            many[command][1] / few[command][1],
        )
        missed += max(ratios) > AIM
        print(
            f"{command:10} {few[command][0]:6.3f} -> {many[command][0]:6.3f} s, {ratios[0]:4.1f} times;"
            f" {few[command][1]:4.0f} -> {many[command][1]:4.0f} MB, {ratios[1]:4.1f} times"
            f"   (aim {AIM:g}{'' if max(ratios) <= AIM else ', MISSED'})"
        )
        rows[f"{command}, {FEW}"], rows[f"{command}, {MANY}"] = ({"CPU": found[command][0]} for found in (few, many))
    if args.draw:
        title = f"CPU time of a command for {FEW} and for {MANY:,} devices"
        Path(args.draw).write_text(bars(title, rows, "s", [f"memory: {max(m for _, m in many.values()):.0f} MB at most"]))
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
