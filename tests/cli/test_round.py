"""The daily round: adopt, status, edit."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from mdtool.apply.edit import with_marks, without_marks
from mdtool.errors import Errors, InputError, Position
from mdtool.qemu.session import Session, session_from_source
from tests.conftest import require
from tests.support import SAMPLES, mdtool, run_mdtool
from tests.support_waiting import PATIENCE

NIC = "<interface type='user'><mac address='52:54:00:99:00:0{n}'/><model type='virtio'/></interface>"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """web01.xml and web01.yaml, in step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    Path("web01.xml").write_bytes((SAMPLES / "web01" / "guest.xml").read_bytes())
    assert mdtool("reconcile", "web01.xml", "web01.yaml") == 0
    return tmp_path


def editor(folder: Path, monkeypatch: pytest.MonkeyPatch, *turns: tuple[str, str]) -> Path:
    """An editor that replaces the last of a text by another one, each time it is opened the next; what it saw is in ``seen-N``."""
    script = folder / "editor.py"
    script.write_text(
        "import sys, pathlib\n"
        f"turns = {list(turns)!r}\n"
        f"folder = pathlib.Path({str(folder)!r})\n"
        "number = len(list(folder.glob('seen-*')))\n"
        "path = pathlib.Path(sys.argv[-1])\n"
        "text = path.read_text()\n"
        "(folder / f'seen-{number}').write_text(text)\n"
        "if number < len(turns):\n"
        "    old, new = turns[number]\n"
        "    assert old in text, text\n"
        "    path.write_text(new.join(text.rsplit(old, 1)))\n"
    )
    monkeypatch.setenv("VISUAL", f"{sys.executable} {script}")
    return folder


# --- edit ------------------------------------------------------------------------------------------------------------


def test_an_edit_is_checked_planned_and_written(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A mistake comes back as a comment at its line, and goes again when the text is right."""
    more = f"{NIC.format(n=1)}\n  </devices>"
    wrong = more.replace("52:54:00:99:00:01", "52:54:00:99:00:zz")
    editor(folder, monkeypatch, ("</devices>", wrong), ("00:zz", "00:01"))
    done = run_mdtool("edit", "web01", "--yes", "--no-define")
    assert done.returncode == 0, done.stderr
    marked = Path("seen-1").read_text().splitlines()
    line = next(number for number, text in enumerate(marked) if "<!-- mdtool: error: " in text)
    assert "00:zz" in marked[line + 1]
    assert "52:54:00:99:00:01" in Path("web01.yaml").read_text()
    assert "mdtool:" not in Path("web01.xml").read_text()
    assert "+  net" in done.stderr
    assert mdtool("reconcile", "web01.xml", "web01.yaml", "--dry-run") == 0


def test_an_edit_that_stays_wrong_writes_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = Path("web01.xml").read_bytes(), Path("web01.yaml").read_bytes()
    editor(folder, monkeypatch, ("</devices>", "<interface type='user'><mac address='zz'/></interface></devices>"))
    done = run_mdtool("edit", "web01", "--yes", "--no-define")
    assert done.returncode == 2
    assert done.stderr.startswith("web01.xml:"), done.stderr
    assert done.stderr.count("mdtool-edit-") == 1, "the guest's own file is named, and the one that is kept"
    assert (Path("web01.xml").read_bytes(), Path("web01.yaml").read_bytes()) == before
    refused = editor(folder, monkeypatch, ("a", "a"), ("a", "a"), ("</devices>", f"{NIC.format(n=2)}</devices>"))
    assert refused
    done = run_mdtool("edit", "web01", "--no-define")
    assert done.returncode == 2
    assert "--yes" in done.stderr
    assert (Path("web01.xml").read_bytes(), Path("web01.yaml").read_bytes()) == before


def test_an_editor_that_never_mends_it_has_an_end(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The text is another one each time, and the error stays; what was written is not lost."""
    wrong = "<interface type='user'><mac address='zz'/></interface></devices>"
    editor(folder, monkeypatch, *[("</devices>", wrong)] * 20)
    done = run_mdtool("edit", "web01", "--yes", "--no-define")
    assert done.returncode == 2
    assert len(list(folder.glob("seen-*"))) < 10
    kept = Path(re.search(r"kept as (\S+)", done.stderr)[1])  # type: ignore[index]
    assert kept.read_text().count("mac address='zz'") > 1
    assert "<!-- mdtool:" not in kept.read_text()


def test_the_plan_that_was_shown_is_carried_out_or_none(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody else reconciles between the look at the plan and the answer."""
    editor(folder, monkeypatch, ("</devices>", f"{NIC.format(n=1)}</devices>"))
    other = Path("web01.xml").read_text().replace("</devices>", f"{NIC.format(n=2)}</devices>")

    def agreed(_question: str, **_more: object) -> bool:
        Path("other.xml").write_text(other)
        return mdtool("reconcile", "other.xml", "web01.yaml") == 0

    monkeypatch.setattr("mdtool.cli.edit.asked", agreed)
    before = Path("web01.xml").read_bytes()
    assert mdtool("edit", "web01", "--no-define") == 2
    assert Path("web01.xml").read_bytes() == before
    assert "99:00:01" not in Path("web01.yaml").read_text()


def test_a_description_is_edited_beside_its_xml(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    editor(folder, monkeypatch, ("id: net0", "id: net1"), ("id: net1", "id: uplink"))
    done = run_mdtool("edit", "web01", "--description", "--yes", "--no-define")
    assert done.returncode == 0, done.stderr
    assert "# mdtool: error: " in Path("seen-1").read_text()
    assert "id: uplink" in Path("web01.yaml").read_text()
    assert "uplink" in done.stderr
    editor(folder, monkeypatch)
    assert "nothing changed" in run_mdtool("edit", "web01.yaml").stderr


def test_marks_come_and_go() -> None:
    text = "<?xml version='1.0'?>\n<domain>\n  <a/>\n</domain>\n"
    errors = Errors([InputError("a -- b", at=Position("x", 3)), InputError("elsewhere", at=Position("y", 3))])
    marked = with_marks(text, errors, "x", xml=True)
    assert marked.splitlines()[1].startswith("<!-- mdtool: error: elsewhere")
    assert marked.splitlines()[3] == "  <!-- mdtool: error: a - - b -->"
    assert without_marks(marked) == text


# --- status ----------------------------------------------------------------------------------------------------------


def test_status_of_files(folder: Path) -> None:
    assert mdtool("status", "--offline") == 0
    text = Path("web01.xml").read_text()
    Path("web01.xml").write_text(text.replace("</devices>", f"{NIC.format(n=1)}</devices>"))
    Path("db01.xml").write_text(text)
    Path("bad.xml").write_text("<domain")
    Path("bad.yaml").write_text("mdtool: machine/1")
    done = run_mdtool("status", ".", "--offline", "--json")
    assert done.returncode == 2
    states = {row["name"]: row["state"] for row in json.loads(done.stdout)}
    assert states == {"web01": "edited", "db01": "not-adopted", "bad": "broken"}
    assert run_mdtool("status", "--offline").stdout.count("\n") == 3


def test_status_looks_again_where_a_text_changed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A guest that was in step is not read again, until its XML or its description is another text."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    looked = []
    from mdtool.apply import define

    found = define.steps_between
    monkeypatch.setattr(define, "steps_between", lambda *given: looked.append(given[0].file) or found(*given))
    for expected in (1, 1):
        assert mdtool("status", "--offline") == 0
        assert len(looked) == expected
    for path in (Path("web01.xml"), Path("web01.yaml")):
        path.write_text(path.read_text() + "\n")
        looked.clear()
        for _ in range(2):
            assert mdtool("status", "--offline") == 0
        assert len(looked) == 1


# --- libvirt ---------------------------------------------------------------------------------------------------------


def virsh(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([require("virsh"), "-q", *words], capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.fixture
def guests(libvirt: str, tmp_path: Path) -> Iterator[list[str]]:
    """Two guests of libvirt; the first one runs, paused."""
    names = [f"mdtool-{uuid.uuid4().hex[:8]}" for _ in range(2)]
    source = (SAMPLES / "web01" / "guest.xml").read_text()
    start = source.index("    <disk")
    source = source[:start] + source[source.index("</disk>") + 8 :]
    for name in names:
        text = source.replace("web01</name>", f"{name}</name>").replace(
            "3f1c2d5e-8a57-4f3e-9d0b-6a1c5e7f9b21", str(uuid.uuid4())
        )
        (tmp_path / "define.xml").write_text(text)
        assert virsh("define", str(tmp_path / "define.xml")).returncode == 0
    (tmp_path / "define.xml").unlink()
    assert virsh("start", "--paused", names[0]).returncode == 0
    yield names
    for name in names:
        virsh("destroy", name)
        virsh("undefine", name)


def test_the_round(guests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Adopt, nothing to do, edit, defined, power cycle needed; and a second adopt leaves edits alone."""
    folder = tmp_path / "guests"
    running, off = guests

    def states() -> dict[str, str]:
        rows = json.loads(run_mdtool("status", folder, "--json").stdout)
        return {row["name"]: row["state"] for row in rows if row["name"] in guests}

    done = run_mdtool("adopt", *guests, folder)
    assert done.returncode == 0, done.stderr
    assert f"{running}: dumped" in done.stderr
    assert f"{off}: rehearsed" in done.stderr
    assert (folder / ".git").is_dir()
    assert "merge=mdtool" in (folder / ".gitattributes").read_text()
    assert states() == {running: "in-step", off: "in-step"}
    described = folder / f"{off}.yaml"
    described.write_text("# mine\n" + described.read_text())
    assert run_mdtool("adopt", *guests, folder).returncode == 0
    assert described.read_text().startswith("# mine\n")
    assert states() == {running: "in-step", off: "in-step"}

    editor(tmp_path, monkeypatch, ("</devices>", f"{NIC.format(n=1)}</devices>"))
    done = run_mdtool("edit", folder / f"{running}.xml", "--yes")
    assert done.returncode == 0, done.stderr
    assert "still has its old hardware; to change it: mdtool apply" in done.stderr
    assert "52:54:00:99:00:01" in virsh("dumpxml", "--inactive", running).stdout
    assert states()[running] == "power-cycle"

    xml = folder / f"{off}.xml"
    xml.write_text(xml.read_text().replace("</devices>", f"{NIC.format(n=2)}</devices>"))
    assert "left alone" in run_mdtool("adopt", off, folder).stderr
    assert states()[off] == "edited"
    assert mdtool("reconcile", xml, described) == 0
    assert states()[off] == "ahead"
    assert mdtool("apply", xml, described, "--source", f"libvirt:{off}", "--yes") == 0
    assert states()[off] == "in-step"
    virsh("undefine", off)
    assert states()[off] == "gone"


def test_apply_changes_a_guest_that_libvirt_runs(guests: list[str], tmp_path: Path) -> None:
    """What can be plugged is, at the described address; a device that the guest holds and memory wait for a restart."""
    folder, name = tmp_path / "guests", guests[0]
    assert run_mdtool("adopt", name, folder, "--no-git").returncode == 0
    xml, description = folder / f"{name}.xml", folder / f"{name}.yaml"
    words = ("apply", xml, description, "--source", f"libvirt:{name}", "--yes", "--timeout", "0.3")

    def state() -> str:
        rows = json.loads(run_mdtool("status", folder, "--json").stdout)
        return str(next(row["state"] for row in rows if row["name"] == name))

    text = xml.read_text()
    xml.write_text(text.replace("</devices>", f"{NIC.format(n=7)}</devices>"))
    done = run_mdtool(*words)
    assert (done.returncode, done.stdout.split()[-4:]) == (0, ["in", "the", "running", "guest"]), done.stderr
    assert "52:54:00:99:00:07" in virsh("dumpxml", name).stdout
    assert state() == "in-step"
    xml.write_text(text.replace("524288", "393216"))  # without the NIC
    done = run_mdtool(*words, "--json")
    assert done.returncode == 1, done.stderr
    left = {row["name"]: row["why"] for row in json.loads(done.stdout)["live"]}
    assert "fixed when the machine starts" in left["memory"]
    assert any("did not release it" in why for why in left.values())  # it is paused
    assert state() == "power-cycle"
    done = run_mdtool(*words, "--restart", "--force")
    assert done.returncode == 0, done.stderr
    assert state() == "in-step"
    assert "nothing to do" in run_mdtool(*words, "--restart").stderr
    assert virsh("destroy", name).returncode == virsh("undefine", name).returncode == 0
    assert state() == "gone"
    assert run_mdtool(*words).returncode == 0
    assert state() == "in-step", "it is defined again"


def test_apply_asks_a_guest_again_only_where_it_changed(
    guests: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Once for the plan and once for what was plugged; also where it changed while the plan was shown."""
    folder, name = tmp_path / "guests", guests[0]
    assert run_mdtool("adopt", name, folder, "--no-git").returncode == 0
    xml, description, other = folder / f"{name}.xml", folder / f"{name}.yaml", tmp_path / "other.xml"
    asked: list[str] = []

    def session(source: str, **options: Any) -> Session:
        asked.append(source)
        return session_from_source(source, **options)

    def agreed(_question: str, *, yes: bool = False) -> bool:
        assert other.exists() is False or virsh("attach-device", name, str(other), "--live").returncode == 0
        return True

    monkeypatch.setattr("mdtool.apply.live_libvirt.session_from_source", session)
    monkeypatch.setattr("mdtool.cli.apply.asked", agreed)
    for number, (status, times) in enumerate([(0, 2), (2, 2)], 7):
        xml.write_text(xml.read_text().replace("</devices>", f"{NIC.format(n=number)}</devices>"))
        assert mdtool("apply", xml, description, "--source", f"libvirt:{name}") == status
        assert len(asked) == times
        asked.clear()
        other.write_text("<input type='mouse' bus='usb'/>")
    assert "[plan-stale]" in capsys.readouterr().err


def test_an_edit_of_the_host_side_reaches_libvirt(guests: list[str], tmp_path: Path) -> None:
    """The guest sees nothing of it, and no plan has it: adopt leaves it alone, status and apply tell, and restart carries it out."""
    folder, name = tmp_path / "guests", guests[0]
    assert run_mdtool("adopt", name, folder, "--no-git").returncode == 0
    xml, description = folder / f"{name}.xml", folder / f"{name}.yaml"
    words = ("apply", xml, description, "--source", f"libvirt:{name}", "--yes", "--timeout", "0.3", "--force")
    text = xml.read_text()
    edited = text.replace("/dev/urandom", "/dev/random").replace("<console type='pty'", "<console type='null'")
    edited = edited.replace("<serial type='pty'", "<serial type='null'")
    assert edited != text
    xml.write_text(edited)
    assert "devices/rng/backend=" not in run_mdtool("status", folder).stdout, "no values of the host"
    assert "not defined in libvirt yet: devices/" in run_mdtool("status", folder).stdout
    assert "left alone" in run_mdtool("adopt", name, folder, "--no-git").stderr
    assert xml.read_text() == edited
    done = run_mdtool(*words)
    assert (done.returncode, "what changes in the XML: devices/" in done.stderr) == (0, True), done.stderr
    assert "/dev/random" in virsh("dumpxml", "--inactive", name).stdout
    assert "/dev/random" not in virsh("dumpxml", name).stdout
    assert "in step" in run_mdtool("status", folder).stdout
    done = run_mdtool(*words, "--restart")
    assert done.returncode == 0, done.stderr
    assert "/dev/random" in virsh("dumpxml", name).stdout, "the guest that runs was started before that was defined"
    assert "nothing to do" in run_mdtool(*words, "--restart").stderr
    xml.write_text(xml.read_text().replace("</devices>", "</devices>\n  <!-- a note -->"))
    assert "in step" in run_mdtool("status", folder).stdout, "what is no difference is none"
    assert run_mdtool("adopt", name, folder, "--no-git").returncode == 0
    assert "<!-- a note -->" in xml.read_text()
    assert virsh("destroy", name).returncode == 0
    more = virsh("dumpxml", "--inactive", name).stdout.replace("/dev/random", "/dev/urandom")
    (tmp_path / "other.xml").write_text(more)
    assert virsh("define", str(tmp_path / "other.xml")).returncode == 0
    assert "not defined in libvirt yet" in run_mdtool("status", folder).stdout
    xml.write_text(virsh("dumpxml", "--inactive", name).stdout)
    assert "in step" in run_mdtool("status", folder).stdout
    (tmp_path / "other.xml").write_text(more.replace("/dev/urandom", "/dev/random"))
    assert virsh("define", str(tmp_path / "other.xml")).returncode == 0
    assert "rehearsed" in run_mdtool("adopt", name, folder, "--no-git").stderr, "virsh edit is no edit of the file"
    assert "/dev/random" in xml.read_text()


def test_adopt_follows_a_rename(guests: list[str], tmp_path: Path) -> None:
    folder, name = tmp_path / "guests", guests[1]
    assert run_mdtool("adopt", name, folder, "--no-git").returncode == 0
    description = folder / f"{name}.yaml"
    description.write_text("# mine\n" + description.read_text())
    guests[1] = f"{name}-new"
    assert virsh("domrename", name, guests[1]).returncode == 0
    done = run_mdtool("adopt", guests[1], folder, "--no-git")
    assert f"{name} is {guests[1]} now" in done.stderr
    assert sorted(path.name for path in folder.iterdir()) == [f"{guests[1]}.xml", f"{guests[1]}.yaml"]
    assert (folder / f"{guests[1]}.yaml").read_text().startswith("# mine\n")
    assert "in step" in next(
        line for line in run_mdtool("status", folder).stdout.splitlines() if line.startswith(guests[1])
    )


def test_adopt_names_the_guests_whose_names_are_like_an_unknown_one(guests: list[str], tmp_path: Path) -> None:
    done = run_mdtool("adopt", f"{guests[0]}x", tmp_path / "guests")
    assert done.returncode == 2 and not (tmp_path / "guests").exists()
    assert f"libvirt has no guest '{guests[0]}x'; expected {guests[0]}" in done.stderr
    assert "expected" not in run_mdtool("adopt", "?", tmp_path / "guests").stderr
    (tmp_path / "file").touch()
    assert "cannot make the folder" in run_mdtool("adopt", guests[0], tmp_path / "file").stderr


def test_adopt_says_where_libvirts_xml_asks_for_what_qemu_refuses(guests: list[str], tmp_path: Path) -> None:
    options = "<qemu:commandline><qemu:arg value='-device'/><qemu:arg value='pvpanic,id=p0,nothing=1'/></qemu:commandline>"
    text = virsh("dumpxml", "--inactive", guests[1]).stdout
    text = text.replace("<domain ", "<domain xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' ", 1)
    (tmp_path / "define.xml").write_text(text.replace("</domain>", f"{options}</domain>"))
    assert virsh("define", str(tmp_path / "define.xml")).returncode == 0
    done = run_mdtool("adopt", guests[1], tmp_path / "guests", "--no-git")
    assert done.returncode == 2 and f"{guests[1]}: error: libvirt:{guests[1]}:" in done.stderr, done.stderr
