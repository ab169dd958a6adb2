"""The steps of the GitHub action and of the GitLab template, run as a runner runs them, on a repository of guests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from tests.support_waiting import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
GUEST = """<domain type='qemu'><name>web01</name><memory unit='MiB'>64</memory><vcpu>1</vcpu>
<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os><devices>{nics}</devices></domain>"""
NIC = "<interface type='user'><mac address='52:54:00:00:00:0{n}'/><model type='virtio'/></interface>"
#: programs of a runner: what they are called with is kept, and what they would install is this mdtool
PROGRAMS = {
    "mdtool": f'exec {sys.executable} -m mdtool "$@"',
    "gh": 'for last; do :; done; printf "%s\\n" "$*" >>"$CALLS"; cat "$last" >>"$CALLS"',
    "curl": 'cat >/dev/null; printf "%s\\n" "$*" >>"$CALLS"; cat comment.md >>"$CALLS"',  # its headers come on stdin
    "pip": 'printf "pip %s\\n" "$*" >>"$CALLS"',
    "apt-get": 'printf "apt-get %s\\n" "$*" >>"$CALLS"',
    "python3": '[ "$1 $2" = "-m venv" ] && mkdir -p "$3/bin" && ln -sf "$BIN/mdtool" "$BIN/pip" "$3/bin"',
}


class Runner:
    """A shallow checkout of a branch on which a guest lost a NIC, as both forges make it."""

    def __init__(self, folder: Path) -> None:
        self.calls, self.checkout, binaries = folder / "calls", folder / "checkout", folder / "bin"
        binaries.mkdir()
        for name, body in PROGRAMS.items():
            (binaries / name).write_text(f"#!/bin/sh\n{body}\n")
            (binaries / name).chmod(0o755)
        self.environment = {
            **os.environ,
            "PATH": f"{binaries}:{os.environ['PATH']}",
            "BIN": str(binaries),
            "CALLS": str(self.calls),
            "PYTHONPATH": str(ROOT),
            "RUNNER_TEMP": str(folder),
            "GITHUB_PATH": str(folder / "path"),
            "GITHUB_ACTION_PATH": str(ROOT),
        }
        origin, git = folder / "origin", ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
        origin.mkdir()
        self.commits = []
        subprocess.run([*git, "init", "-q"], cwd=origin, check=True)
        for count in (2, 1):
            (origin / "web01.xml").write_text(GUEST.format(nics="".join(NIC.format(n=n) for n in range(count))))
            assert self.run("mdtool reconcile web01.xml web01.yaml", origin).returncode == 0
            subprocess.run([*git, "add", "-A"], cwd=origin, check=True)
            subprocess.run([*git, "commit", "-qm", f"{count} NICs"], cwd=origin, check=True)
            head = subprocess.run([*git, "rev-parse", "HEAD"], cwd=origin, capture_output=True, text=True, check=True)
            self.commits.append(head.stdout.strip())
        subprocess.run([*git, "clone", "-q", "--depth=1", f"file://{origin}", self.checkout], check=True)

    def run(self, script: str, folder: Path | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        environment = {**self.environment, **variables}
        words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script]
        return subprocess.run(
            words, cwd=folder or self.checkout, env=environment, capture_output=True, text=True, timeout=PATIENCE
        )

    def called(self) -> str:
        """What the forge's programs were called with since the last time."""
        text = self.calls.read_text() if self.calls.exists() else ""
        self.calls.unlink(missing_ok=True)
        return text


@pytest.fixture(scope="module")
def runner(tmp_path_factory: pytest.TempPathFactory) -> Runner:
    return Runner(tmp_path_factory.mktemp("forge"))


def read(name: str) -> Any:
    return YAML(typ="safe").load((ROOT / name).read_text())


def test_the_github_action(runner: Runner) -> None:
    action = read("action.yml")

    def step(number: int, base: str = "") -> subprocess.CompletedProcess[str]:
        values = {f"inputs.{name}": str(row["default"]) for name, row in action["inputs"].items()}
        values |= {"inputs.audit": "qemu-system-x86_64", "github.event.pull_request.base.sha": base}
        values |= {"github.event.pull_request.number": "7", "github.token": "secret"}
        one = action["runs"]["steps"][number]
        given = {
            name: re.sub(r"\$\{\{ (.*?) \}\}", lambda found: values[found[1]], text) for name, text in one["env"].items()
        }
        return runner.run(one["run"], **given)

    before, after = runner.commits
    installed, checked, commented = step(0), step(1), step(2, before)
    assert installed.returncode == 0 and (Path(runner.environment["RUNNER_TEMP"]) / "mdtool/bin/mdtool").exists()
    assert checked.returncode == 0, checked.stderr
    assert commented.returncode == 0, commented.stderr
    calls = runner.called()
    assert f"pip install --quiet {ROOT}" in calls and "pr comment 7" in calls
    assert "web01.yaml" in calls and "`net1`" in calls and "secret" not in calls
    assert step(2, after).returncode == 0 and runner.called() == ""  # nothing differs, and no comment says so
    assert step(2, "0" * 40).returncode != 0
    audited = step(3)
    assert audited.returncode == 0, audited.stderr
    path = runner.checkout / "web01.yaml"
    text = path.read_text()
    path.write_text(text.replace("memory:", "memorie:", 1))
    wrong = step(1)
    path.write_text(text)
    assert wrong.returncode == 2 and "::error file=web01.yaml,line=" in wrong.stdout + wrong.stderr


def test_the_gitlab_template(runner: Runner) -> None:
    template = read("forges/guests.gitlab.yml")

    def job(name: str, base: str = "") -> subprocess.CompletedProcess[str]:
        own = template[name]
        lines = [*{**template.get(own.get("extends"), {}), **own}.get("before_script", ()), *own["script"]]
        script = "\n".join(lines).replace("/opt/mdtool", str(runner.checkout.parent / "opt"))  # only root can write there
        variables = {**template["variables"], "MDTOOL_TOKEN": "secret", "CI_API_V4_URL": "https://forge.example/api/v4"}
        variables |= {"CI_PROJECT_ID": "3", "CI_MERGE_REQUEST_IID": "7", "CI_MERGE_REQUEST_DIFF_BASE_SHA": base}
        return runner.run(script, **variables)

    before, after = runner.commits
    for name in ("check", "audit"):
        done = job(name)
        assert done.returncode == 0, done.stderr
        assert f"pip install --quiet {template['variables']['MDTOOL']}" in runner.called()
    assert (runner.checkout / "gl-code-quality-report.json").read_text().strip() == "[]"
    assert job("comment", before).returncode == 0
    calls = runner.called()
    assert "/projects/3/merge_requests/7/notes" in calls and "`net1`" in calls and "secret" not in calls
    assert job("comment", after).returncode == 0 and "notes" not in runner.called()
