"""What verify and launch find and what they do not, counted in one run: faults, relaunches, and originals of scripts.

    python tests/proof_runs.py        some minutes; exit status 1 where one is not as it should be

A fault (``compare/corpus.py``) is in a machine of its own, which is held against the description of the good one: verify
names it, and launch stops.  A guest is started, does something (boots, is plugged into, is migrated in, sleeps), and is
dumped; it is started again from that description, and verified.  A script is imported; the machine that the script itself
makes is held against the result.
"""

from __future__ import annotations

import shlex
import shutil
import sys
import tempfile
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack
from functools import partial
from pathlib import Path
from types import SimpleNamespace

TESTS = Path(__file__).resolve().parent
sys.path[:0] = [str(TESTS.parent), str(TESTS)]

from mdtool.compare import comparison, noticed  # noqa: E402 - the paths come first
from mdtool.errors import MdtoolError, Report  # noqa: E402
from mdtool.importer import command_from_script, imported  # noqa: E402
from mdtool.launch.device import handover  # noqa: E402
from mdtool.launch.prepare import Prepared  # noqa: E402
from mdtool.launch.rehearse import prepared_rehearsal, rehearsal  # noqa: E402
from mdtool.launch.run import Differs  # noqa: E402
from mdtool.launch.start import checked, counts  # noqa: E402
from mdtool.launch.ways import DIRECT  # noqa: E402
from mdtool.machine.document import document_from_text  # noqa: E402
from mdtool.machine.tree import Tree  # noqa: E402
from mdtool.machine.writer import yaml_from_tree  # noqa: E402
from mdtool.proof.enumerated import verified  # noqa: E402
from mdtool.proof.migration import save_state, target  # noqa: E402
from mdtool.qemu.arguments import completed  # noqa: E402
from mdtool.qemu.commandline import dumped_commandline  # noqa: E402
from mdtool.qemu.dump import as_planned, dump  # noqa: E402
from mdtool.qemu.process import QemuProcess  # noqa: E402
from mdtool.qemu.session import Session  # noqa: E402
from tests.compare import corpus  # noqa: E402
from tests.support import ran, started  # noqa: E402
from tests.support_launch import MACHINES, device, prepared  # noqa: E402
from tests.support_moving import _free_slots  # noqa: E402
from tests.support_waiting import until  # noqa: E402

RELAUNCHES, SCRIPTS = 60, 50
STOPPED, REPORTED, HOSTS, RELAUNCH, SCRIPT = "stopped", "reported", "the host's", "clean", "clean original"
GUESTS = (
    *sorted(TESTS.glob("cases/fresh-*/guest.xml")),
    *sorted((TESTS.parent / "samples").glob("*/guest.xml")),
    *MACHINES,
)


# --- what guests do --------------------------------------------------------------------------------------------------


def booted(qemu: QemuProcess, _: Prepared, __: ExitStack) -> QemuProcess:
    ran(qemu.session)
    return qemu


def plugged(qemu: QemuProcess, _: Prepared, __: ExitStack) -> QemuProcess:
    ran(qemu.session)
    if free := sorted(_free_slots(qemu.session)):
        qemu.execute("device_add", driver="virtio-rng-pci", id="plugged", bus=free[0][0], addr=free[0][1])
    return qemu


def migrated(qemu: QemuProcess, first: Prepared, stack: ExitStack) -> QemuProcess:
    ran(qemu.session)
    state = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "state"
    save_state(qemu.session, state, stop=True)
    other = stack.enter_context(rehearsal(first, more=("-incoming", f"exec:cat {state}")))
    until(lambda: other.session.execute("query-status")["status"] != "inmigrate")
    return other


def slept(qemu: QemuProcess, _: Prepared, __: ExitStack) -> QemuProcess:
    """S3 by the register that ACPI names, once the firmware has put it there; boards without it are only stopped."""
    ran(qemu.session)
    if qemu.session.execute("query-target")["arch"] != "x86_64":
        qemu.execute("stop")
        return qemu

    def sleeps() -> bool:
        qemu.session.hmp("o /w 0x604 0x2400")
        return bool(qemu.session.execute("query-status")["status"] == "suspended")

    until(sleeps)
    qemu.execute("system_wakeup")
    until(lambda: qemu.session.execute("query-status")["status"] == "running")
    return qemu


DOES: tuple[Callable[[QemuProcess, Prepared, ExitStack], QemuProcess], ...] = (booted, plugged, migrated, slept)


def first_of(guest: Path | str) -> Prepared:
    return prepared_rehearsal(guest) if isinstance(guest, Path) else prepared(MACHINES[guest](), "device")


def reread(tree: Tree) -> Tree:
    return document_from_text(yaml_from_tree(tree), "guest.yaml").tree


def relaunch(guest: Path | str, does: Callable[..., QemuProcess], number: int) -> tuple[list[str], str]:
    """What verify says of a guest that is started again as it was dumped."""
    first = first_of(guest)
    with ExitStack() as stack:
        qemu = does(stack.enter_context(rehearsal(first)), first, stack)
        tree = reread(as_planned(dump(qemu.session), first.tree, first.substitutes))
    via = DIRECT[number % len(DIRECT)]
    if isinstance(guest, Path):
        again = target(tree) if "plugged" in tree.by_name else prepared_rehearsal(guest, tree, via=via)
    else:
        bus, address = tree.by_name["plugged"].address or ("", "") if "plugged" in tree.by_name else ("", "")
        more = device("virtio-rng-pci", "plugged", bus=bus, addr=f"0x{address.partition('.')[0]}") if bus else []
        again = prepared([*MACHINES[guest](), *more], via, tree)
    with rehearsal(again) as qemu:
        _, found, _ = verified(tree, qemu.session)
    return [str(one) for one in noticed(found) if counts(one, again)], RELAUNCH


# --- faults ----------------------------------------------------------------------------------------------------------


def described(name: str, folder: Path) -> Tree:
    with paused(name, (), folder) as session:
        return reread(completed(dump(session), session, lambda _: None))


def paused(name: str, faults: Sequence[corpus.Fault], folder: Path) -> AbstractContextManager[Session]:
    words = corpus.with_faults(corpus.MACHINES[name].words, faults).split()
    return started([*words, "-S", "-display", "none"], folder)


def misjudged(name: str, fault: corpus.Fault, tree: Tree, folder: Path) -> tuple[list[str], str]:
    """What verify and launch get wrong of a machine with a fault, and what launch does about it."""
    prepared = Prepared(tree, corpus.MACHINES[name].words.split()[0], (), handover(()))
    with paused(name, [fault], folder) as session:
        _, seen, _ = verified(tree, session)
        found, _ = checked(SimpleNamespace(session=session), prepared)
    wrong = [
        f"{what}: {[str(one) for one in has]}"
        for what, has in (("verify", seen), ("launch", found))
        if corpus.is_wrong(fault, has)
    ]
    stops = bool(Differs(found).differences)
    return wrong, HOSTS if fault.node == corpus.HOST else STOPPED if stops else REPORTED


# --- scripts ---------------------------------------------------------------------------------------------------------


def scripts() -> Iterator[tuple[str, str]]:
    for line in (TESTS / "importer/corpus.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            name, _, text = line.partition(": ")
            yield name, text
    for name, machine in corpus.MACHINES.items():
        for fault in machine.faults[::5]:
            yield f"{name} {fault.new}", corpus.with_faults(machine.words, [fault])


def original(name: str, text: str, folder: Path) -> tuple[list[str], str]:
    """What differs between a script's import and the machine that it makes."""
    report = Report()
    command = command_from_script(text, "s.sh", report, "/vm")
    made = imported(command, "it", report)
    script = folder / "start.sh"
    script.write_text(shlex.join(word.text for word in command.words) + "\n")
    found = comparison(reread(made.tree), dumped_commandline(str(script), script.read_bytes()))[0]
    return [str(one) for one in noticed(found)], SCRIPT


class Count:
    """What came out, kind by kind; a line each as it comes."""

    def __init__(self) -> None:
        self.clean: Counter[str] = Counter()
        self.wrong = 0

    def run(self, name: str, run: Callable[[], tuple[list[str], str]]) -> None:
        try:
            wrong, kind = run()
        except MdtoolError as error:  # no QEMU here starts it, or import cannot
            print(f"{name}: skipped: {error}", flush=True)
            return
        except Exception:
            wrong, kind = traceback.format_exc().splitlines()[-1:], ""
        self.wrong += bool(wrong)
        self.clean[kind] += not wrong
        print(f"{name}: {'; '.join(wrong) or kind}", flush=True)


def main() -> int:
    count = Count()
    with tempfile.TemporaryDirectory() as directory:
        folder = Path(directory)
        for name, machine in corpus.MACHINES.items():
            if shutil.which(machine.words.split()[0]):
                tree = described(name, folder)
                for fault in machine.faults:
                    run = partial(misjudged, name, fault, tree, folder)
                    count.run(f"{name}: {fault.old or 'in addition'} => {fault.new or 'nothing'}", run)
        for number in range(RELAUNCHES):
            guest, does = GUESTS[number // len(DOES) % len(GUESTS)], DOES[number % len(DOES)]
            name = guest if isinstance(guest, str) else guest.parent.name
            count.run(f"{name}, {does.__name__}, {number}", partial(relaunch, guest, does, number))
        for name, text in scripts():
            if count.clean[SCRIPT] >= SCRIPTS:
                break
            if shutil.which(text.split()[0]) and "-readconfig" not in text:  # which is a file of its own host
                count.run(name, partial(original, name, text, folder))
    clean = count.clean
    faults = clean[STOPPED] + clean[REPORTED]
    print(
        f"{faults} faults over {len(corpus.MACHINES)} boards named by verify: {clean[STOPPED]} stopped by launch, "
        f"{clean[REPORTED]} reported by it as the host's doing; {clean[HOSTS]} more are the host's, and neither names them\n"
        f"{clean[RELAUNCH]} clean relaunches\n{clean[SCRIPT]} scripts whose original verifies clean\n{count.wrong} are not as they should be"
    )
    return 1 if count.wrong else 0


if __name__ == "__main__":
    sys.exit(main())
