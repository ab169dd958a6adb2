"""Commands for many guests: an answer a guest, in order, whatever becomes of another one."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from mdtool.cli import main, many
from mdtool.errors import MdtoolError
from tests.support_waiting import PATIENCE

GUEST = """<domain type='qemu'><name>{name}</name><uuid>00000000-0000-4000-8000-{number:012}</uuid>
<memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
<devices>{nics}</devices></domain>"""
NIC = "<interface type='user'><mac address='52:54:00:00:00:{n:02x}'/><model type='virtio'/></interface>"


def guest(number: int, nics: Sequence[int] = (1, 2)) -> str:
    return GUEST.format(name=f"g{number}", number=number, nics="".join(NIC.format(n=n) for n in nics))


def mdtool(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "mdtool", *words]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE)


def lines(done: subprocess.CompletedProcess[str]) -> dict[str, dict[str, Any]]:
    return {row["guest"]: row for row in map(json.loads, done.stdout.splitlines())}


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five guests described in one go, one of them in a folder below."""
    folder = tmp_path_factory.mktemp("guests")
    (folder / "below").mkdir()
    for number in range(5):
        (folder / ("below" if number == 4 else ".") / f"g{number}.xml").write_text(guest(number))
    done = mdtool(folder, "reconcile", ".")
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def guests(made: Path, tmp_path: Path) -> Path:
    subprocess.run(["cp", "-r", f"{made}/.", str(tmp_path)], check=True)
    return tmp_path


def test_two_files_of_one_guest_are_not_two_guests(tmp_path: Path) -> None:
    """Who gives the old XML and the new one means one guest; two guests' files are two."""
    for name, number in (("old", 1), ("new", 1), ("other", 2)):
        (tmp_path / f"{name}.xml").write_text(guest(number))
    done = mdtool(tmp_path, "reconcile", "old.xml", "new.xml")
    assert done.returncode == 2 and "guest XML of one guest, g1; expected its description" in done.stderr
    assert not list(tmp_path.glob("*.yaml"))
    assert mdtool(tmp_path, "reconcile", "old.xml", "other.xml").returncode == 0
    assert sorted(path.name for path in tmp_path.glob("*.yaml")) == ["old.yaml", "other.yaml"]


def test_a_folder_is_reconciled_and_an_error_is_one_guests(guests: Path) -> None:
    """One guest edited, one new, one broken, one description without XML: each has its own answer, in order."""
    (guests / "g1.xml").write_text(guest(1, (2, 3)))
    (guests / "g2.xml").write_text("<domain><")
    (guests / "g5.xml").write_text(guest(5))
    (guests / "g3.xml").unlink()
    before = (guests / "g0.yaml").stat().st_mtime_ns
    dry = mdtool(guests, "reconcile", "--dry-run", ".", "--output-format", "jsonl")
    assert dry.returncode == 2 and not (guests / "g5.yaml").exists()
    found = lines(dry)
    assert {name: row["status"] for name, row in found.items()} == {
        "below/g4.xml": 0, "g0.xml": 0, "g1.xml": 1, "g2.xml": 2, "g5.xml": 1,
    }  # fmt: skip
    assert [step["name"] for step in found["g1.xml"]["result"]["steps"] if step["action"] == "add"] == ["net2"]
    assert found["g2.xml"]["errors"][0]["file"] == "g2.xml" and found["g2.xml"]["errors"][0]["rule"] == "xml-syntax"
    assert "g3.xml" in dry.stderr and "5 guests" in dry.stderr
    real = mdtool(guests, "reconcile", ".")
    assert real.returncode == 2 and real.stderr.count("error:") == 1 and "g2.xml:1:" in real.stderr
    assert (guests / "g5.yaml").exists() and (guests / "g0.yaml").stat().st_mtime_ns == before
    again = lines(mdtool(guests, "reconcile", "--dry-run", "--json", "g0.xml", "g1.xml", "g5.xml"))
    assert [row["status"] for row in again.values()] == [0, 0, 0]


def test_commands_take_a_folder(guests: Path) -> None:
    (guests / "g2.yaml").write_text("mdtool: machine/1\n")
    for words, statuses in (
        (["check"], {0, 2}),
        (["names"], {0, 2}),
        (["show"], {0, 2}),
        (["diff", "below"], {0}),
    ):
        done = mdtool(guests, words[0], "." if len(words) == 1 else words[1], *words[1:], "--output-format", "jsonl")
        assert {row["status"] for row in lines(done).values()} == statuses, words
    assert mdtool(guests, "check", ".").stderr.count("no errors") == 9
    hints = mdtool(guests, "hints", "export", ".", "-o", "below")
    assert hints.returncode == 2 and len(list(guests.glob("below/*.hints"))) == 4
    assert mdtool(guests, "show", ".", "--html", "none").stderr.startswith("error: none is not a directory")
    assert "one document" in mdtool(guests, "names", ".", "--output-format", "sarif").stdout


def test_files_of_two_guests_are_never_one(guests: Path) -> None:
    (guests / "below" / "g0.xml").write_text(guest(0))
    (guests / "out").mkdir()
    done = mdtool(guests, "reconcile", ".", "-o", "out")
    assert done.returncode == 2 and "out/g0.yaml would be written for" in done.stderr and not list(guests.glob("out/*"))


def test_a_process_that_ends_takes_one_guest_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1})
    items = list(range(40))
    assert list(many.each(_work, items, lambda item: -item)) == [-item if item in (7, 23) else item for item in items]


def _work(item: int) -> int:
    if item in (7, 23):
        os.kill(os.getpid(), signal.SIGKILL)
    return item


def test_processes_end_with_their_parent() -> None:
    """However it ends: they would hold its standard output open, and whoever reads that would wait for ever."""
    script = """
import os, signal
os.sched_getaffinity = lambda _: {0, 1}
from mdtool.pool import each
def work(item):
    print(item, flush=True)
    return signal.pause() if item else item
list(each(work, range(3), lambda item: item))
"""
    process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and [process.stdout.readline() for _ in range(3)]
    process.kill()
    assert process.communicate(timeout=PATIENCE)[0] == ""


def test_a_pipe_in_a_folder_is_none_of_ours(guests: Path) -> None:
    os.mkfifo(guests / "pipe.yaml")
    (guests / "folder.yaml").mkdir()
    assert mdtool(guests, "check", ".").returncode == 0


def test_a_guest_that_cannot_be_audited_has_a_line_too(guests: Path) -> None:
    (guests / "g1.yaml").write_text("mdtool: machine/1\nbuses: [")
    done = mdtool(guests, "audit", ".", "--qemu", "/none", "--output-format", "jsonl")
    found = {name: (row["status"], row["result"], row["errors"][0]["what"]) for name, row in lines(done).items()}
    assert done.returncode == 2 and len(found) == 5 and all(row[:2] == (2, None) for row in found.values())
    assert found["g1.yaml"][2].startswith("not YAML") and "/none" in found["g2.yaml"][2]


def test_json_of_many_is_one_document(guests: Path) -> None:
    (guests / "g1.yaml").write_text("mdtool: machine/1\nbuses: [")
    done = mdtool(guests, "names", ".", "--output-format", "json")
    assert [row["status"] for row in json.loads(done.stdout)].count(2) == 1
    audited = (
        "audit",
        "--qemu",
        "qemu-system-x86_64",
        "--no-causes",
        "--no-migration",
        "--output-format",
        "json",
        "--json",
    )
    done = mdtool(guests, *audited, "g1.yaml", "g2.yaml")
    assert (done.returncode, list(json.loads(done.stdout))) == (2, ["g2.yaml"])
    assert "g1.yaml:2:9: error: not YAML" in done.stderr


def test_a_note_of_an_audit_of_many_names_the_guest(
    guests: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def noted(*_: object, say: Callable[[str], None], **__: object) -> None:
        say("to try")
        raise MdtoolError("enough")

    monkeypatch.setattr("mdtool.proof.audit.audit", noted)
    for names, notes in ((["g1", "g2"], ["g1.yaml: to try", "g2.yaml: to try"]), (["g1"], ["to try"])):
        main(["audit", *(str(guests / f"{name}.yaml") for name in names), "--qemu", "/none"])
        said = capsys.readouterr().err.replace(f"{guests}/", "").splitlines()
        assert sorted(line for line in said if line.endswith("to try")) == notes


def test_one_by_one_stops_at_the_first_failure(guests: Path) -> None:
    """apply: guests after the one that failed are as they were; here none has a monitor at all."""
    (guests / "below" / "g4.xml").write_text(guest(4, (1, 7)))
    done = mdtool(guests, "apply", ".", "--source", str(guests / "none.qmp"), "--yes", "--output-format", "jsonl")
    assert [row["status"] for row in lines(done).values()] == [2] and "4 guests left as before, from " in done.stderr


def test_a_folder_against_a_revision(guests: Path) -> None:
    """What a branch changes, for the comment of a pull request: changed descriptions alone, also of folders below."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(guests)]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-qm", "guests"]):
        subprocess.run([*git, *words], check=True)
    (guests / "below" / "g4.xml").write_text(guest(4, (1, 9)))
    (guests / "g5.xml").write_text(guest(5))
    assert mdtool(guests, "reconcile", ".").returncode == 0
    (guests / "g0.yaml").unlink()
    for folder in (".", "./below/.."):
        done = mdtool(guests, "diff", "HEAD:", folder, "--format", "markdown")
        assert done.returncode == 1 and "g5.yaml: new" in done.stderr and "g0.yaml: no longer there" in done.stderr
        headings = [line for line in done.stdout.splitlines() if line.startswith("### ")]
        assert len(headings) == 1 and headings[0].endswith("below/g4.yaml") and "net" in done.stdout
    assert mdtool(guests, "diff", "NOPE:", ".").returncode == 2


PAGE = (Path(__file__).resolve().parents[2] / "docs" / "fleet.md").read_text()
COMMANDS = [line.strip() for line in PAGE.splitlines() if line.startswith("    mdtool ")]


def test_the_page_of_fleets(guests: Path) -> None:
    """Each command of docs/fleet.md that needs no libvirt, as it stands there."""
    git = ["git", "-c", "user.name=t", "-c", "user.email=t@example.org", "-C", str(guests)]
    (guests / "guests").mkdir()
    for path in guests.glob("*.*"):
        path.rename(guests / "guests" / path.name)
    for words in (
        ["init", "-q"],
        ["add", "-A"],
        ["commit", "-qm", "guests"],
        ["update-ref", "refs/remotes/origin/main", "HEAD"],
    ):
        subprocess.run([*git, *words], check=True)
    commands = [command for command in COMMANDS if "libvirt:" not in command]
    assert len(commands) > 2
    for command in commands:
        done = mdtool(guests, *shlex.split(command, comments=True)[1:])
        assert done.returncode == 0, (command, done.stderr)


def test_the_page_of_fleets_on_a_guest_that_runs(libvirt: str, tmp_path: Path) -> None:
    """The others, on a guest of libvirt: as described, then with a NIC more in the folder, which apply brings."""
    name = f"fleet{uuid.uuid4().hex[:6]}"
    verify, apply = (shlex.split(command, comments=True)[1:] for command in COMMANDS if "libvirt:" in command)
    (tmp_path / "guests").mkdir()
    xml = tmp_path / "guests" / f"{name}.xml"
    ports = "".join(f"<controller type='pci' index='{n}' model='pcie-root-port'/>" for n in range(1, 5))
    text = guest(0, (1,)).replace("<name>g0<", f"<name>{name}<").replace("<devices>", f"<devices>{ports}")
    xml.write_text(re.sub("<uuid>.*</uuid>", f"<uuid>{uuid.uuid4()}</uuid>", text))

    def virsh(*words: str | Path) -> str:
        done = subprocess.run(["virsh", "-q", *words], capture_output=True, text=True, timeout=PATIENCE)
        return done.stdout + done.stderr

    try:
        assert virsh("define", xml) + virsh("start", "--paused", name) == ""
        assert mdtool(tmp_path, "reconcile", "guests/").returncode == 0
        done = mdtool(tmp_path, *verify)
        assert done.returncode == 0, done.stdout + done.stderr
        xml.write_text(xml.read_text().replace("</devices>", NIC.format(n=9) + "</devices>"))
        done = mdtool(tmp_path, *apply)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "52:54:00:00:00:09" in virsh("domiflist", name)
    finally:
        virsh("destroy", name)
        virsh("undefine", name)


def test_the_page_of_fleets_names_playbooks_and_variables_that_there_are() -> None:
    """They are run on three hosts by ``make fleet``."""
    folder = Path(__file__).resolve().parents[2] / "ansible"
    plays = [shlex.split(line) for line in PAGE.splitlines() if line.startswith("    ansible-playbook ")]
    assert plays
    for _, playbook, *words in plays:
        play = folder / "playbooks" / f"{playbook.rpartition('.')[2]}.yml"
        texts = [play.read_text(), *(path.read_text() for path in folder.glob("roles/*/*/*.yml"))]
        for variable in (word.partition("=")[0] for word in words if "=" in word):
            assert any(variable in text for text in texts), (playbook, variable)
