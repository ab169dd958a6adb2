"""Every example of docs/import.md is run as it stands, with the files and programs of another host made here: `make corpus`."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import require

from tests.support_waiting import PATIENCE

DOCS = Path(__file__).parents[1] / "docs" / "import.md"
WORDS = "-machine pc -nodefaults -display none -m 64 -device virtio-rng-pci"
#: files that the examples name, and what is in them
FILES = {
    "start-web01.sh": f"#!/bin/sh\nexec qemu-system-x86_64 -name web01 {WORDS}\n",
    "cmdline": "\0".join(["qemu-system-x86_64", *WORDS.split(), ""]),
    "vms/ubuntu-24.04/ubuntu-24.04.sh": f"#!/usr/bin/env bash\n/usr/bin/qemu-system-x86_64 \\\n  -name ubuntu,process=ubuntu \\\n  {WORDS} 2>/dev/null\n",
    "log/web01.log": "2026-01-01 00:00:00: starting up\n" + f"LC_ALL=C \\\nHOME=/x \\\n/usr/bin/qemu-system-x86_64 \\\n-name guest=web01 \\\n{WORDS} \\\n-msg timestamp=on\nchar device\n",
}  # fmt: skip
PROGRAMS = {
    "qm": f"echo /usr/bin/kvm -id 101 -name web01 -machine type=pc+pve0 {WORDS.removeprefix('-machine pc ')}",
    "ssh": "cat start-web01.sh",
}


def examples() -> list[str]:
    lines = re.findall(r"^    (\S.*)$", DOCS.read_text(), re.M)
    return [
        re.sub(r" {3,}.*|  (?=a |the ).*", "", line).replace("--xml ...", "--xml web01.xml -o web01.yaml") for line in lines
    ]


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("host")
    for name, text in {**FILES, **{f"bin/{name}": f"#!/bin/sh\n{text}\n" for name, text in PROGRAMS.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    with subprocess.Popen([require("qemu-system-x86_64"), *WORDS.split(), "-S"]) as process:
        for name in ("incus/v1/qemu.pid", ".lima/default/qemu.pid"):
            (folder / name).parent.mkdir(parents=True)
            (folder / name).write_text(f"{process.pid}\n")
        (folder / "pid").write_text(str(process.pid))
        yield folder
        process.kill()


def test_every_example_of_the_page_is_right(host: Path) -> None:
    pid = (host / "pid").read_text()
    elsewhere = {"/run/incus": f"{host}/incus", "/var/log/libvirt/qemu": f"{host}/log", "pid:4711": f"pid:{pid}", "import 101.sh": "import --upstream 101.sh", "'qemu-system-x86_64 -m 512 ...'": f"'qemu-system-x86_64 {WORDS}'"}  # fmt: skip
    path = f"{host}/bin:{Path(sys.executable).parent}:{os.environ['PATH']}"
    commands = examples()
    assert sum("mdtool import" in command for command in commands) >= 10
    for command in commands:
        for old, new in elsewhere.items():
            command = command.replace(old, new)
        for old in host.glob("*.xml"), host.glob("*.yaml"):
            for file in old:
                file.unlink()
        environment = {**os.environ, "PATH": path, "HOME": str(host)}
        done = subprocess.run(
            command, shell=True, cwd=host, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == 0, f"{command}\n{done.stderr}"
        if "--xml" in command:
            assert "<rng " in next(iter(host.glob("*.xml"))).read_text(), command
