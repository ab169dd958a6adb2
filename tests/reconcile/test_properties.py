"""Whatever is edited, in whatever order: survivors stay, nothing collides, and the same again changes nothing.

hypothesis draws the guests and the edits.  ``MDTOOL_SOAK=1000`` runs a thousand, other ones every time (``MDTOOL_SEED``
repeats them).  As many run on real QEMU, the machine after each step started and compared with its description.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis.internal.conjecture import engine
from support import argv_of, loads, saved, started
from support_rehearsed import OnQemu
from support_sequences import MACHINES, QUIET, Part, Story, World, run, stories

from mdtool.errors import InputError
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.model import Wanted
from mdtool.machine.tree import Tree
from mdtool.reconcile import reconciler
from mdtool.reconcile.match import Match, Matching
from mdtool.reconcile.plan import Action

SOAK = int(os.environ.get("MDTOOL_SOAK", "0"))
EXAMPLES = SOAK or 50
ON_QEMU = SOAK or 30
BATCH = 10  # stories on QEMU in one test: what pytest-xdist spreads
#: other stories with each soak, always the same ones without
FIRST = int(os.environ.get("MDTOOL_SEED", "0")) or (random.SystemRandom().randrange(10**6) if SOAK else 0)
MACHINE_NAMES = tuple(MACHINES)


SHRUNK = (Phase.generate, Phase.shrink)
#: QEMU has to start for every attempt; hypothesis has no setting for it, and takes five minutes
engine.MAX_SHRINKING_SECONDS = 60


def told(
    each: Callable[[Story], object], machine: str, number: int, examples: int, phases: Sequence[Phase] = SHRUNK
) -> None:
    """``each`` with so many stories of hypothesis's, the same ones for a number; one that fails is shrunk and printed."""

    @seed(FIRST + number)
    @settings(
        max_examples=examples,
        derandomize=False,
        database=None,
        deadline=None,
        phases=phases,
        report_multiple_bugs=False,
        suppress_health_check=list(HealthCheck),
    )
    @given(stories(machine))
    def all_of_them(story: Story) -> None:
        each(story)

    all_of_them()


@pytest.mark.parametrize("machine", MACHINES)
def test_sequences(machine: str) -> None:
    told(run, machine, 0, -(-EXAMPLES // len(MACHINES)))


def test_a_newcomer_does_not_take_the_name_of_one_that_changed_its_model() -> None:
    world = World("q35", [Part("nic", 1, 0)])
    world.step()
    world.parts = [Part("nic", 2, 1), Part("nic", 1, 1)]  # virtio-net becomes e1000, and another e1000 comes
    plan = world.step().plan
    names = {step.origin: (step.action, step.name) for step in plan.steps if "interface" in (step.origin or "")}
    assert names == {
        "interface/52:54:00:00:00:01": (Action.REPLACE, "net0"),
        "interface/52:54:00:00:00:02": (Action.ADD, "net1"),
    }
    assert {"net0", "net1"} <= world.document().tree.by_name.keys()


def on_qemu(
    folder: Path, machine: str, number: int, examples: int, *, checked: bool = True, phases: Sequence[Phase] = SHRUNK
) -> Counter[str]:
    """Stories on QEMU, half of them from a dump; how many steps, QEMUs and states there were."""
    count: Counter[str] = Counter()

    def each(story: Story) -> None:
        with OnQemu(folder, count, full=bool(len(story.start) % 2)) as after:
            run(story, after, checked=checked)

    told(each, machine, number, examples, phases)
    return count


@pytest.mark.parametrize("number", range(0, ON_QEMU, BATCH))
def test_sequences_on_qemu(number: int, tmp_path: Path) -> None:
    """After each step QEMU takes what came out of it, its dump is the description, survivors are where they were, and a
    step of which the guest sees nothing takes the state of the machine before."""
    machine = MACHINE_NAMES[number // BATCH % len(MACHINES)]
    count = on_qemu(tmp_path, machine, number, min(BATCH, ON_QEMU - number))
    print(machine, FIRST + number, dict(count))
    assert count["steps"] >= BATCH and count["machines"], count


# --- negative controls: with the fault put in, the same checks fail


def broken() -> bool:
    """Whether one of the stories of ``test_sequences`` fails its checks."""
    try:
        for machine in MACHINES:
            told(run, machine, 0, 20, (Phase.generate,))
    except (AssertionError, InputError):
        return True
    return False


def match_by_alias(monkeypatch: pytest.MonkeyPatch) -> None:
    """What libvirt's aliases would do: the first NIC of the XML is net0, whichever that is."""
    real = reconciler.matched

    def by_alias(tree: Tree, wanted: Sequence[Wanted], **more: Any) -> Matching:
        found = real(tree, wanted, **more)
        nics = [w for w in wanted if w.kind == "interface"]
        pairs = [(w, tree.by_name[f"net{n}"]) for n, w in enumerate(nics) if f"net{n}" in tree.by_name]
        taken = {place.name for _, place in pairs}
        return Matching(
            (
                *(m for m in found.matches if m.wanted.kind != "interface" and m.place.name not in taken),
                *(Match(w, place, "alias") for w, place in pairs),
            ),
            tuple(w for w in wanted if w.driver and w not in [one for one, _ in pairs] and w.origin not in found.by_origin),
            tuple(place for place in found.gone if place.name not in taken),
        )

    monkeypatch.setattr(reconciler, "matched", by_alias)


def reuse_freed_places(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "Occupied", lambda addresses=(), _retired=(), _indices=(): Occupied(addresses))


@pytest.mark.parametrize("fault", [match_by_alias, reuse_freed_places])
def test_a_fault_is_found_out(fault: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch) -> None:
    fault(monkeypatch)
    assert broken()


@pytest.mark.parametrize(("fault", "said"), [(match_by_alias, "on QEMU: mac"), (reuse_freed_places, "on QEMU: the new ")])
def test_a_fault_is_found_out_on_qemu(
    fault: Callable[[pytest.MonkeyPatch], None], said: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Reconcile's own checks are off."""
    fault(monkeypatch)
    with pytest.raises(AssertionError, match=said):
        on_qemu(tmp_path, "q35", 1, BATCH, checked=False, phases=(Phase.generate,))


@pytest.mark.parametrize("machine", MACHINES)
def test_what_the_plan_calls_invisible_takes_the_old_state(machine: str, tmp_path: Path) -> None:
    """The migration stream of the machine before loads into the machine after; with a step that is seen it does not."""
    kinds = ("nic", "vdisk", "nic", "channel", "sdisk", "rng", "input", "channel")
    world = World(machine, [Part(kind, number, 2 * (kind == "sdisk")) for number, kind in enumerate(kinds)])
    world.step()
    guest, description = tmp_path / "p.xml", tmp_path / "p.yaml"

    def argv() -> list[str]:
        guest.write_text(world.xml())
        description.write_text(world.text or "")
        return argv_of(guest, description, "--rehearse")

    world.remove(7, 0)
    world.step()  # an address is retired
    assert world.document().tree.retired
    stream = tmp_path / "state"
    with started(argv(), tmp_path) as session:
        saved(session, stream)
    for edit in QUIET:
        getattr(world, edit)(1, 1)
        disks = sorted((part for part in world.parts if part.kind.endswith("disk")), key=lambda part: part.number)
        world.parts = [part for part in world.parts if part not in disks] + disks  # the first is the one to boot from
        assert not world.step().plan.is_seen, world.plans[-1]
    assert world.name != "p" and not world.document().tree.retired
    assert loads(argv(), stream, tmp_path) == ""
    kept = replace(world, parts=list(world.parts))
    moved = [
        replace(part, inner=f"<address type='pci' bus='0' slot='{21 + at:#x}'/>")
        for at, part in enumerate(kept.parts)
        if part.kind == "nic"
    ]
    for parts in (
        [part for part in kept.parts if part.kind != "nic" or part.number],
        [replace(part, model=1, inner="") if part.kind == "nic" else part for part in kept.parts],
        [part for part in kept.parts if part.kind != "nic"] + [replace(part, number=part.number + 9) for part in moved],
    ):
        world = replace(kept, parts=parts, plans=[])
        assert world.step().plan.is_seen
        assert "load of migration failed" in loads(argv(), stream, tmp_path), world.plans[-1]
