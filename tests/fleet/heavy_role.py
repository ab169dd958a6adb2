"""The role that installs mdtool, by Ansible, in roots of distributions that were made beforehand."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
BIN = Path(sys.executable).parent
#: the base of the container image, and what else there is: a minimal Ubuntu, by debootstrap with python3 and python3-venv
ROOTS = [
    os.environ.get("MDTOOL_CONTAINER_BASE", "/var/cache/mdtool/base"),
    *os.environ.get("MDTOOL_ROLE_ROOTS", "").split(),
]
#: in place of ssh: its last word is the command
CHROOT = """#!/bin/sh
for last; do :; done
exec chroot "$MDTOOL_ROLE_ROOT" /bin/sh -c "$last"
"""
PLAY = """- hosts: all
  environment: {PIP_NO_INDEX: "1", PIP_FIND_LINKS: /wheels}
  roles:
    - role: mdtool.machine.mdtool
      vars: {mdtool_package: /wheels/mdtool-0.1.0-py3-none-any.whl}
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="run as root"),
    pytest.mark.skipif(not (BIN / "ansible-playbook").exists(), reason="pip install ansible-core"),
]


@pytest.mark.parametrize("root", ROOTS)
def test_the_role_installs_mdtool_once(root: str, tmp_path: Path) -> None:
    if not Path(root, "usr/bin/python3").exists():
        pytest.skip(f"{root} is not there")
    collection = tmp_path / "ansible_collections" / "mdtool" / "machine"
    shutil.copytree(ROOT / "ansible", collection, ignore=shutil.ignore_patterns("__pycache__"))
    host = tmp_path / "host"  # a copy: Ansible installs what its own module for packages needs
    subprocess.run(["cp", "-a", root, host], check=True)
    (tmp_path / "ssh").write_text(CHROOT)
    (tmp_path / "ssh").chmod(0o755)
    (tmp_path / "play.yml").write_text(PLAY)
    (host / "wheels").mkdir()
    try:
        _wheels(host)
        environment = {
            **os.environ,
            "MDTOOL_ROLE_ROOT": str(host),
            "ANSIBLE_COLLECTIONS_PATH": str(tmp_path),
            "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"),
            "ANSIBLE_PIPELINING": "1",
            "ANSIBLE_NOCOLOR": "1",
            "LC_ALL": "C.UTF-8",
        }
        words = [BIN / "ansible-playbook", "-i", "root,", "-e", f"ansible_ssh_executable={tmp_path / 'ssh'}"]
        words += ["-e", "ansible_python_interpreter=/usr/bin/python3", tmp_path / "play.yml"]

        def play(*more: str) -> str:
            done = subprocess.run(
                [*words, *more], capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False
            )
            assert done.returncode == 0, done.stdout + done.stderr
            return done.stdout

        assert "changed=3" in play()
        version = ["chroot", host, "/usr/local/bin/mdtool", "--version"]
        assert subprocess.run(version, capture_output=True, text=True, check=True).stdout.startswith("mdtool ")
        assert "changed=0" in play("--check") and "changed=0" in play()
    finally:
        shutil.rmtree(host)


def _wheels(host: Path) -> None:
    """mdtool and what it needs, for the Python of the host."""
    place = host / "wheels"
    ask = ["chroot", host, "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"]
    version = subprocess.run(ask, capture_output=True, text=True, check=True).stdout.strip()
    needs = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    pip = [sys.executable, "-m", "pip"]
    subprocess.run(
        [*pip, "wheel", "-q", "--no-deps", "-w", place, ROOT, "argparse-manpage"], check=True
    )  # of the source alone
    options = ["--find-links", place, "--python-version", version, "--only-binary=:all:"]
    subprocess.run([*pip, "download", "-q", "-d", place, *options, *needs], check=True)


@pytest.mark.parametrize(
    ("distribution", "family", "version", "python"),
    [
        ("Debian", "Debian", "13", "python3"),
        ("Ubuntu", "Debian", "24", "python3"),
        ("Rocky", "RedHat", "9", "python3.12"),
        ("RedHat", "RedHat", "8", "python3.12"),
        ("AlmaLinux", "RedHat", "10", "python3"),
        ("Fedora", "RedHat", "43", "python3"),
        ("openSUSE Leap", "Suse", "16", ""),
    ],
)
def test_the_role_takes_a_python_that_is_new_enough(
    distribution: str, family: str, version: str, python: str, tmp_path: Path
) -> None:
    """By what Ansible says of a host: those hosts are not here."""
    (tmp_path / "play.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  vars_files: [vars.yml]\n"
        "  tasks: [{debug: {msg: 'takes {{ mdtool_system.python }}'}}]\n"
    )
    shutil.copy(ROOT / "ansible/roles/mdtool/vars/main.yml", tmp_path / "vars.yml")
    facts = {"distribution": distribution, "os_family": family, "distribution_major_version": version}
    words = [BIN / "ansible-playbook", tmp_path / "play.yml", "-e", json.dumps({"ansible_facts": facts})]
    environment = {**os.environ, "ANSIBLE_LOCAL_TEMP": str(tmp_path / "tmp"), "LC_ALL": "C.UTF-8"}
    done = subprocess.run(words, capture_output=True, text=True, env=environment, stdin=subprocess.DEVNULL, check=False)
    assert (f'takes {python}"' in done.stdout) == (done.returncode == 0) == bool(python), done.stdout + done.stderr
