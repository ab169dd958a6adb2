"""A script's flash is as large after import and launch as QEMU makes it of the script, however its size is said."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from pathlib import Path

import pytest
from support import run_mdtool, started

from mdtool.qemu.session import Session, session_from_source

SCRIPTS = {
    "a size": "-drive if=pflash,unit=0,format=raw,readonly=on,file=code -drive if=pflash,unit=1,format=raw,file=vars,size=131072",
    "no units": "-drive if=pflash,format=raw,readonly=on,file=code,size=1M -drive if=pflash,format=raw,file=vars",
    "an offset": "-drive if=pflash,format=raw,readonly=on,file=code -drive if=pflash,format=raw,file=vars,offset=512K,size=256K",
    "one bank": "-drive if=pflash,format=raw,readonly=on,file.filename=code,size=1M",
    "short": "-drive if=pflash,format=raw,readonly=on,file=code,size=1M -pflash vars",
    "nodes": "-blockdev driver=file,node-name=f,filename=code,read-only=on -blockdev driver=raw,node-name=c,file=f,size=1048576,read-only=on"
    " -blockdev driver=raw,node-name=v,file.driver=file,file.filename=vars -machine pflash0=c,pflash1=v",
    "secure": "-global driver=cfi.pflash01,property=secure,value=on -drive if=pflash,format=raw,readonly=on,file=code,size=1M"
    " -drive if=pflash,format=raw,file=vars -machine smm=on",
    "qcow2": "-drive if=pflash,format=raw,readonly=on,file=code -drive if=pflash,format=qcow2,file=vars.qcow2",
}  # fmt: skip


def flash(session: Session) -> list[tuple[str, str]]:
    text = session.execute("human-monitor-command", {"command-line": "info qtree"}).replace("\r", "")
    rows = [part for part in text.split("dev: ") if part.startswith("cfi.pflash01")]
    return [(found[1], found[2]) for row in rows if (found := re.search(r"num-blocks = (\d+)[\s\S]*secure = (\w+)", row))]


@pytest.mark.parametrize("name", SCRIPTS)
def test_flash_is_as_large_as_in_the_script(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for file, size in (("code", 2 << 20), ("vars", 1 << 20)):
        (tmp_path / file).write_bytes(bytes(size))
    subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "vars.qcow2", "512K"], check=True)
    argv = ["qemu-system-x86_64", "-M", "q35", "-m", "64", "-nodefaults", "-display", "none", *SCRIPTS[name].split()]
    with started(argv, tmp_path, "-S") as session:
        wanted = flash(session)
    assert wanted
    (tmp_path / "start.sh").write_text(" ".join(argv) + "\n")
    done = run_mdtool("import", "start.sh", "--xml", "g.xml", "-o", "g.yaml")
    assert done.returncode == 0, done.stderr
    done = run_mdtool("reconcile", "g.xml", "g.yaml", "--dry-run")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_mdtool("launch", "g.xml", "g.yaml", "--rehearse")
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_mdtool("launch", "g.xml", "g.yaml", "--paused", "--daemonize", "--pidfile", "pid", "--qmp", "q")
    try:
        assert done.returncode == 0, done.stdout + done.stderr
        with session_from_source("q") as session:
            assert flash(session) == wanted
    finally:
        if os.path.exists("pid"):
            os.kill(int(Path("pid").read_text()), signal.SIGKILL)
