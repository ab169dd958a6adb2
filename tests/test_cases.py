"""Golden cases: a folder is a case, text in and text out.

    cases/NAME/guest.xml, and guest.yaml where there is a description already; options.txt holds reconcile's options
    -> plan.txt, new.yaml, argv.txt (one -device a line)     or error.txt

``pytest --regenerate`` writes them; a missing golden file fails.
"""

from __future__ import annotations

import itertools
import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from mdtool.cli import main

pytestmark = pytest.mark.usefixtures("older_libvirt")
CASES = Path(__file__).parent / "cases"


def devices(argv: list[str]) -> str:
    return "".join(f"{value}\n" for flag, value in itertools.pairwise(argv) if flag == "-device")


def golden(case: Path, name: str, text: str, regenerate: bool) -> None:
    text = re.sub(r'("type": "pc-q35-)[\d.]+', r"\g<1>7.2", text)  # what the alias q35 means is the installed QEMU's
    if regenerate:
        (case / name).write_text(text)
    assert (case / name).is_file(), f"{name} is missing: run pytest --regenerate and read what it wrote"
    assert text == (case / name).read_text()


@pytest.mark.parametrize("name", sorted(path.name for path in CASES.iterdir() if path.is_dir()))
def test_case(
    name: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    request: pytest.FixtureRequest,
) -> None:
    regenerate: bool = request.config.getoption("--regenerate")
    case = CASES / name
    for path in case.iterdir():
        if path.name in ("guest.xml", "guest.yaml"):
            shutil.copy(path, tmp_path)
    monkeypatch.chdir(tmp_path)
    options = shlex.split((case / "options.txt").read_text()) if (case / "options.txt").exists() else []
    before = Path("guest.yaml").read_text() if Path("guest.yaml").exists() else None
    status = main(["reconcile", "guest.xml", "guest.yaml", *options])
    said = capsys.readouterr()
    if status == 2 or (case / "error.txt").exists():
        golden(case, "error.txt", said.err, regenerate)
        assert status == 2
        after = Path("guest.yaml").read_text() if Path("guest.yaml").exists() else None
        assert after == before, "an error must leave the description alone"
        return
    golden(case, "plan.txt", said.out, regenerate)
    new = Path("guest.yaml").read_text()
    golden(case, "new.yaml", new, regenerate)
    assert main(["launch", "guest.xml", "guest.yaml", "--via", "device", "--print", "--json"]) == 0
    golden(case, "argv.txt", devices(json.loads(capsys.readouterr().out)), regenerate)
    # Once more: nothing to do, and the same bytes.
    assert main(["reconcile", "guest.xml", "guest.yaml", "--dry-run"]) == 0
    assert main(["reconcile", "guest.xml", "guest.yaml"]) == 0
    assert "no changes" in capsys.readouterr().out
    assert Path("guest.yaml").read_text() == new
    # The XML with every address is the same guest, also where one that the XML gives did not win.
    assert main(["reconcile", "guest.xml", "guest.yaml", "--write-xml", "full.xml"]) == 0
    assert "no changes" in capsys.readouterr().out
    assert main(["reconcile", "full.xml", "guest.yaml", "--dry-run"]) == ("description" in options)
