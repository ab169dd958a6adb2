"""Files, pipes, standard input and output, git: every command takes and gives them alike."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mdtool.cli.output import in_ascii
from tests.support import SAMPLES, mdtool, run_mdtool
from tests.support_waiting import PATIENCE

GUEST = SAMPLES / "web01" / "guest.xml"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a guest and its description, which is the current one."""
    (tmp_path / "g.xml").write_bytes(GUEST.read_bytes())
    monkeypatch.chdir(tmp_path)
    assert mdtool("reconcile", "g.xml", "g.yaml") == 0
    return tmp_path


def piped(text: str | bytes, *words: str, **more: str) -> subprocess.CompletedProcess[bytes]:
    data = text.encode() if isinstance(text, str) else text
    command = [sys.executable, "-m", "mdtool", *words]
    return subprocess.run(command, input=data, capture_output=True, timeout=PATIENCE, env={**os.environ, **more})


# --- standard input and output ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("turn", ["first", "second"])
def test_reconcile_is_a_filter(folder: Path, turn: str) -> None:
    assert mdtool("reconcile", "g.xml", "a.yaml", "--write-xml", "a.xml") == 0
    for _ in range(2 if turn == "second" else 1):
        done = piped(GUEST.read_bytes(), "reconcile", "-", "b.yaml", "--write-xml", "-")
    assert (done.returncode, done.stdout) == (0, Path("a.xml").read_bytes())
    assert Path("b.yaml").read_bytes() == Path("a.yaml").read_bytes()
    assert (b"net0" if turn == "first" else b"no changes") in done.stderr
    assert not Path("-").exists()


def test_a_description_goes_through_a_pipe_as_well(folder: Path) -> None:
    done = piped(Path("g.yaml").read_bytes(), "reconcile", "g.xml", "-")
    assert (done.returncode, done.stdout) == (0, Path("g.yaml").read_bytes())
    embedded = piped(GUEST.read_bytes(), "embed", "-", "g.yaml")
    assert piped(embedded.stdout, "extract", "-").stdout == Path("g.yaml").read_bytes()
    again = piped(embedded.stdout, "reconcile", "-")
    assert (again.returncode, again.stdout) == (0, embedded.stdout)


@pytest.mark.parametrize(
    "words",
    [
        ("check", "-"),
        ("show", "-"),
        ("names", "-"),
        ("hints", "export", "-"),
        ("diff", "-", "g.yaml"),
        ("textconv", "-"),
        ("merge", "g.yaml", "-", "g.yaml"),
    ],
)
def test_every_command_reads_standard_input(folder: Path, words: tuple[str, ...]) -> None:
    named = run_mdtool(*["g.yaml" if word == "-" else word for word in words])
    done = piped(Path("g.yaml").read_bytes(), *words)
    assert (done.returncode, done.stdout.decode()) == (named.returncode, named.stdout), done.stderr
    assert done.returncode == 0


@pytest.mark.parametrize("name", ["-", "/dev/stdin"])
def test_a_pipe_gives_what_the_file_gives(folder: Path, name: str) -> None:
    words = ("g.yaml", "--via", "libvirt", "--print")
    named = run_mdtool("launch", "g.xml", *words)
    done = piped(GUEST.read_bytes(), "launch", name, *words)
    assert (done.returncode, done.stdout.decode()) == (0, named.stdout), done.stderr


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("reconcile", "-", "-"), "two sources are both -"),
        (("diff", "-", "/dev/stdin"), "two sources are both -"),
        (("check", "-", "-"), "two sources are both -"),
        (("show", "-", "--against", "-"), "two sources are both -"),
        (("reconcile", "g.xml", "g.yaml", "-o", "-", "--write-xml", "-"), "two results are both -"),
        (("reconcile", "g.xml", "-", "--write-xml", "-"), "both the description and the XML"),
        (("show", "g.yaml", "--svg", "-", "--html", "/dev/stdout"), "two results are both -"),
        (("import", "-", "--xml", "-", "-o", "-"), "two results are both -"),
    ],
)
def test_one_stream_is_one_file(folder: Path, words: tuple[str, ...], told: str) -> None:
    done = piped("", *words)
    assert done.returncode == 2
    assert told in done.stderr.decode()


@pytest.mark.parametrize("words", [("reconcile", "g.xml", "g.yaml", "--write-xml"), ("reconcile", "g.xml", "g.yaml", "-o")])
def test_the_system_s_name_of_standard_output_is_the_same(folder: Path, words: tuple[str, ...]) -> None:
    done = piped(b"", *words, "/dev/stdout")
    assert done.stdout == piped(b"", *words, "-").stdout
    assert b"kept" in done.stderr


def test_what_is_read_of_standard_input_is_written_to_standard_output(folder: Path) -> None:
    with Path("g.xml").open("rb") as file:  # a file behind it, which is not written
        command = [sys.executable, "-m", "mdtool", "embed", "/dev/stdin", "g.yaml"]
        done = subprocess.run(command, stdin=file, capture_output=True, timeout=PATIENCE, check=True)
    assert b"machine/1" in done.stdout
    assert Path("g.xml").read_bytes() == GUEST.read_bytes()


def _committed() -> None:
    for words in (("init", "-q"), ("add", "-A"), ("-c", "user.email=a@b", "-c", "user.name=a", "commit", "-qm", "all")):
        subprocess.run(["git", *words], check=True)


def test_a_revision_is_read_and_never_written(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "sub").mkdir()
    Path("sub/g.yaml").write_bytes(Path("g.yaml").read_bytes())
    Path("start.sh").write_text("qemu-system-x86_64 -nodefaults -m 64\n")
    _committed()
    for words in (
        ("reconcile", "g.xml", "HEAD:g.yaml"),
        ("reconcile", "HEAD:g.xml"),
        ("embed", "HEAD:g.xml", "g.yaml"),
        ("reconcile", "g.xml", "g.yaml", "--write-xml", "HEAD:g.xml"),
    ):
        assert mdtool(*words) == 2
        assert "is not a file, and cannot be written" in capsys.readouterr().err
    for name in ("HEAD:g.yaml", "HEAD:sub/g.yaml", ":g.yaml", ":0:g.yaml"):
        assert mdtool("reconcile", "g.xml", name, "--dry-run") == 0
    assert mdtool("dump", "HEAD:start.sh", "-o", "start.yaml") == 0
    assert mdtool("import", "HEAD:start.sh", "--xml", "start.xml", "-o", "start.yaml") == 0
    assert not [path for path in folder.iterdir() if ":" in path.name]


def test_a_revision_is_read_of_git(folder: Path) -> None:
    _committed()
    assert mdtool("launch", "HEAD:g.xml", "HEAD:g.yaml", "--print") == 0
    assert mdtool("check", "HEAD:g.yaml") == 0
    assert mdtool("reconcile", "HEAD:g.xml", "g.yaml", "--dry-run") == 0
    assert mdtool("diff", "HEAD:g.yaml", "g.yaml") == 0


# --- kinds of files --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("command", ["check", "show", "names"])
def test_xml_is_taken_for_xml(folder: Path, command: str, capsys: pytest.CaptureFixture[str]) -> None:
    line = GUEST.read_text().replace("\n", " ")
    for text in (GUEST.read_text(), line, "\ufeff" + line, "<!-- a -->" + line):
        Path("other").write_text(text)
        assert mdtool(command, "other") == 0


def test_a_file_of_the_wrong_kind_is_not_repeated(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = GUEST.read_text().replace("\n", " ")
    Path("line").write_text(line)
    Path("broken").write_text(line.replace("</domain>", ""))
    Path("long.yaml").write_text("x" * 5000)
    for words in (
        ("reconcile", "g.xml", "line"),
        ("check", "broken"),
        ("check", "long.yaml"),
        ("reconcile", "g.yaml", "g.xml"),
    ):
        before = {path.name: path.read_bytes() for path in folder.iterdir()}
        assert mdtool(*words) == 2
        captured = capsys.readouterr()
        assert len(captured.out + captured.err) < 400
        assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("qemu-system-x86_64 -m 64\n", "a script"),
        ('{\n "mdtool": "plan/1"}', "a saved plan"),
        ('{"mdtool": "hints/1"}', "a hints file"),
        ("", "empty"),
        ("words and words " * 9999, "not a machine description"),
    ],
)
def test_other_kinds_are_named(folder: Path, text: str, kind: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("other").write_text(text)
    for words in (("launch", "g.xml", "other", "--print"), ("embed", "g.xml", "other"), ("check", "other")):
        assert mdtool(*words) == 2
        told = capsys.readouterr()
        assert kind in told.out + told.err
        assert len(told.out + told.err) < 400
    if "machine description" not in kind:
        for command in ("extract", "reconcile"):
            assert mdtool(command, "other") == 2
            assert kind in capsys.readouterr().err


def test_exchanged_arguments_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mdtool("reconcile", "g.yaml", "g.xml") == 2
    assert "g.yaml:1:1: error: this is a machine description, not guest XML" in capsys.readouterr().err


def test_check_takes_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Path("sub").mkdir()
    Path("sub/bad.yaml").write_text(Path("g.yaml").read_text().replace("id: net1", "id: net0"))
    Path("sub/other.yaml").write_text("a: 1\n")
    assert mdtool("check", ".") == 2
    captured = capsys.readouterr()
    assert "sub/bad.yaml" in captured.out
    assert "[id-unique]" in captured.out
    assert "g.xml: no errors" in captured.err
    assert "other.yaml" not in captured.out + captured.err


# --- writing over what people edited ---------------------------------------------------------------------------------


def test_dry_run_exits_with_0_exactly_where_nothing_is_written(folder: Path) -> None:
    assert mdtool("reconcile", "g.xml", "g.yaml", "--dry-run") == 0
    assert mdtool("reconcile", "g.xml", "g.yaml", "--dry-run", "--write-xml", "start.xml") == 1
    assert not Path("start.xml").exists()
    assert mdtool("dump", "g.xml", "-o", "full.yaml") == 0
    origins = Path("full.yaml").read_text()
    Path("full.yaml").write_text(origins.replace("origin: interface/", "origin: interface/x"))
    before = Path("full.yaml").read_bytes()
    status = mdtool("reconcile", "g.xml", "full.yaml", "--dry-run")
    assert Path("full.yaml").read_bytes() == before
    assert mdtool("reconcile", "g.xml", "full.yaml") == 0
    assert (Path("full.yaml").read_bytes() != before) == bool(status)
    assert mdtool("reconcile", "g.xml", "full.yaml", "--dry-run") == 0


def test_a_dump_keeps_what_only_the_description_knows(folder: Path) -> None:
    edited = GUEST.read_text().replace("</devices>", "<interface type='user'><mac address='52:54:00:99:00:01'/>"
                                       "<model type='virtio'/></interface></devices>")  # fmt: skip
    Path("more.xml").write_text(edited)
    assert mdtool("reconcile", "more.xml", "g.yaml") == 0
    assert mdtool("reconcile", "g.xml", "g.yaml") == 0
    text = Path("g.yaml").read_text().replace("\nbuses:", "\n# the uplink, never move it\nbuses:")
    assert "\nretired:" in text
    Path("g.yaml").write_text(text)
    assert mdtool("dump", "g.xml", "-o", "g.yaml") == 0
    now = Path("g.yaml").read_text()
    assert "# the uplink, never move it" in now
    assert "52:54:00:99:00:01" in now.partition("\nretired:")[2]
    assert "\n---\n" in now
    assert mdtool("dump", "g.xml", "-o", "g.yaml") == 0
    assert Path("g.yaml").read_text() == now
    assert mdtool("reconcile", "g.xml", "g.yaml", "--dry-run") == 0


def test_a_dump_replaces_no_other_file(folder: Path) -> None:
    before = Path("g.xml").read_bytes()
    assert mdtool("dump", "g.yaml", "-o", "g.xml") == 2
    assert Path("g.xml").read_bytes() == before


def test_what_is_written_over_stays_beside_it(folder: Path) -> None:
    Path("other.yaml").write_text("# notes of mine\n")
    assert mdtool("reconcile", "g.xml", "g.yaml", "-o", "other.yaml") == 0
    assert Path("other.yaml~").read_text() == "# notes of mine\n"
    assert not Path("g.yaml~").exists()


# --- pins of nodes that a person renamed -----------------------------------------------------------------------------


def test_a_renamed_node_needs_no_edit_of_its_pins(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert mdtool("dump", "g.xml", "-o", "full.yaml") == 0
    Path("full.yaml").write_text(Path("full.yaml").read_text().replace("- id: net1\n", "- id: uplink\n"))
    capsys.readouterr()
    assert mdtool("check", "full.yaml") == 0
    said = [line for line in capsys.readouterr().out.splitlines() if "[pins-node]" in line]
    assert len(said) == 1
    number = int(said[0].split(":")[1])
    assert '"net1"' in Path("full.yaml").read_text().splitlines()[number - 1]
    assert mdtool("reconcile", "g.xml", "full.yaml") == 0
    assert "pins for 'net1'" in capsys.readouterr().err
    assert '"net1"' not in Path("full.yaml").read_text()
    assert "id: uplink" in Path("full.yaml").read_text()


# --- encodings -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("coding", ["latin-1", "ascii", "cp437", "utf-8"])
def test_output_is_for_any_encoding(folder: Path, coding: str) -> None:
    Path("g.yaml").write_text(Path("g.yaml").read_text().replace("name: web01", "name: 'Büro-日本'"))
    done = piped("", "show", "g.yaml", PYTHONIOENCODING=coding)
    assert (done.returncode, done.stderr) == (0, b"")
    assert "net1" in done.stdout.decode(coding)
    missing = piped("", "check", "Büro-日本.yaml", PYTHONIOENCODING=coding)
    assert missing.returncode == 2
    assert b"Traceback" not in missing.stderr
    whole = piped(
        Path("g.yaml").read_bytes(), "reconcile", "g.xml", "-", "--prefer", "description", PYTHONIOENCODING=coding
    )
    assert "Büro-日本" in whole.stdout.decode("utf-8"), "a document is UTF-8 in every locale"


def test_qemu_is_told_names_in_utf8_in_any_locale(folder: Path) -> None:
    """A guest's name and a path reach QEMU as libvirt would give them, and not as the locale spells them."""
    Path("g.xml").write_text(Path("g.xml").read_text().replace("<name>web01<", "<name>Büro-日本<"))
    assert mdtool("reconcile", "g.xml", "g.yaml") == 0
    for words in (("launch", "g.xml", "g.yaml", "--rehearse"), ("dump", "g.xml"), ("fingerprint", "g.yaml")):
        done = piped("", *words, PYTHONUTF8="0", LC_ALL="C", PYTHONCOERCECLOCALE="0")
        assert done.returncode == 0, done.stderr
    assert "Büro-日本" in piped("", "dump", "g.xml", PYTHONUTF8="0", LC_ALL="C").stdout.decode("utf-8")


def test_a_description_is_no_pipe_to_write_to(folder: Path) -> None:
    """``mdtool reconcile g.xml <(...)``: what is written there is read by nobody."""
    text = Path("g.yaml").read_bytes()
    assert mdtool("reconcile", "g.xml", "g.yaml") == 0
    Path("e.xml").write_text(Path("g.xml").read_text().replace("e1000e", "virtio"))
    for words, status in (("g.xml --dry-run", 0), ("e.xml --dry-run", 1), ("e.xml", 2)):
        script = f'"$0" -m mdtool reconcile {words.replace(".xml", ".xml <(cat g.yaml)")}'
        done = subprocess.run(
            ["bash", "-c", script, sys.executable], capture_output=True, text=True, timeout=PATIENCE, check=False
        )
        assert done.returncode == status, done.stderr
    assert "-o" in done.stderr
    assert Path("g.yaml").read_bytes() == text


def test_ascii_looks_alike() -> None:
    assert "".join(map(in_ascii, "├─ é…")) == "|- e..."


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("<domain/>", "this is guest XML, not a script"),
        ("mdtool: machine/1\nbuses: {}\n", "this is a machine description, not a script"),
        ('{"mdtool": "hints/1"}', "this is a hints file, not a script"),
        ("echo nothing", "no QEMU command line in it"),
    ],
)
def test_what_is_no_script_is_named(text: str, kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "given").write_text(text)
    assert mdtool("import", tmp_path / "given", "--xml", tmp_path / "x", "-o", tmp_path / "y") == 2
    assert kind in capsys.readouterr().err
