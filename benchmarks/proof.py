"""How long the proofs take.

    python benchmarks/proof.py [--qemu BINARY] [--json]

    fingerprint   of a q35 guest with 20 devices behind root ports, QEMU's start included: at most 2 s
    verify        ``mdtool verify`` of the same guest while it stands paused, process start included: at most 2 s
    migration     its state saved by one QEMU and loaded by another
    many pipes    configuration space through ports 0xcf8 and 0xcfc in one pipeline, against one access at a time

The best of several runs counts, since what else the host does only adds.  Ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from mdtool.machine.writer import yaml_from_tree  # noqa: E402
from mdtool.proof.fingerprint import fingerprint_from_argv  # noqa: E402
from mdtool.proof.pci import Ports  # noqa: E402
from mdtool.proof.probe import probed  # noqa: E402
from mdtool.proof.stream import MachineCommand, loads  # noqa: E402
from mdtool.qemu.dump import dump  # noqa: E402
from mdtool.qemu.session import session_from_source  # noqa: E402

AIM = 2.0  # seconds
RUNS = 5


def argv(binary: str, devices: int = 20) -> list[str]:
    """A q35 guest with ``devices`` virtio devices, each behind a root port of its own."""
    words = [binary, "-nodefaults", "-no-user-config", "-display", "none", "-M", "pc-q35-7.2", "-m", "256", "-smp", "2"]
    kinds = ("virtio-net-pci", "virtio-scsi-pci", "virtio-rng-pci", "e1000e", "virtio-serial-pci")
    for number in range(devices):
        slot, function = 2 + number // 8, number % 8
        several = ",multifunction=on" if function == 0 else ""
        port = f"pcie-root-port,id=rp{number},bus=pcie.0,addr={slot:x}.{function},chassis={number + 1}{several}"
        words += ["-device", port, "-device", f"{kinds[number % len(kinds)]},id=d{number},bus=rp{number},addr=0"]
    return words


def best(work: Callable[[], object]) -> float:
    """The quickest of several runs, in seconds."""
    times = []
    for _ in range(RUNS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def verify_seconds(words: list[str]) -> float:
    """``mdtool verify`` of a paused guest against its own dump, as a user runs it."""
    with tempfile.TemporaryDirectory() as folder:
        path, description = f"{folder}/qmp", f"{folder}/guest.yaml"
        more = ["-accel", "tcg", "-S", "-qmp", f"unix:{path},server=on,wait=off"]
        guest = subprocess.Popen([*words, *more], stderr=subprocess.DEVNULL)
        try:
            while not Path(path).exists():
                time.sleep(0.01)
            with session_from_source(path) as session:
                Path(description).write_text(yaml_from_tree(dump(session)))
            command = [sys.executable, "-m", "mdtool", "verify", description, path]
            return best(lambda: subprocess.run(command, check=True, capture_output=True, cwd=HERE.parent, timeout=60))
        finally:
            guest.kill()
            guest.wait()


def pipeline_seconds(words: list[str]) -> tuple[float, float]:
    """(in a pipeline, one by one) for the 256 bytes of 32 functions."""
    ports = Ports()
    commands = [command for slot in range(32) for at in range(0, 256, 4) for command in ports.read(0, slot << 3, at)]
    with probed(words) as probe:
        together = best(lambda: probe.qtest.run(commands))
        apart = best(lambda: [probe.qtest.run([command]) for command in commands])
    return together, apart


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--qemu", default="qemu-system-x86_64", metavar="BINARY")
    parser.add_argument("--json", action="store_true")
    args = parser.parse_args()
    words = argv(args.qemu)
    together, apart = pipeline_seconds(words)
    measured = {
        "fingerprint": best(lambda: fingerprint_from_argv(words)),
        "verify": verify_seconds(words),
        "migration": best(lambda: loads(MachineCommand(words), MachineCommand(words))),
        "pipeline": together,
        "one by one": apart,
    }
    if args.json:
        print(json.dumps(measured, indent=1))
    else:
        for name, seconds in measured.items():
            aim = f"   (aim {AIM:.0f} s)" if name in ("fingerprint", "verify") else ""
            print(f"{name:12} {seconds:8.3f} s{aim}")
    return 0 if measured["fingerprint"] <= AIM and measured["verify"] <= AIM else 1


if __name__ == "__main__":
    raise SystemExit(main())
