"""What docs/orchestrators.md says to write into files, run as it stands, with folders of the test's in place of a host's.

Its console sessions are run by tests/review/test_pages.py.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from tests.integrations.test_hooks import buses, domain, guarded
from tests.support_waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
BLOCKS = [
    textwrap.dedent(block).strip() + "\n"
    for block in re.findall(r"(?:^    .*\n(?:\n(?=    ))?)+", (ROOT / "docs/orchestrators.md").read_text(), re.MULTILINE)
]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder with the fresh XML of a guest, where ``mdtool`` is on PATH."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/mdtool").write_text(f'#!/bin/sh\nexec {sys.executable} -m mdtool "$@"\n')
    (tmp_path / "bin/mdtool").chmod(0o755)
    (tmp_path / "fresh.xml").write_text(domain())
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


def run(place: Path, script: str, *words: str, stdin: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """A script with its #! line, or lines for a shell."""
    script = script.replace("/srv/guests", str(place / "store")).replace("/var/lib/mdtool", str(place / "store"))
    (place / "store").mkdir(exist_ok=True)
    (place / "script").write_text(script if script.startswith("#!") else f"#!/bin/sh\n{script}")
    (place / "script").chmod(0o755)
    return subprocess.run(
        [place / "script", *words],
        cwd=place,
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


def _libvirt(place: Path, block: str) -> None:
    (place / "guarded.xml").write_text(guarded(2))
    assert run(place, "mdtool reconcile guarded.xml store/guarded.yaml").returncode == 0
    for nics, status in ((2, 0), (1, 2)):
        done = run(place, block, "guarded", "prepare", "begin", "-", stdin=guarded(nics))
        assert done.returncode == status, done.stderr


def _image(place: Path, block: str) -> None:
    """Its base images are in registries: tests/fleet/heavy_container.py builds it with others, and runs its hook."""
    arguments = set(re.findall(r"^ARG (\w+)", (ROOT / "Containerfile").read_text(), re.MULTILINE))
    given = set(re.findall(r"--build-arg (\w+)=", block))
    assert given and given <= arguments and block.startswith("buildah build ") and block.endswith(" .\n")


def _annotation(place: Path, block: str) -> None:
    machine = YAML(typ="safe").load((ROOT / "container/virtual-machine.yaml").read_text())
    written = machine["spec"]["template"]["metadata"]["annotations"]
    assert {name: json.loads(text) for name, text in YAML(typ="safe").load(block).items()} == {
        name: json.loads(text) for name, text in written.items()
    }


def _cloudstack(place: Path, block: str) -> None:
    """Groovy is in the agent alone; what its lines do is: start these words, give them the XML, take their output."""
    words = json.loads(re.findall(r"\[.*\]", block)[0])
    assert re.search(r"\]\.execute\(\)\n.*<< xml \}\nreturn process\.text$", block.strip())
    done = run(
        place, 'exec "$@"', *(word.replace("/var/lib/mdtool", str(place / "store")) for word in words), stdin=domain()
    )
    assert done.returncode == 0 and buses(done.stdout), done.stderr


def _ovirt(place: Path, block: str) -> None:
    fresh = place / "fresh.xml"
    first = run(place, block, _hook_domxml=str(fresh))
    old = buses(fresh.read_text())
    assert first.returncode == 0 and old, first.stderr
    fresh.write_text(domain(3))  # that start failed, and vdsm makes the XML anew, with more
    again = run(place, block, _hook_domxml=str(fresh))
    now = buses(fresh.read_text())
    assert again.returncode == 0 and {name: now[name] for name in old} == old and len(now) > len(old), again.stderr


#: what a block has in it -> how it is run
HOW: dict[str, Callable[[Path, str], None]] = {
    "mdtool hook libvirt": _libvirt,
    "buildah build": _image,
    "hookSidecars": _annotation,
    ".execute()": _cloudstack,
    "mdtool hook ovirt": _ovirt,
}


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.splitlines()[-1][:40])
def test_a_block_of_the_page_does_what_it_says(block: str, place: Path) -> None:
    (how,) = [how for mark, how in HOW.items() if mark in block]
    how(place, block)


def test_the_page_has_a_block_for_each_caller() -> None:
    assert len(BLOCKS) == len(HOW)
