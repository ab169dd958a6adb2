"""The package as people install it: the wheel holds grammar and schemas, and --help is quick because it imports little."""

from __future__ import annotations

import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from mdtool.cli import COMMANDS

ROOT = Path(__file__).resolve().parent.parent
SLOW = ("lark", "ruamel", "jsonschema", "asyncio", "qemu", "xml")


def test_help_imports_nothing_slow() -> None:
    code = "import sys; from mdtool.cli import main\ntry: main(['--help'])\nexcept SystemExit: print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mdtool COMMAND" not in done.stderr
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "mdtool" in loaded
    assert not loaded.intersection(SLOW)


@pytest.mark.parametrize("command", COMMANDS)
def test_each_command_shows_an_example(command: str) -> None:
    done = subprocess.run([sys.executable, "-m", "mdtool", command, "--help"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert f"mdtool {command}" in done.stdout.partition("example")[2]


def test_output_that_cannot_be_written_is_an_error() -> None:
    words = [sys.executable, "-m", "mdtool", "completion", "bash"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: output: No space left on device\n")


def test_the_wheel_works_in_an_empty_environment(qemu: str, tmp_path: Path) -> None:
    """Build, install into an environment of its own, leave the checkout, and dump a sample."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=300)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env" / "bin" / "python"
    subprocess.run([python, "-m", "pip", "install", "--quiet", str(wheel)], check=True, timeout=300)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}
    done = subprocess.run(
        [tmp_path / "env" / "bin" / "mdtool", "dump", ROOT / "samples" / "legacy" / "guest.xml"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert "i440FX" in done.stdout
    where = subprocess.run(
        [python, "-c", "from mdtool.resources import resource; print(resource('schemas', 'machine.schema.json'))"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment,
        check=True,
    )
    assert str(tmp_path / "env") in where.stdout
