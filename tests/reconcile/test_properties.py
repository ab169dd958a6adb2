"""Whatever is edited, in whatever order: survivors stay, nothing collides, and the same again changes nothing.

``MDTOOL_SOAK=1000`` runs a thousand sequences, with new random ones every time.  As many run on real QEMU, the machine
after each step started and compared with its description.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from support import argv_of, loads, saved, started
from support_rehearsed import OnQemu
from support_sequences import EDITS, MACHINES, Edit, Part, World, run

from mdtool.errors import InputError
from mdtool.guest.allocation.occupied import Occupied
from mdtool.guest.model import Wanted
from mdtool.reconcile import reconciler
from mdtool.reconcile.match import Match, Matching
from mdtool.reconcile.plan import Action
from mdtool.tree import Tree

SOAK = int(os.environ.get("MDTOOL_SOAK", "0"))
EXAMPLES = SOAK or 50
BATCH = 10  # sequences on QEMU in one test: what pytest-xdist spreads
FIRST = int(os.environ.get("MDTOOL_SEED", "0"))  # where a soak starts, to try others than the last one did
MACHINE_NAMES = tuple(MACHINES)

number = st.integers(0, 60)
edit = st.tuples(st.sampled_from(EDITS), number, number)
start = st.lists(st.tuples(number, number), max_size=10)
batches = st.lists(st.lists(edit, min_size=1, max_size=3), min_size=1, max_size=5)


@pytest.mark.parametrize("machine", MACHINES)
@settings(
    max_examples=-(-EXAMPLES // len(MACHINES)),
    deadline=None,
    suppress_health_check=list(HealthCheck),
    derandomize=not SOAK,
    phases=(Phase.explicit, Phase.generate, Phase.shrink),
)
@given(start=start, edits=batches)
def test_sequences(machine: str, start: list[tuple[int, int]], edits: list[list[Edit]]) -> None:
    run(machine, start, edits)


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


#: what a guest should not notice, but for the order of its disks
QUIET = ("reverse", "rotate", "bare", "addressed", "comment")


def sequence(seed: int) -> tuple[list[tuple[int, int]], list[list[Edit]]]:
    """A start and edits, always the same for a seed."""
    drawn = random.Random(seed)

    def pair() -> tuple[int, int]:
        return drawn.randrange(61), drawn.randrange(61)

    begin = [pair() for _ in range(8)]
    loud = [[(drawn.choice(EDITS), *pair()) for _ in range(3)] for _ in range(3)]
    quiet = [(drawn.choice(QUIET), *pair()) for _ in range(2)]
    return begin, [*loud[:2], quiet, loud[2]]


@pytest.mark.parametrize("seed", range(0, EXAMPLES, BATCH))
def test_sequences_on_qemu(seed: int, tmp_path: Path) -> None:
    """After each step QEMU takes what came out of it, its dump is the description, and an invisible step takes the
    state of the machine before."""
    count: Counter[str] = Counter()
    for one in range(seed, min(seed + BATCH, EXAMPLES)):
        with OnQemu(tmp_path, count, full=bool(one % 2)) as after:
            try:
                run(MACHINE_NAMES[one % len(MACHINES)], *sequence(FIRST + one), after)
            except Exception as error:
                raise AssertionError(f"sequence {FIRST + one} on {MACHINE_NAMES[one % len(MACHINES)]}: {error}") from error
    assert count["steps"] >= 2 * BATCH and count["machines"] and count["states"], count
    print(dict(count))


# --- negative controls: with the fault put in, the same checks fail


def broken() -> bool:
    """Whether some sequence fails its checks."""
    for seed in range(30):
        try:
            run(("pc", "q35", "virt")[seed % 3], *sequence(seed))
        except (AssertionError, InputError):
            return True
    return False


def test_nothing_is_broken_without_a_fault() -> None:
    assert not broken()


def test_matching_by_alias_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
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
    assert broken()


def test_reuse_of_freed_places_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reconciler, "Occupied", lambda spots=(), _retired=(), _indices=(): Occupied(spots))
    assert broken()


@pytest.mark.parametrize("machine", MACHINES)
def test_what_the_plan_calls_invisible_takes_the_old_state(machine: str, tmp_path: Path) -> None:
    """The migration stream of the machine before loads into the machine after; with one NIC less it does not."""
    kinds = ("nic", "vdisk", "nic", "channel", "sdisk", "rng", "input", "channel")
    world = World(machine, [Part(kind, number, 2 * (kind == "sdisk")) for number, kind in enumerate(kinds)])
    world.step()
    guest, description = tmp_path / "p.xml", tmp_path / "p.yaml"

    def argv() -> list[str]:
        guest.write_text(world.xml())
        description.write_text(world.text or "")
        return argv_of(guest, description, "--rehearse")

    stream = tmp_path / "state"
    with started(argv(), tmp_path) as session:
        saved(session, stream)
    for edit in ("addressed", "comment", "reverse", "bare"):
        getattr(world, edit)(1, 1)
        disks = sorted((part for part in world.parts if part.kind.endswith("disk")), key=lambda part: part.number)
        world.parts = [part for part in world.parts if part not in disks] + disks  # the first is the one to boot from
        assert not world.step().plan, world.plans[-1]
    assert loads(argv(), stream, tmp_path) == ""
    world.parts = [part for part in world.parts if part.kind != "nic" or part.number]
    assert world.step().plan
    assert "virtio-net" in loads(argv(), stream, tmp_path)
