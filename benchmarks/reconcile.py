"""How long ``mdtool reconcile`` takes, against libvirt on the same host in the same run.

    one guest      mdtool reconcile on an edited guest of 60 nodes, process start included, against ``virsh define`` plus
                   ``virsh start`` of that guest: at most 0.18 of the sum
    many guests    the same in one process, against ``virsh domxml-to-native``: at least as many a second; a guest with
                   nothing to change takes at most 8 ms
    growth         300 nodes against 60, in one process: at most 5.5 times as long

Each measurement is the median of several, the sides taken in turns.  ``--profile`` shows where the time goes.  Needs
libvirtd and qemu-system-x86_64; ends with status 1 where an aim is missed.
"""

from __future__ import annotations

import argparse
import cProfile
import os
import pstats
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from statistics import median

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from mdtool.guest.devices import guest_from_bytes
from mdtool.machine.document import document_from_file
from mdtool.machine.edit import rewritten
from mdtool.machine.writer import yaml_from_tree
from mdtool.reconcile import reconcile

URI = "qemu:///system"


def guest_xml(name: str, nodes: int, folder: Path, *, first: int = 0) -> str:
    """A q35 guest with about so many nodes: NICs and disks behind ports of their own, SCSI disks, channels."""
    units = nodes // 10
    lines = [f"<controller type='scsi' index='{index}' model='virtio-scsi'/>" for index in range(units * 3 // 7 + 1)]
    for number in range(first, units * 2 + first):
        mac = f"52:54:00:{number >> 16:02x}:{number >> 8 & 255:02x}:{number & 255:02x}"
        lines.append(f"<interface type='user'><mac address='{mac}'/><model type='virtio'/></interface>")
    for bus, prefix, count in (("virtio", "vd", units), ("scsi", "sd", units * 3)):
        for number in range(count):
            file = folder / f"{prefix}{number}.img"
            target = prefix + (chr(96 + number // 26) if number > 25 else "") + chr(97 + number % 26)
            lines.append(
                f"<disk type='file' device='disk'><driver name='qemu' type='raw'/><source file='{file}'/>"
                f"<target dev='{target}' bus='{bus}'/></disk>"
            )
    for number in range(min(units, 30)):
        lines.append(f"<channel type='null'><target type='virtio' name='org.example.{number}'/></channel>")
    return "\n".join(
        [
            f"<domain type='qemu'><name>{name}</name><uuid>{uuid.uuid5(uuid.NAMESPACE_DNS, name)}</uuid>",
            "<memory unit='MiB'>64</memory><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>",
            "<features><acpi/></features><devices><emulator>/usr/bin/qemu-system-x86_64</emulator>",
            *lines,
            "</devices></domain>",
        ]
    )


def timed(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def virsh(*words: str) -> None:
    done = subprocess.run(["virsh", "-c", URI, "-q", *words], capture_output=True, text=True, timeout=120)
    if done.returncode:
        sys.exit(f"virsh {' '.join(words)}: {done.stderr.strip()}")


def one_guest(folder: Path, rounds: int) -> tuple[float, float]:
    """(mdtool reconcile, virsh define + virsh start), seconds."""
    name = f"mdtool-bench-{uuid.uuid4().hex[:8]}"
    xml, description = folder / "one.xml", folder / "one.yaml"
    xml.write_text(guest_xml(name, 60, folder))
    for number in range(6):
        (folder / f"vd{number}.img").write_bytes(bytes(512))
    for number in range(18):
        (folder / f"sd{number}.img").write_bytes(bytes(512))
    description.write_text(yaml_from_tree(reconcile(guest_from_bytes(xml.read_bytes(), "one.xml")).tree))
    edited = folder / "edited.xml"
    edited.write_text(guest_xml(name, 60, folder, first=1))  # a NIC less, another one more
    words = [sys.executable, "-m", "mdtool", "reconcile", str(edited), str(description), "-o", str(folder / "new.yaml")]
    # Compiled modules, as pip leaves them: in a folder of our own, whatever this environment says of them.
    environment = {**os.environ, "PYTHONPYCACHEPREFIX": str(folder / "compiled")}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)

    def ourselves() -> None:
        subprocess.run(words, check=True, capture_output=True, env=environment)

    ourselves()
    ours, theirs = [], []
    for _ in range(rounds):
        ours.append(timed(ourselves))
        try:
            theirs.append(timed(lambda: virsh("define", str(xml))) + timed(lambda: virsh("start", name)))
        finally:
            subprocess.run(["virsh", "-c", URI, "-q", "destroy", name], capture_output=True)
            subprocess.run(["virsh", "-c", URI, "-q", "undefine", name], capture_output=True)
    return median(ours), median(theirs)


def in_process(folder: Path, nodes: int, count: int, first: int = 1) -> float:
    """Seconds a guest: read XML and description, reconcile, write the new description.

    ``first`` is the number of the first NIC in the XML: the description begins with 0.
    """
    work = prepared(folder, nodes, count, first)
    return timed(lambda: [one() for one in work]) / count


def prepared(folder: Path, nodes: int, count: int, first: int = 1) -> list[Callable[[], str]]:
    def one(number: int) -> Callable[[], str]:
        name = f"g{nodes}-{number}"
        description = folder / f"{name}.yaml"
        before = guest_xml(name, nodes, folder).encode()
        edited = guest_xml(name, nodes, folder, first=first).encode()
        if number == 0:
            description.write_text(yaml_from_tree(reconcile(guest_from_bytes(before, name)).tree))
            texts[nodes] = description.read_text()
        uuids = [str(uuid.uuid5(uuid.NAMESPACE_DNS, each)) for each in (f"g{nodes}-0", name)]
        description.write_text(texts[nodes].replace(f"g{nodes}-0", name).replace(*uuids))

        def work() -> str:
            old = document_from_file(description)
            return rewritten(old, reconcile(guest_from_bytes(edited, name), old.tree).tree)

        return work

    texts: dict[int, str] = {}
    return [one(number) for number in range(count)]


def native(folder: Path, rounds: int) -> float:
    """Seconds of ``virsh domxml-to-native`` for one guest."""
    xml = folder / "native.xml"
    xml.write_text(guest_xml("native", 60, folder))
    return median(timed(lambda: virsh("domxml-to-native", "qemu-argv", str(xml))) for _ in range(rounds))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--guests", type=int, default=200, help="guests in one process (1000 for the whole claim)")
    parser.add_argument("--profile", action="store_true", help="only show where the time of a guest of 60 nodes goes")
    args = parser.parse_args()
    missed = 0
    with tempfile.TemporaryDirectory(prefix="mdtool-bench-") as name:
        folder = Path(name)
        os.chmod(folder, 0o755)
        if args.profile:
            work = prepared(folder, 60, 10)
            profile = cProfile.Profile()
            profile.runcall(lambda: [one() for one in work])
            pstats.Stats(profile).sort_stats("cumulative").print_stats(45)
            return 0
        ours, theirs = one_guest(folder, args.rounds)
        missed += report("one guest of 60 nodes", f"{ours:.3f} s", f"define + start {theirs:.3f} s", ours / theirs, 0.18)
        each, other = in_process(folder, 60, args.guests), native(folder, args.rounds)
        missed += report(f"{args.guests} guests in one process", f"{each:.4f} s each", f"domxml-to-native {other:.4f} s",
                         each / other, 1.0)  # fmt: skip
        kept = min(in_process(folder, 60, args.guests, first=0) for _ in range(2))
        missed += report("the same, nothing to change", f"{kept:.4f} s each", "0.0080 s", kept / 0.008, 1.0)
        small, large = (median(in_process(folder, n, 3) for _ in range(args.rounds)) for n in (60, 300))
        missed += report("300 nodes against 60", f"{large:.3f} s", f"{small:.3f} s", large / small, 5.5)
    return 1 if missed else 0


def report(what: str, ours: str, theirs: str, ratio: float, aim: float) -> bool:
    print(
        f"{what:<32} {ours:<16} {theirs:<28} ratio {ratio:.2f}, aim {aim}{'' if ratio <= aim else '  MISSED'}", flush=True
    )
    return ratio > aim


if __name__ == "__main__":
    sys.exit(main())
