"""Text of files and peers on its way to a terminal, a path or a shell."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdtool import cli
from mdtool.cli import output
from mdtool.errors import InputError
from mdtool.guest.devices import guest_from_bytes
from mdtool.launch.run import alone
from mdtool.machine.document import document_from_text
from mdtool.machine.values import same, uuid_from_text
from mdtool.review.textconv import lines
from mdtool.text import one_line, printable

XML = "<domain type='qemu'><name>{name}</name>{uuid}<os><type arch='x86_64' machine='q35'>hvm</type></os></domain>"
YAML = """\
mdtool: machine/1
guest: {{name: {name}}}
machine: {{type: pc-q35-7.2, arch: x86_64}}
buses:
  pcie.0:
    type: PCIE
    devices:
    - {{id: net0, driver: virtio-net-pci, address: '02.0', properties: {{serial: {name}}}}}
"""
UUID = "6a1f0c52-93d4-4b7e-8c21-5e0d7b9a4f10"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def obeyed(text: str) -> list[str]:
    """Characters that a terminal does not simply show."""
    return [one for one in text if (ord(one) < 32 and one != "\n") or 127 <= ord(one) < 160 or one in "\u202e\u2066"]


@given(st.text())
def test_nothing_that_is_printed_moves_the_cursor(text: str) -> None:
    assert not obeyed(printable(text).replace("\t", ""))
    assert not obeyed(one_line(text)) and "\n" not in one_line(text)
    assert printable(printable(text)) == printable(text)


@pytest.mark.parametrize("command", ["show", "textconv", "names", "diff", "check"])
def test_commands_print_no_escape_sequences(
    command: str, tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    hostile = r'"web\e[2J\r\nforged \x9b31m\u202e"'
    Path("plain.yaml").write_text(YAML.format(name="web"))
    Path("guest.yaml").write_text(YAML.format(name=hostile))
    words = [command, "plain.yaml", "guest.yaml", "--all"] if command == "diff" else [command, "guest.yaml"]
    cli.main(words)
    said = b"".join(capsysbinary.readouterr()).decode()
    assert said
    assert not obeyed(said)
    assert not any(line.startswith("forged") for line in said.splitlines())


def test_errors_and_file_names_are_escaped(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\x1b[2Jb.yaml"
    path.write_text(YAML.format(name="web") + '"\\e[31mkey": 1\n')
    assert cli.main(["check", str(path)]) == 2
    assert cli.main(["show", str(tmp_path / "\x9bnone.yaml")]) == 2
    captured = capsys.readouterr()
    assert not obeyed(captured.out + captured.err)


SLOTS = {
    "name": ("guest: {{name: web}}", "guest: {{name: {text}}}"),
    "type": ("type: pc-q35-7.2", "type: {text}"),
    "bus": ("pcie.0:", "{text}:"),
    "id": ("id: net0", "id: {text}"),
    "driver": ("driver: virtio-net-pci", "driver: {text}"),
    "address": ("address: '02.0'", "address: {text}"),
    "property": ("serial: web", "{text}: web"),
    "value": ("serial: web", "physical_block_size: 1, logical_block_size: {text}"),
}


@pytest.mark.parametrize("slot", SLOTS)
@pytest.mark.parametrize("command", ["check", "diff", "names", "show"])
def test_no_value_makes_lines_of_an_error(
    command: str, slot: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither one that looks like another error, nor one that a forge takes for a command of its own."""
    monkeypatch.chdir(tmp_path)
    old, new = (text.format(text=r'"a\n::error::forged\r\nguest.yaml:1:1: error: forged"') for text in SLOTS[slot])
    good = YAML.format(name="web")
    assert old in good
    Path("plain.yaml").write_text(good)
    Path("guest.yaml").write_text(good.replace(old, new))
    cli.main([command, "plain.yaml", "guest.yaml"] if command == "diff" else [command, "guest.yaml"])
    captured = capsys.readouterr()
    for line in (captured.out + captured.err).splitlines():
        assert not line.lstrip().startswith(("::", "guest.yaml:1:1: error: forged")), captured


def test_only_our_own_colours_reach_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    with output.guarded():
        print(output.coloured("a\x1b[2Jb", "red"), "\x1b[31mc\x1b[0m")
        output.result("\x1b[2Jd\n")
    assert terminal.getvalue() == "\x1b[31ma\\x1b[2Jb\x1b[0m \\x1b[31mc\\x1b[0m\n\\x1b[2Jd\n"


def test_a_broken_description_is_shown_by_textconv(tmp_path: Path, capsysbinary: pytest.CaptureFixture[bytes]) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text("mdtool: machine/1\n<<<<<<< ours\nmachine: {}\n")
    assert cli.main(["textconv", str(path)]) == 0
    assert capsysbinary.readouterr().out == path.read_bytes()
    other = tmp_path / "latin.bin"
    other.write_bytes(b"caf\xe9\0\n")
    assert cli.main(["textconv", str(other)]) == 0
    assert capsysbinary.readouterr().out == other.read_bytes()


def test_a_value_with_line_breaks_makes_no_lines_of_textconv() -> None:
    tree = document_from_text(YAML.format(name=r'"a\nnet0 ~ mac=52:54:00:00:00:01"'), "guest.yaml").tree
    assert not [line for line in lines(tree) if line.startswith("net0 ~")]


# --- uuids and names ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [UUID.upper(), UUID.replace("-", ""), f" {UUID}\n", UUID.replace("-", " - ")])
def test_a_uuid_has_one_form(text: str) -> None:
    assert uuid_from_text(text) == UUID
    guest = guest_from_bytes(XML.format(name="web", uuid=f"<uuid>{text}</uuid>").encode(), "guest.xml")
    assert guest.uuid == guest.key == UUID
    assert same(UUID.upper(), UUID)


@pytest.mark.parametrize("text", ["../../victim", UUID[:-1], f"{{{UUID}}}", f"urn:uuid:{UUID}", "6" + UUID, UUID + "/."])
def test_what_is_no_uuid_is_refused_at_its_place(text: str) -> None:
    with pytest.raises(InputError, match=r"^guest.xml:1:\d+: error: .* is not a UUID") as caught:
        guest_from_bytes(XML.format(name="web", uuid=f"<uuid>{text}</uuid>").encode(), "guest.xml")
    assert caught.value.rule == "uuid"


@pytest.mark.parametrize("name", [".", "..", "../web", "a/b", "a\nb"])
def test_a_name_that_is_no_name_of_a_file_is_refused(name: str) -> None:
    with pytest.raises(InputError, match="is not a valid guest name"):
        guest_from_bytes(XML.format(name=name, uuid="").encode(), "guest.xml")


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="<&/\ufffe\uffff"), min_size=1)
)
def test_no_text_of_a_guest_becomes_a_part_of_a_path(name: str) -> None:
    try:
        guest = guest_from_bytes(XML.format(name=name, uuid="").encode(), "guest.xml")
    except InputError:
        return
    assert uuid_from_text(guest.key) == guest.key


def test_a_guest_without_a_uuid_leaves_other_guests_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    one, two = (guest_from_bytes(XML.format(name=name, uuid="").encode(), "guest.xml") for name in ("web", "-"))
    with alone(one) as place:
        (place.path / "kept").write_text("")
        with alone(two) as other:
            assert other.path.parent == place.path.parent == tmp_path / "mdtool"
        assert (place.path / "kept").exists()
    assert os.listdir(tmp_path / "mdtool") == []


# --- what nobody foresaw -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("fault", [RecursionError("deep"), MemoryError(), ValueError("a\nb"), KeyError("x")])
def test_an_unexpected_exception_is_an_error_in_one_line(
    fault: Exception, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "guest.yaml"
    path.write_text(YAML.format(name="web"))

    def fails(*_: object, **__: object) -> None:
        raise fault

    monkeypatch.setattr("mdtool.review.show.view", fails)
    assert cli.main(["show", str(path)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    (line,) = captured.err.splitlines()
    assert line.startswith(f"error: mdtool failed: {type(fault).__name__}") and "please report it" in line
