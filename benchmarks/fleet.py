"""How long mdtool takes for many guests in one process, beside a loop over the command, and libvirt's domxml-to-native.

    mdtool reconcile FOLDER     1,000 edited guests of 60 nodes, each with a NIC less and another one more: under 15 s
    mdtool check FOLDER         their descriptions: under 10 s
    a loop, domxml-to-native    some of them, and how long all would take at that rate

The aims are for two cores that nothing else uses: the processors' time that was used, over two, is printed beside the time
that passed, and is what the aim is held against.  Ends with status 1 where one is missed.
"""

from __future__ import annotations

import argparse
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "benchmarks")]

from reconcile import guest_xml  # noqa: E402

from mdtool.guest.devices import guest_from_bytes  # noqa: E402
from mdtool.machine.writer import yaml_from_tree  # noqa: E402
from mdtool.reconcile import reconcile  # noqa: E402

MDTOOL = [sys.executable, "-m", "mdtool"]
NODES = 60


def fleet(folder: Path, count: int) -> list[str]:
    """Guests with descriptions, edited since; their names."""
    names = [f"guest{number:04}" for number in range(count)]
    for name in names:
        (folder / f"{name}.xml").write_text(guest_xml(name, NODES, folder, first=1))
    first = guest_xml(names[0], NODES, folder)
    text = yaml_from_tree(reconcile(guest_from_bytes(first.encode(), names[0])).tree)
    for name in names:
        own = text.replace(identity(names[0]), identity(name)).replace(names[0], name)
        (folder / f"{name}.yaml").write_text(own)
    return names


def identity(name: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_DNS, name))


def measured(work: Callable[[], object]) -> tuple[float, float]:
    """(seconds that passed, seconds of the processors that children used)."""
    before, start = used(), time.perf_counter()
    work()
    return time.perf_counter() - start, used() - before


def used() -> float:
    spent = resource.getrusage(resource.RUSAGE_CHILDREN)
    return spent.ru_utime + spent.ru_stime


def command(*words: str, folder: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    done = subprocess.run([*MDTOOL, *words], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if done.returncode == 2:
        sys.exit(f"{' '.join(words)}: {done.stderr[-500:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--guests", type=int, default=1000)
    parser.add_argument("--loop", type=int, default=20, help="guests in the loops beside it")
    args = parser.parse_args()
    missed = False
    with tempfile.TemporaryDirectory(prefix="mdtool-bench-") as made:
        folder = Path(made)
        names = fleet(folder, args.guests)
        some = names[: args.loop]
        missed |= shown(
            args,
            "check *.yaml",
            measured(lambda: command("check", "-q", *(f"{name}.yaml" for name in names), folder=folder)),
            10 * 2,
        )
        loop = measured(lambda: [command("check", "-q", f"{name}.yaml", folder=folder) for name in some])
        compared("a loop over mdtool check", loop, args)
        loop = measured(
            lambda: [command("reconcile", "--dry-run", f"{name}.xml", f"{name}.yaml", folder=folder) for name in some]
        )
        missed |= shown(args, "reconcile FOLDER", measured(lambda: command("reconcile", "-q", ".", folder=folder)), 15 * 2)
        compared("a loop over mdtool reconcile", loop, args)
        if shutil.which("virsh"):
            compared("virsh domxml-to-native", measured(lambda: [native(f"{made}/{name}.xml") for name in some]), args)
    return 1 if missed else 0


def native(xml: str) -> None:
    words = ["virsh", "-c", "qemu:///system", "domxml-to-native", "qemu-argv", xml]
    subprocess.run(words, check=True, capture_output=True)


def shown(args: argparse.Namespace, what: str, took: tuple[float, float], seconds: float) -> bool:
    """Print one of ours; whether it misses its aim, of so many seconds of processors for 1,000 guests."""
    aim = seconds * args.guests / 1000
    late = took[1] > aim
    print(f"{what:<30} {args.guests} guests {took[0]:7.1f} s passed {took[1] / 2:7.1f} s on two free cores, "
          f"aim {aim / 2:g} s{'  MISSED' if late else ''}", flush=True)  # fmt: skip
    return late


def compared(what: str, took: tuple[float, float], args: argparse.Namespace) -> None:
    whole = took[0] * args.guests / args.loop
    print(f"{what:<30} {args.loop} guests {took[0]:9.1f} s passed; all {args.guests} would take {whole:.0f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
