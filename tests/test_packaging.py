"""The package as people install it: the wheel holds grammar and schemas, and --help is quick because it imports little."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

from mdtool.cli import COMMANDS
from tests.support import run_mdtool
from tests.support_waiting import PATIENCE

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
    done = run_mdtool(command, "--help")
    assert done.returncode == 0, done.stderr
    assert f"mdtool {command}" in done.stdout.partition("example")[2]


def test_output_that_cannot_be_written_is_an_error() -> None:
    words = [sys.executable, "-m", "mdtool", "completion", "bash"]
    with open("/dev/full", "w") as full:
        done = subprocess.run(words, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, "error: output: No space left on device\n")


def test_the_wheel_works_without_the_checkout(qemu: str, tmp_path: Path) -> None:
    """Built, unpacked into an environment of its own and run there; `make package` installs what it needs as well."""
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(tmp_path), str(ROOT)]
    subprocess.run(build, check=True, timeout=PATIENCE)
    (wheel,) = tmp_path.glob("*.whl")
    venv.create(tmp_path / "env", with_pip=False)
    (site,) = (tmp_path / "env").glob("lib/python*/site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "needed.pth").write_text(sysconfig.get_path("purelib"))
    environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTHON")}

    def ran(*words: str | Path) -> str:
        command = [tmp_path / "env" / "bin" / "python", *words]
        done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=environment, timeout=PATIENCE)
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "i440FX" in ran("-m", "mdtool", "dump", ROOT / "samples" / "legacy" / "guest.xml")
    resource = "from mdtool.resources import resource; print(resource('schemas', 'machine.schema.json'))"
    assert str(tmp_path / "env") in ran("-c", resource)
    assert "mdtool = mdtool.cli:program" in next(site.glob("mdtool-*.dist-info/entry_points.txt")).read_text()
