"""docs/libvirt.md, as an operator would go through it, with a guest of a name of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import uuid
from pathlib import Path

from tests.conftest import require
from tests.review.test_tutorial import matches, steps
from tests.support import SAMPLES
from tests.support_waiting import PATIENCE

PAGE = Path(__file__).resolve().parents[2] / "docs" / "libvirt.md"


def test_the_page(libvirt: str, tmp_path: Path) -> None:
    virsh = require("virsh")
    name = f"mdtool-{uuid.uuid4().hex[:8]}"
    names = {"web01": name, "web02": f"{name}-clone", "db02": f"{name}-db"}
    text = (SAMPLES / "web01" / "guest.xml").read_text().replace("web01</name>", f"{name}</name>")
    text = text.replace("3f1c2d5e-8a57-4f3e-9d0b-6a1c5e7f9b21", str(uuid.uuid4()))
    start = text.index("    <disk")
    (tmp_path / "define.xml").write_text(text[:start] + text[text.index("</disk>") + 8 :])
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "mdtool").write_text(f'#!/bin/sh\nexec {sys.executable} -m mdtool "$@"\n')
    (tmp_path / "bin" / "mdtool").chmod(0o755)
    who = {f"GIT_{who}_{what}": "t@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    environment = {**os.environ, **who, "PATH": path, "LC_ALL": "C.UTF-8", "GIT_CONFIG_GLOBAL": "/dev/null"}
    try:
        subprocess.run([virsh, "-q", "define", str(tmp_path / "define.xml")], check=True, capture_output=True)
        ran = 0
        for command, status, shown in steps(
            re.sub(r"\b(web01|web02|db02)\b", lambda found: names[found[0]], PAGE.read_text())
        ):
            done = subprocess.run(
                ["bash", "-c", command], cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=PATIENCE
            )
            assert done.returncode == status, f"$ {command}\n{done.stdout}{done.stderr}"
            assert matches(shown, done.stdout.splitlines()), f"$ {command}\n{done.stdout}"
            ran += 1
        assert ran >= 20
    finally:
        for guest in names.values():
            for verb in ("destroy", "undefine"):
                subprocess.run([virsh, "-q", verb, guest], check=False, capture_output=True)
