"""Standard streams that the caller closed, and texts that are none: an error or nothing, and never the wrong file."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from mdtool.cli import main
from tests.support_waiting import PATIENCE

YAML = "mdtool: machine/1\nmachine: {type: pc-q35-7.2, arch: x86_64}\nbuses:\n  pcie.0: {type: PCIE, devices: []}\n"


@pytest.mark.parametrize(
    ("words", "closed", "status", "said"),
    [
        ("show g.yaml", ">&-", 2, "error: output: Bad file descriptor\n"),
        ("textconv g.yaml", ">&-", 2, "error: output: Bad file descriptor\n"),
        ("diff g.yaml g.yaml", ">&-", 0, ""),
        ("names -", "<&-", 2, "error: cannot read -: Bad file descriptor\n"),
        ("names nonesuch", "2>&-", 2, ""),
    ],
)
def test_a_closed_stream_is_no_fault_of_mdtools(words: str, closed: str, status: int, said: str, tmp_path: Path) -> None:
    (tmp_path / "g.yaml").write_text(YAML)
    line = f"{sys.executable} -m mdtool {words} {closed}"
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert (done.returncode, done.stderr) == (status, said)
    assert (tmp_path / "g.yaml").read_text() == YAML


@pytest.mark.parametrize("before", [b"\xff\xfex", YAML.encode()], ids=["opened", "saved"])
def test_a_text_that_is_none_is_named_and_kept(
    before: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("g.yaml", "g.xml"):
        (tmp_path / name).write_bytes(before)
    editor = tmp_path / "editor"
    editor.write_text("#!/bin/sh\nprintf '\\377\\376x' > \"$1\"\n")
    editor.chmod(0o755)
    monkeypatch.setenv("EDITOR", str(editor))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    assert main(["edit", str(tmp_path / "g.yaml")]) == 2
    assert "error: not UTF-8 [utf-8]" in capsys.readouterr().err
    assert (tmp_path / "g.yaml").read_bytes() == before
    kept = [path.read_bytes() for path in tmp_path.glob("mdtool-edit-*/*")]
    assert kept == ([] if before != YAML.encode() else [b"\xff\xfex"])


XML = "<domain type='kvm'>\n <devices>\n  <disk type='file'>\n </devices>\n</domain>\n"
KINDS = {
    "d.yaml": YAML.encode(),
    "cut.xml": XML.partition("  <disk")[0].encode(),
    "mixed.xml": XML.encode(),
    "h.json": b'{"mdtool": "hints/1"}',
    "q.sh": b"#!/bin/sh\nqemu-system-x86_64\n",
    "text": b"hello\n",
    "other.yaml": b"version: 2\nservices: {}\n",
    "gz": b"\x1f\x8b\x08\0\xff\xfe\0",
    "empty": b"",
    "wide.yaml": YAML.encode("utf-16"),
    "nul.yaml": YAML.replace("pcie", "pc\0ie").encode(),
    "an a.xml": b"<domain/>",
}


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("show wide.yaml", "wide.yaml:1:1: error: not UTF-8 [utf-8]\n  save it as UTF-8"),
        ("import nul.yaml --xml x -o y", "nul.yaml:1:1: error: this is a machine description, not a script"),
        (
            "import nonesuch --xml x -o y",
            "error: cannot read nonesuch: No such file or directory; expected a script, pid:N",
        ),
        ("import pid:SELF --xml x -o y", "SELF is PROGRAM, not a QEMU"),
        ("dump pid:SELF", "SELF is PROGRAM, not a QEMU"),
        ("extract 'an a.xml'", "\n  mdtool embed 'an a.xml' GUEST.yaml"),
        ("import 'sudo qemu-system-x86_64 -device nonesuch,password=word' --xml x -o y", "command line:1:"),
        ("verify d.yaml d.yaml", "d.yaml is a description as well; expected a running machine, or guest XML to rehearse"),
        ("verify d.yaml h.json", "h.json:1:1: error: this is a hints file, not guest XML; expected <domain ...>"),
        ("reconcile d.yaml new.yaml", "d.yaml:1:1: error: this is a machine description, not guest XML"),
        (
            "reconcile cut.xml d.yaml",
            "cut.xml:3:1: error: not XML: an element is not closed; expected </devices> of line 2",
        ),
        (
            "reconcile mixed.xml d.yaml",
            "mixed.xml:4:4: error: not XML: an element is not closed; expected </disk> of line 3",
        ),
        ("reconcile text d.yaml", "text:1:1: error: this is not guest XML; expected <domain ...>"),
        ("reconcile gz d.yaml", "gz:1:1: error: this is a binary file, not guest XML"),
        ("show gz", "gz:1:1: error: this is a binary file, not a machine"),
        ("show empty", "empty:1:1: error: this is an empty file, not a machine; expected a description, guest XML or"),
        ("show h.json", "h.json:1:1: error: this is a hints file, not a machine; expected a description, guest XML or"),
        ("show text", "text:1:1: error: neither a description nor guest XML nor a QEMU command line"),
        ("hints apply gz d.yaml", "gz:1:1: error: this is a binary file, not text"),
        ("check other.yaml", "other.yaml:1:1: error: this is not a machine description"),
        ("import d.yaml --xml x -o y", "d.yaml:1:1: error: this is a machine description, not a script"),
        ("dump libvirt:", "error: no guest is named; expected libvirt:NAME"),
        ("status text", "error: text is not a folder; expected a folder of guests"),
        ("reconcile q.sh d.yaml", "q.sh:1:1: error: this is a script, not guest XML; expected <domain ...>"),
    ],
)
def test_a_file_of_another_kind_is_named(
    words: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, text in KINDS.items():
        (tmp_path / name).write_bytes(text)
    monkeypatch.chdir(tmp_path)
    assert main(shlex.split(words.replace("SELF", str(os.getpid())))) == 2
    out, err = capsys.readouterr()
    said = said.replace("SELF", str(os.getpid())).replace("PROGRAM", Path("/proc/self/comm").read_text().strip())
    assert said in f"{out}{err}" and len(f"{out}{err}".splitlines()) <= 2


@pytest.mark.parametrize(
    "words", ["-q --color never check d.yaml", "check d.yaml -q --color never", "-q hints export d.yaml"]
)
def test_general_options_stand_before_and_behind_the_command(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "d.yaml").write_text(YAML)
    monkeypatch.chdir(tmp_path)
    assert main(words.split()) == 0
    assert capsys.readouterr().err == ""
    assert main(["--output-format", "json", "check", "none.yaml"]) == 2
    assert capsys.readouterr().out.lstrip().startswith("[")


@pytest.mark.parametrize(
    "words",
    [
        "dump nonesuch.xml -o FILE", "hints export nonesuch -o FILE", "fingerprint nonesuch -o FILE", "schema -o FILE",
        "embed nonesuch.xml nonesuch -o FILE", "extract nonesuch.xml -o FILE", "merge no no no -o FILE", "show nonesuch --svg FILE",
        "show nonesuch --html FILE", "reconcile nonesuch.xml no --write-xml FILE", "reconcile no.xml no --dry-run --json -o FILE",
        "import nonesuch.sh -o FILE --xml no", "import nonesuch.sh -o no --xml FILE", "launch nonesuch.xml no --log FILE",
        "launch nonesuch.xml no --hints-out FILE", "launch nonesuch.xml no --pidfile FILE", "launch nonesuch.xml no --qmp FILE",
    ],
)  # fmt: skip
def test_where_a_result_goes_is_looked_at_first(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Before a source is read or a QEMU starts, and alike in every command."""
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    for file, says in (
        ("a b/x", "the folder a b is not there [output]\n  mkdir -p 'a b'"),
        ("file/x", "file is not a folder [output]"),
        (".", "it is a folder [output]\n  name a file in it, such as ./NAME"),
    ):
        assert main([file if word == "FILE" else word for word in words.split()]) == 2
        assert capsys.readouterr().err == f"error: cannot write {file}: {says}\n"


@pytest.mark.parametrize("words", ["dump nonesuch --xml FILE", "launch nonesuch no --log FILE", "dump nonesuch -o FILE"])
def test_only_what_is_replaced_may_have_no_second_name(
    words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    os.link("file", "other")
    assert main(words.replace("FILE", "file").split()) == 2
    assert ("it has 2 names" in capsys.readouterr().err) == ("-o" in words)


def test_a_stored_fingerprint_is_read_before_a_machine_starts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["fingerprint", "nonesuch.yaml", "--against", str(tmp_path / "stored")]) == 2
    assert capsys.readouterr().err == f"error: cannot read {tmp_path}/stored: No such file or directory\n"


@pytest.mark.parametrize("form", ["text", "github"])
def test_a_dry_run_says_on_stdout_why_it_would_write(form: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    xml, yaml = tmp_path / "g.xml", tmp_path / "g.yaml"
    xml.write_text(
        "<domain type='qemu'><name>g</name><memory>65536</memory><os><type machine='pc-q35-7.2' arch='x86_64'>hvm</type></os>"
        "<devices><memballoon model='none'/></devices></domain>"
    )
    words = ["reconcile", str(xml), str(yaml)]
    assert main(words) == 0
    yaml.write_text(
        yaml.read_text().replace('applied": {', 'applied": {\n  "pci.9": {"port": 8},')
    )  # as a rename leaves it
    capsys.readouterr()
    for more, status in ((["--dry-run"], 1), ([], 0), (["--dry-run"], 0)):
        assert main([*words, *more, "--output-format", form]) == status
        assert ("would be rewritten: the hardware is the same" in capsys.readouterr().out) == (status == 1)
