"""Findings and errors in the form that their reader wants."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mdtool.cli.output import FORMATS
from mdtool.cli.pager import pager
from tests.support import SAMPLES, mdtool, run_mdtool


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A description with two nodes of one id."""
    monkeypatch.chdir(tmp_path)
    Path("g.xml").write_bytes((SAMPLES / "web01" / "guest.xml").read_bytes())
    assert mdtool("reconcile", "g.xml", "g.yaml") == 0
    Path("good.yaml").write_bytes(Path("g.yaml").read_bytes())
    Path("g.yaml").write_text(Path("g.yaml").read_text().replace("id: net1", "id: net0"))
    return tmp_path


def line_of_net0() -> int:
    return next(n for n, line in enumerate(Path("g.yaml").read_text().splitlines(), 1) if "id: net0" in line)


def check(form: str, *words: str) -> subprocess.CompletedProcess[str]:
    done = run_mdtool("check", *(words or ("g.yaml",)), "--output-format", form)
    assert "Traceback" not in done.stderr
    return done


def test_json(folder: Path) -> None:
    rows = json.loads(check("json").stdout)
    assert {"severity": "error", "rule": "id-unique"}.items() <= rows[0].items()
    assert rows == json.loads(run_mdtool("check", "g.yaml", "--json").stdout)
    assert json.loads(check("json", "good.yaml").stdout) == [] or all(
        row["severity"] == "warning" for row in json.loads(check("json", "good.yaml").stdout)
    )


def test_github(folder: Path) -> None:
    done = check("github")
    assert done.returncode == 2
    assert done.stdout.startswith("::error file=g.yaml,line=")
    assert "title=id-unique::" in done.stdout


def test_gitlab(folder: Path) -> None:
    rows = json.loads(check("gitlab").stdout)
    assert len({row["fingerprint"] for row in rows}) == len(rows)
    assert rows[0]["location"]["path"] == "g.yaml"
    assert rows[0]["severity"] == "major"


def test_sarif(folder: Path) -> None:
    (run,) = json.loads(check("sarif").stdout)["runs"]
    where = run["results"][0]["locations"][0]["physicalLocation"]
    assert where["artifactLocation"]["uri"] == "g.yaml"
    assert {result["ruleId"] for result in run["results"]} == {rule["id"] for rule in run["tool"]["driver"]["rules"]}


def test_junit(folder: Path) -> None:
    suite = ElementTree.fromstring(check("junit").stdout)
    assert int(suite.attrib["failures"]) == len(suite.findall("testcase/failure")) > 0
    good = ElementTree.fromstring(check("junit", "good.yaml").stdout)
    assert good.attrib["failures"] == "0"
    assert good.findall("testcase")


@pytest.mark.parametrize("form", FORMATS)
def test_errors_follow_the_format(folder: Path, form: str) -> None:
    """An error that ends a command: of any command, with its place where it has one."""
    Path("bad.yaml").write_text("mdtool: machine/1\nmachin: {}\n")
    done = run_mdtool("show", "bad.yaml", "--output-format", form)
    assert done.returncode == 2
    said = done.stderr if form == "text" else done.stdout
    assert "bad.yaml" in said
    assert "machin" in said
    if form == "text":
        assert "bad.yaml:2:1: error: " in said
        assert done.stdout == ""
    else:
        assert done.stderr == ""


@pytest.mark.parametrize(
    "words", [("hints", "export", "no.yaml"), ("hook", "cloudstack", "--store", "nowhere")], ids=lambda words: words[0]
)
def test_an_option_of_output_stands_anywhere(folder: Path, words: tuple[str, ...]) -> None:
    """Also behind the action of a command that has actions."""
    json_ = ("--output-format", "json")
    for before, after in ((json_, ()), ((), json_)):
        done = run_mdtool(words[0], *before, *words[1:], *after)
        assert done.returncode == 2
        assert json.loads(done.stdout)[0]["severity"] == "error"


@pytest.mark.parametrize("form", ["json", "github", "sarif", "junit", "gitlab"])
def test_differences_follow_the_format(folder: Path, form: str) -> None:
    done = run_mdtool("diff", "good.yaml", "g.yaml", "--output-format", form)
    assert done.returncode == 1
    assert "net" in done.stdout


def test_text_of_a_file_makes_no_finding_of_its_own(folder: Path) -> None:
    Path("evil.yaml").write_text('mdtool: machine/1\n"x\\n::error file=a::b": {}\n')
    done = check("github", "evil.yaml")
    assert [line for line in done.stdout.splitlines() if line.startswith("::error file=a")] == []
    Path("evil.yaml").rename("evil\x1b[2J\x9b.yaml")
    assert check("github", "evil\x1b[2J\x9b.yaml").stdout.startswith(r"::error file=evil\x1b[2J\x9b.yaml,line=")
    table = run_mdtool("diff", "good.yaml", "g.yaml", "--format", "markdown").stdout
    assert table.startswith("**")
    assert "| device | what | before | after |" in table


def test_quiet_leaves_errors(folder: Path) -> None:
    assert run_mdtool("check", "good.yaml", "-q").stderr == ""
    assert "error" in run_mdtool("check", "missing.yaml", "-q").stdout + run_mdtool("check", "missing.yaml", "-q").stderr


def test_colour_and_excerpt_on_a_terminal(folder: Path) -> None:
    """A caret under the column, where a person looks; never in a file."""
    main, other = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "mdtool", "check", "g.yaml"], stdout=other, stderr=other, env={**os.environ, "TERM": "xterm"}
    )
    os.close(other)
    said = b""
    while True:
        try:
            chunk = os.read(main, 65536)
        except OSError:
            break
        if not chunk:
            break
        said += chunk
    process.wait()
    os.close(main)
    assert b"\x1b[31mg.yaml:" in said
    lines = [
        line
        for line in said.decode().replace("\r", "").split("\n")
        if " | " in line or line.rstrip("\x1b[0m").endswith("^")
    ]
    assert lines
    assert "\x1b" not in run_mdtool("check", "g.yaml").stdout
    assert "\x1b[31m" in run_mdtool("check", "g.yaml", "--color", "always").stdout


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A guest, and the same one edited, each with its description."""
    folder = tmp_path_factory.mktemp("two")
    for name in ("guest", "edited"):
        (folder / f"{name}.xml").write_bytes((SAMPLES / "web01" / f"{name}.xml").read_bytes())
        assert mdtool("reconcile", f"{folder}/{name}.xml", f"{folder}/{name}.yaml") == 0
    return folder


@pytest.mark.parametrize("form", [form for form in FORMATS if form != "text"])
@pytest.mark.parametrize(
    "words",
    [
        ("reconcile", "edited.xml", "guest.yaml", "--dry-run"),
        ("names", "edited.yaml", "--against", "guest.yaml"),
        ("diff", "guest.yaml", "edited.yaml"),
        ("status", "--offline", "."),
    ],
    ids=lambda words: words[0],
)
def test_every_command_finds_in_every_format(
    two: Path, form: str, words: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(two)
    if words[0] == "status":
        (two / "new.yaml").write_text("mdtool: [\n")
    assert mdtool(*words, "--output-format", form) == 1
    text = capsys.readouterr().out
    rows = 0
    if form in ("json", "gitlab"):
        rows = len(json.loads(text))
    elif form == "sarif":
        rows = len(json.loads(text)["runs"][0]["results"])
    elif form == "jsonl":
        rows = len([json.loads(line) for line in text.splitlines()])
    elif form == "junit":
        rows = len(ElementTree.fromstring(text))
    else:
        rows = sum(line.startswith(("::error", "::warning")) for line in text.splitlines())
    assert rows


def on_a_terminal(*words: str, **environment: str) -> str:
    """What a person sees: stdout and stderr on a terminal."""
    ours, theirs = pty.openpty()
    own = {**os.environ, "TERM": "xterm", **environment}
    process = subprocess.Popen(
        [sys.executable, "-m", "mdtool", *words], stdin=theirs, stdout=theirs, stderr=theirs, env=own
    )
    os.close(theirs)
    seen = b""
    with open(ours, "rb", buffering=0) as stream:
        while True:
            try:
                data = stream.read(4096)
            except OSError:  # nobody has the other end any more
                break
            if not data:
                break
            seen += data
    process.wait()
    return seen.decode()


@pytest.mark.parametrize(
    ("more", "environment", "is_paged"),
    [
        ((), {"PAGER": "sed s/^/paged:/"}, True),
        ((), {"PAGER": "false", "MDTOOL_PAGER": "sed s/^/paged:/"}, True),
        ((), {"PAGER": "cat"}, False),
        ((), {"PAGER": "sed s/^/paged:/", "MDTOOL_PAGER": ""}, False),
        (("--no-pager",), {"PAGER": "sed s/^/paged:/"}, False),
    ],
)
def test_a_pager_on_a_terminal(two: Path, more: tuple[str, ...], environment: dict[str, str], is_paged: bool) -> None:
    words = ("show", str(two / "guest.yaml"), "--depth", "1", *more)
    environment = {"MDTOOL_PAGER": environment.get("PAGER", ""), **environment}
    seen = on_a_terminal(*words, **environment)
    assert "pcie.0" in seen and ("paged:" in seen) is is_paged
    assert "\x1b[" in seen  # a pager shows colours
    assert "paged:" not in run_mdtool(*words).stdout


def test_a_pager_shows_findings_before_their_sum_and_no_progress(two: Path, tmp_path: Path) -> None:
    tree = (two / "guest.yaml").read_text().partition("\n---")[0]
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for path in paths:
        path.write_text(f'{tree}\n---\n{{"mdtool": "pins/1", "gone": {{"a": 1}}}}\n')
    seen = on_a_terminal("check", *map(str, paths), MDTOOL_PAGER="sed s/^/paged:/")
    assert seen.index("pins for 'gone'") < seen.index("a.yaml: no errors") < seen.index("0 errors, 2 warnings")
    assert "1 of 2" not in seen


def test_no_pager_where_less_is_not_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a small server: the output itself, and not the shell's complaint in its place."""
    for name in ("MDTOOL_PAGER", "PAGER"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert pager() is None
    (tmp_path / "less").touch(mode=0o755)
    assert pager() == "less"
