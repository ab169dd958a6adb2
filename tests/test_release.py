"""What a release holds together: one version, files for forges that are well-formed, dependencies that are locked."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

import mdtool

ROOT = Path(__file__).resolve().parent.parent
FORGES = (
    ".github/workflows/ci.yml",
    ".gitlab-ci.yml",
    "action.yml",
    "forges/guests.github.yml",
    "forges/guests.gitlab.yml",
)


def yaml(name: str) -> Any:
    return YAML(typ="safe").load((ROOT / name).read_text())


def project() -> dict[str, Any]:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_there_is_one_version() -> None:
    changes = re.match(r"mdtool \(([^)]+)\)", (ROOT / "debian/changelog").read_text())
    assert changes is not None
    assert {changes[1], yaml("ansible/galaxy.yml")["version"]} == {mdtool.__version__}


def test_the_lock_file_has_every_dependency_and_no_server() -> None:
    text = (ROOT / "requirements-dev.txt").read_text()
    locked = {
        line.split("==")[0].lower().replace("_", "-") for line in text.splitlines() if "==" in line and line[0].isalnum()
    }
    wanted = [*project()["dependencies"], *project()["optional-dependencies"]["test"]]
    names = {re.match(r"[\w.-]+", one)[0].lower().replace("_", "-") for one in wanted}  # type: ignore[index]
    assert "://" not in text and {name.replace(".", "-") for name in names} <= {name.replace(".", "-") for name in locked}
    assert text.count("--hash=sha256:") > len(locked)


@pytest.mark.parametrize("name", FORGES)
def test_scripts_of_forges_are_shell(name: str) -> None:
    """Each script of a CI file is one that the shell reads, and names commands and options that mdtool has."""
    scripts = [one for one in _scripts(yaml(name)) if one.strip()]
    assert scripts
    for script in scripts:
        plain = re.sub(r"\$\{\{.*?\}\}", "x", script)
        done = subprocess.run(["bash", "-n"], input=plain, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr


def _scripts(node: Any) -> list[str]:
    if isinstance(node, list):
        return [text for one in node for text in _scripts(one)]
    if not isinstance(node, dict):
        return []
    found = [node["run"]] if isinstance(node.get("run"), str) else []
    for key in ("script", "before_script"):
        found += ["\n".join(node[key])] if isinstance(node.get(key), list) else []
    return found + [text for value in node.values() for text in _scripts(value)]


def test_the_comment_of_a_pull_request(tmp_path: Path) -> None:
    """The script of the action, run as GitHub runs it: what a branch changes is in the comment."""
    steps = yaml("action.yml")["runs"]["steps"]
    (script,) = [step["run"] for step in steps if "gh pr comment" in step.get("run", "")]
    guests = tmp_path / "guests"
    guests.mkdir()
    sample = (ROOT / "samples/web01/guest.xml").read_text()
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "gh").write_text(f'#!/bin/sh\nfor last; do :; done; cp "$last" {tmp_path}/posted\n')
    (programs / "mdtool").write_text('#!/bin/sh\nexec "$PYTHON" -m mdtool "$@"\n')
    for name in ("gh", "mdtool"):
        (programs / name).chmod(0o755)
    environment = {
        **os.environ,
        "PATH": f"{programs}:{os.environ['PATH']}",
        "PYTHON": sys.executable,
        "PYTHONPATH": str(ROOT),
        "RUNNER_TEMP": str(tmp_path),
        "FOLDER": "guests",
        "NUMBER": "1",
    }

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout

    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org"]
    (guests / "web01.xml").write_text(sample)
    run("mdtool", "reconcile", "guests/web01.xml", "guests/web01.yaml")
    run(*git, "init", "-q")
    run(*git, "add", "guests")
    run(*git, "commit", "-qm", "one")
    run(*git, "remote", "add", "origin", ".")
    environment["BASE"] = run("git", "rev-parse", "HEAD").strip()
    run("bash", "-e", "-c", script)
    assert not (tmp_path / "posted").exists()
    text = (guests / "web01.yaml").read_text()
    (guests / "web01.yaml").write_text(re.sub(r"52:54(:[0-9a-f]{2}){4}", "52:54:00:99:99:99", text))
    run("bash", "-e", "-c", script)
    assert (
        "52:54:00:99:99:99" in (tmp_path / "posted").read_text()
        and "### guests/web01.yaml" in (tmp_path / "posted").read_text()
    )


def test_the_collection_says_what_mdtool_has() -> None:
    """Options that the modules pass on are options of the commands."""
    import argparse
    from importlib import import_module

    for module in (ROOT / "ansible/plugins/modules").glob("*.py"):
        text = module.read_text()
        command = {"description": "adopt", "facts": "status"}.get(module.stem, module.stem)
        parser = argparse.ArgumentParser()
        import_module(f"mdtool.cli.{command}").arguments(parser)
        known = {flag for action in parser._actions for flag in action.option_strings}
        passed = [
            one
            for call in re.findall(r"flags\([^)]*\)", text)
            for one in json.loads("[" + ", ".join(re.findall(r'"\w+"', call)) + "]")
        ]
        assert {f"--{one.replace('_', '-')}" for one in passed} <= known, module
