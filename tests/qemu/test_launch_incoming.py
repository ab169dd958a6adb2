"""A migration target is built from the source as it is, hot-plugged devices included."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mdtool.launch.process import QemuProcess
from mdtool.launch.rehearse import prepared_rehearsal, rehearsal
from mdtool.proof.migration import refusal, save_state, target
from mdtool.qemu.dump import dump
from mdtool.qemu.session import Session, session_from_source
from tests.qemu.test_launch_command import Launch, gone, guest, runtime

SAMPLE = Path(__file__).parents[2] / "samples" / "web01" / "guest.xml"
__all__ = ["guest", "runtime"]

USB = ("usb-mouse", "usb-kbd", "usb-tablet")


def plugged_at_random(qemu: QemuProcess, seed: int) -> list[str]:
    """Some devices come, some of those go again, and so may one of the guest's own; what was done."""
    choose = random.Random(seed)
    done: list[str] = []
    names = ["input0"]
    for number in range(6):
        if names and choose.random() < 0.4:
            name = names.pop(choose.randrange(len(names)))
            qemu.execute("device_del", id=name)
            done.append(f"- {name}")
        else:
            driver = choose.choice(USB)
            port = next(p for p in map(str, choose.sample(range(2, 9), 7)) if f"+ {p}" not in done)
            names.append(f"hot{number}")
            qemu.execute("device_add", driver=driver, id=names[-1], bus="usb.0", port=port)
            done.append(f"+ {port}")
    free = "pci.12"
    qemu.execute("netdev_add", type="user", id="hotnet")
    qemu.execute("device_add", driver="virtio-net-pci", id="hotnic", netdev="hotnet", bus=free, addr="0x0")
    return done


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_state_of_a_changed_machine_loads_into_its_dump_alone(seed: int, tmp_path: Path) -> None:
    original = prepared_rehearsal(SAMPLE)
    state = tmp_path / "state"
    with rehearsal(original) as qemu:
        before = dump(qemu.session)
        done = plugged_at_random(qemu, seed)
        time.sleep(0.05)
        tree = dump(qemu.session)
        save_state(qemu.session, state)
    assert refusal(target(tree), state, tree) is None, done
    naive = refusal(target(before), state, tree)  # the negative control
    assert naive is not None and "not load" in str(naive)


def query(session: Session, command: str) -> Any:
    return session.execute(command)


@pytest.fixture
def migration(tmp_path: Path) -> Iterator[str]:
    yield f"unix:{tmp_path}/m"


def test_a_running_guest_moves_to_a_launched_target(guest: Path, migration: str) -> None:
    source = Launch(guest, "web01.yaml", "--qmp", "source.qmp")
    target_launch = Launch(guest, "web01.yaml", "--qmp", "target.qmp", "--incoming", migration, pidfile="pid2")
    with session_from_source("source.qmp") as session:
        assert query(session, "query-status")["running"] is True
        session.execute("migrate", {"uri": migration})
        end = time.monotonic() + 30
        while query(session, "query-migrate")["status"] not in ("completed", "failed") and time.monotonic() < end:
            time.sleep(0.05)
        assert query(session, "query-migrate")["status"] == "completed"
        session.execute("quit")
    assert source.end() == 0, source.said
    with session_from_source("target.qmp") as session:
        end = time.monotonic() + 10
        while not query(session, "query-status")["running"] and time.monotonic() < end:
            time.sleep(0.05)
        assert query(session, "query-status")["running"] is True
        session.execute("quit")
    assert target_launch.end() == 0, target_launch.said
    assert gone(source.pid) and gone(target_launch.pid)


def test_a_target_whose_source_never_comes_waits_and_can_be_ended(guest: Path, migration: str) -> None:
    waiting = Launch(guest, "web01.yaml", "--qmp", "target.qmp", "--incoming", migration)
    with session_from_source("target.qmp") as session:
        assert query(session, "query-status")["status"] == "inmigrate"
    waiting.process.terminate()
    assert waiting.end() in (0, 143), waiting.said
    assert gone(waiting.pid)
