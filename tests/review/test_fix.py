"""``check --fix`` mends what has one right answer, and nothing else."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdtool.machine.document import document_from_text
from mdtool.review.check import checked
from mdtool.review.fix import AUTOMATIC, MENDS, fixed
from tests.support import run_mdtool

GUEST = """\
# kept
mdtool: machine/1
machine: {type: pc-q35-7.2, arch: x86_64}
buses:
  pcie.0:
    type: PCIE
    devices:
    - id: pci.1   # the first port
      driver: pcie-root-port
      address: '02.0'
      properties: {chassis: 1, port: 16}
      buses:
        pci.1: {type: PCIE}
    - id: pci.2
      driver: pcie-root-port
      address: '03.0'
      properties: {chassis: 2, port: 24}
      buses:
        pci.2: {type: PCIE}
    - id: net0
      driver: e1000
      address: '04.0'
"""


@pytest.mark.parametrize(
    ("find", "put", "done", "line"),
    [
        ("address: '03.0'", "address: '02.0'", ["move pci.2 to pcie.0 01.0"], "address: '01.0'"),
        ("address: '04.0'", "address: 1f.2", ["move net0 to pcie.0 01.0"], "address: '01.0'"),
        ("chassis: 2", "chassis: 1", ["give pci.2 chassis: 2"], "chassis: 2"),
        ("address: '03.0'", "address: '02.1'", ["give pci.1 multifunction: true"], "multifunction: true"),
    ],
)
def test_one_right_answer(find: str, put: str, done: list[str], line: str, tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    path.write_text(GUEST.replace(find, put))
    ran = run_mdtool("check", "--fix", path)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert all(f"{path}: {one}" in ran.stderr for one in done)
    text = path.read_text()
    assert line in text and text.startswith("# kept\n") and "# the first port" in text
    changed = [
        one for one, other in zip(text.split("\n"), GUEST.replace(find, put).split("\n"), strict=False) if one != other
    ]
    assert len(changed) == 1
    again = run_mdtool("check", "--fix", path)
    assert again.returncode == 0 and path.read_text() == text


def test_what_has_no_right_answer_stays(tmp_path: Path) -> None:
    path = tmp_path / "g.yaml"
    for bad in (
        GUEST.replace("id: net0", "id: pci.1"),
        GUEST.replace("driver: e1000", "drivr: e1000"),
        "- no description\n",
    ):
        path.write_text(bad)
        assert run_mdtool("check", "--fix", path).returncode == 2
        assert path.read_text() == bad


def test_a_full_bus_is_said_and_not_mended() -> None:
    rows = "".join(f"    - {{id: n{n}, driver: e1000, address: '{n:02x}.0'}}\n" for n in range(1, 31) if n not in (2, 3, 4))
    text = (
        GUEST
        + rows
        + "    - {id: more, driver: e1000, address: '05.0'}\n    - {id: most, driver: e1000, address: '05.0'}\n"
    )
    document, done = fixed(document_from_text(text, "x"))
    assert len(done) <= 1 and {error.rule for error in checked(document).errors} == {"address-taken"}


def test_automatic_rules_can_be_mended() -> None:
    assert MENDS.keys() >= AUTOMATIC
