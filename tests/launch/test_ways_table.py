"""The table of ways: what the command line, the pages and the launch take from it."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from mdtool.cli import launch as launch_command
from mdtool.cli import reconcile as reconcile_command
from mdtool.errors import InputError
from mdtool.launch.prepare import handed_over
from mdtool.launch.ways import DEFAULT, DIRECT, WAYS, chosen
from tests.support import run_mdtool

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", [launch_command, reconcile_command])
def test_the_command_line_offers_the_ways_of_the_table(command: object) -> None:
    parser = argparse.ArgumentParser()
    command.arguments(parser)  # type: ignore[attr-defined]
    (via,) = (action for action in parser._actions if "--via" in action.option_strings)
    assert list(via.choices or ()) == list(WAYS)


@pytest.mark.parametrize("page", ["README.md", "docs/launch.md"])
def test_the_pages_name_every_way(page: str) -> None:
    text = (ROOT / page).read_text()
    rows = dict(re.findall(r"^\| `(\w+)`(?: \(default\))? \| (.*)$", text, re.MULTILINE))
    missing = {name for name in WAYS if name not in rows and not (WAYS[name].hints and f"--{name} FILE" in text)}
    assert not missing
    assert f"`{DEFAULT}` (default)" in text
    for name, way in WAYS.items():
        if page == "README.md" and way.solution is not None:
            assert rows[name].startswith(f"Solution {way.solution} ")


def test_every_direct_way_makes_a_command_line() -> None:
    for name in DIRECT:
        assert handed_over([], name, "/nonexistent/qemu").options == ()
    assert {name for name, way in WAYS.items() if way.by_libvirt} == {"libvirt"}


def test_a_way_refuses_only_options_that_launch_has() -> None:
    parser = argparse.ArgumentParser()
    launch_command.arguments(parser)
    known = {action.dest for action in parser._actions}
    assert all(set(way.refuses) <= known for way in WAYS.values())


def test_a_way_that_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="there is no such way"):
        chosen("devices", hints=False)
    with pytest.raises(InputError, match="without a hints file"):
        chosen("hints", hints=False)


def test_arguments_are_looked_at_before_files() -> None:
    done = run_mdtool("launch", "/nonexistent.xml", "--via", "libvirt", "--qmp", "/tmp/q")
    assert done.returncode == 2 and "--qmp: libvirt runs the guest" in done.stderr
