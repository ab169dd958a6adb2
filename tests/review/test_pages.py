"""The pages of a user's day: every command in their console blocks runs, and prints what the page says it prints."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import require
from tests.review.test_tutorial import matches, steps
from tests.support import SAMPLES
from tests.support_waiting import PATIENCE

DOCS = Path(__file__).resolve().parents[2] / "docs"


@pytest.mark.parametrize(
    ("page", "least"), [("script.md", 6), ("upgrade.md", 6), ("forges.md", 9), ("orchestrators.md", 5)]
)
def test_the_page(page: str, least: int, tmp_path: Path) -> None:
    require("qemu-system-x86_64")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mdtool").write_text(f'#!/bin/sh\nexec {sys.executable} -m mdtool "$@"\n')
    (tmp_path / "bin" / "mdtool").chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {
        **os.environ,
        "PATH": path,
        "SAMPLES": str(SAMPLES),
        "LC_ALL": "C.UTF-8",
        "GIT_CONFIG_GLOBAL": "/dev/null",
    }
    environment |= {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    ran = 0
    for command, status, shown in steps((DOCS / page).read_text()):
        done = subprocess.run(
            ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )
        assert done.returncode == status, f"$ {command}\n{done.stdout}{done.stderr}"
        assert matches(shown, done.stdout.splitlines()), f"$ {command}\n{done.stdout}"
        ran += 1
    assert ran >= least
