"""A migration target is built from the source as it is, hot-plugged devices included."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mdtool.machine.writer import yaml_from_tree
from mdtool.qemu.dump import dump
from mdtool.qemu.session import Session, session_from_source
from tests.qemu.test_launch_command import Launch, gone, guest, runtime
from tests.support import run_mdtool
from tests.support_moving import Moving, done
from tests.support_waiting import until

__all__ = ["guest", "runtime"]

#: (machine type, seed of what is done to it, a device kind that this seed leaves plugged in)
MOVES = [
    ("pc-i440fx-7.2", 6, "cpu"),
    ("pc-q35-7.2", 2, "pc-dimm"),
    ("pc-q35-7.2", 3, "e1000e"),
    ("virt-7.2", 1, "virtio-net-pci"),
]


@pytest.mark.parametrize(("machine", "seed", "kind"), MOVES)
def test_a_guest_changed_at_random_moves(machine: str, seed: int, kind: str, runtime: Path, migration: str) -> None:
    """It gets and loses hardware, first paused and then running; the target is launched from its dump alone.

    A target from the XML that the guest was started with, or made of today's XML without the dump, is refused, and the
    source runs on.
    """
    moving = Moving(machine, Path.cwd(), random.Random(seed))
    Path("old.xml").write_text(moving.xml())
    assert run_mdtool("reconcile", "old.xml", "old.yaml").returncode == 0
    source = Launch("old.xml", "old.yaml", "--qmp", "source.qmp", "--paused")
    with session_from_source("source.qmp") as session:
        for number in range(12):
            if number == 5:
                session.execute("cont")
            moving.step(session)
        before = dump(session)
    assert kind in {one.kind for one in moving.plugged.values()} and any(done.startswith("-") for done in moving.log)
    Path("now.xml").write_text(moving.xml())
    dumped = run_mdtool("dump", "source.qmp", "--xml", "now.xml", "-o", "now.yaml")
    assert dumped.returncode == 0, dumped.stderr
    assert run_mdtool("reconcile", "now.xml", "naive.yaml").returncode == 0
    for xml, description in (("old.xml", "old.yaml"), ("now.xml", "naive.yaml")):
        naive = Launch(xml, description, "--incoming", migration, pidfile="naive.pid")
        assert moved(migration) == "failed", moving.log
        assert naive.end() == 2 and "the incoming state is of another machine" in naive.said, naive.said
    target = Launch("now.xml", "now.yaml", "--qmp", "target.qmp", "--incoming", migration, pidfile="target.pid")
    assert moved(migration) == "completed", moving.log
    with session_from_source("target.qmp") as session:
        assert done(session, "query-status", "running")
        assert yaml_from_tree(dump(session)) == yaml_from_tree(before), moving.log
        session.execute("quit")
    assert target.end() == 0, target.said
    source.process.terminate()
    assert source.end() == 0 and gone(source.pid) and gone(target.pid)


def moved(migration: str) -> str:
    """How the source says that its migration ended."""
    with session_from_source("source.qmp") as session:
        session.execute("migrate", {"uri": migration})
        return done(session, "query-migrate", "completed", "failed")


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
        assert done(session, "query-migrate", "completed", "failed") == "completed"
        session.execute("quit")
    assert source.end() == 0, source.said
    with session_from_source("target.qmp") as session:
        until(lambda: query(session, "query-status")["running"])
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
