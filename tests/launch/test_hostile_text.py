"""Text of a guest in words for QEMU, in a file for -readconfig and in a script for a shell: it stays text."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mdtool import cli
from mdtool.commandline.config import options_from_config
from mdtool.commandline.option import Option
from mdtool.commandline.resolved import options_from_command
from mdtool.commandline.script import command_from_script
from mdtool.errors import InputError, Report
from mdtool.launch.backends.base import Secret, numbered, secret_object
from mdtool.launch.file import handover
from mdtool.machine.document import document_from_text
from tests.support_waiting import PATIENCE

XML = """\
<domain type='qemu' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <channel type='null'><target type='virtio' name='{name}'/></channel>
    <graphics type='vnc' port='5999' passwd='secret'/>
  </devices>
  {more}
</domain>
"""
WAYS = ("file", "device", "options", "monitor")


def printed(xml: str, via: str, folder: Path, capsysbinary: Any, *more: str) -> bytes:
    path = folder / "guest.xml"
    path.write_text(xml)
    assert cli.main(["launch", str(path), "--via", via, "--print", *more]) == 0
    captured = capsysbinary.readouterr()
    return bytes(captured.out)


@pytest.mark.parametrize("via", WAYS)
def test_text_that_looks_like_a_placeholder_is_text(via: str, tmp_path: Path, capsysbinary: Any) -> None:
    """Also one with the name of a secret that the guest has: its number is in the secret's own word alone."""
    for name in ("&lt;fd:x>", "/dev/fd/&lt;fd:vnc0>", "&lt;fd:vnc-password>"):
        script = printed(XML.format(name=name.replace("/", "|"), more=""), via, tmp_path, capsysbinary).decode()
        assert name.replace("&lt;", "<").replace("/", "|") in script
        assert script.count("3<") == 1 and "/dev/fd/3" in script


def test_only_words_of_secrets_have_numbers() -> None:
    secret = Secret("vnc")
    assert numbered(secret_object(secret)[1], {"vnc": 7}).endswith('"file": "/dev/fd/7"}')
    assert numbered(secret_object(Secret("other"))[1], {"vnc": 7}) == secret_object(Secret("other"))[1]
    for word in ('{"name": "{\\"qom-type\\": \\"secret\\" /dev/fd/<fd:vnc>"}', "a,b=/dev/fd/<fd:vnc>"):
        assert numbered(word, {"vnc": 7}) == word


SHELL = ["$(touch RAN)", "`touch RAN`", "';touch RAN;'", "a\nEOF\ntouch RAN\n", "--&gt;|touch RAN", "#\ntouch RAN"]


@pytest.mark.parametrize("via", WAYS)
@pytest.mark.parametrize("text", SHELL)
def test_no_text_is_a_command_to_the_shell(via: str, text: str, tmp_path: Path, capsysbinary: Any) -> None:
    name = text.replace("\n", " ")
    alias = text.replace("\n", "&#10;").replace("'", "&apos;").replace("`", "&#96;")
    more = (
        f"<qemu:commandline><qemu:env name='A' value='{alias}'/>"
        f"<qemu:arg value='-fw_cfg'/><qemu:arg value='name=opt/x,string={alias}'/></qemu:commandline>"
    )
    xml = XML.format(name="web", more=more).replace("name='web'", f"name='{alias}'").replace("<name>web<", f"<name>{name}<")
    stub = tmp_path / "qemu"
    stub.write_text(
        '#!/bin/sh\ncase " $* " in *" -name "*) exit 0;; esac\nexec qemu-system-x86_64 "$@"\n'
    )  # starts no guest
    stub.chmod(0o755)
    script = printed(xml, via, tmp_path, capsysbinary, "--qemu", str(stub))
    (tmp_path / "vnc0").write_text("")
    subprocess.run(["sh", "-s"], input=script, cwd=tmp_path, capture_output=True, check=False, timeout=PATIENCE)
    assert not (tmp_path / "RAN").exists()


@pytest.mark.parametrize("name", ["$(touch RAN)", "A B", "1A", "", "A=B", "A&#10;B"])
def test_a_variable_has_a_name_or_is_an_error(name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "guest.xml"
    more = f"<qemu:commandline><qemu:env name='{name}' value='x'/></qemu:commandline>"
    path.write_text(XML.format(name="web", more=more))
    assert cli.main(["launch", str(path), "--print"]) == 2
    assert f"{path}:10:" in capsys.readouterr().err


@pytest.mark.parametrize(
    "value", ['a"\n[device "evil"]\n  driver = "e1000', 'x"', "a\nb", "é" * 600, "#", "]", '[device "x"]', " = ", ""]
)
def test_a_group_of_readconfig_holds_one_value_or_none(value: str) -> None:
    """What a line of QEMU's file cannot hold stays on the command line, where JSON can say it."""
    for id in ("net0", value):
        option = Option("device", json.dumps({"driver": "e1000", "id": id, "mac": value}))
        found = handover([option])
        options = options_from_config(found.config, "x") if found.config else []
        assert [o.bag for o in (*options, *found.options)] == [option.bag]
        assert all(len(line.encode()) < 1024 for line in found.config.split("\n"))


@pytest.mark.parametrize("index", ["two", "10000000", "1024", "-1", "", "9" * 5000, "\u0662"])
def test_an_origin_that_is_of_no_controller_is_refused_at_its_place(index: str) -> None:
    text = (
        "mdtool: machine/1\nmachine: {type: pc-q35-7.2}\nbuses:\n  pcie.0:\n    type: PCIE\n    devices:\n"
        f"    - {{id: pci.1, driver: pcie-root-port, address: '02.0', origin: 'controller/pci/{index}'}}\n"
    )
    with pytest.raises(InputError, match=r"^guest.yaml:7:\d+: error: .*is the origin of no controller"):
        document_from_text(text, "guest.yaml")


SECRET = "Zq7k2Wm9"


@pytest.mark.parametrize(
    "words",
    [
        f"-drive file.driver=https,file.url=https://h/x,file.cookie=sid={SECRET},if=none",
        f"-drive file.driver=https,file.url=https://h/x,file.proxy-password={SECRET},if=none",
        f"""-blockdev '{{"driver": "raw", "file": {{"driver": "https", "url": "https://h/x", "cookie": "sid={SECRET}"}}}}'""",
        f"""-drive 'file=json:{{"file.cookie": "sid={SECRET}",, "driver": "https"}},if=none'""",
        f"""-drive 'if=none,file=json:{{"driver": "https", "url": "https://h/x","cookie":"{SECRET}"}}'""",  # commas not doubled
        f"-blockdev driver=https,node-name=d,url=https://u:{SECRET}@h/x",
    ],
)
def test_a_secret_of_a_script_stays_in_the_script(words: str) -> None:
    report = Report()
    command = command_from_script(f"qemu-system-x86_64 {words}", "start.sh", report)
    options = list(options_from_command(command, report))
    assert options and SECRET not in "".join(str((option.value, option.bag)) for option in options)
    assert [warning.rule for warning in report.warnings] == ["secret"]
    assert SECRET not in "".join(map(str, report.warnings))


@pytest.mark.parametrize(
    "name", ["../../victim", "/etc/passwd", "a/../../b", "..", "qmp", "machine.cfg", "x" * 90, "\u00e9", "a b"]
)
def test_sockets_of_a_guest_are_in_its_own_folder(name: str, tmp_path: Path, capsysbinary: Any) -> None:
    """A channel without a path has a socket that is named by its target: QEMU removes what is there before."""
    more = f"<channel type='unix'><target type='virtio' name='{name}'/></channel></devices>"
    xml = XML.format(name="web", more="").replace("</devices>", more)
    data = json.loads(printed(xml, "device", tmp_path, capsysbinary, "--json"))
    (word,) = (word for word in data if word.startswith("socket,"))
    path = Path(word.partition("path=")[2].partition(",server")[0].replace(",,", ","))
    assert path.parent.parent.name == "mdtool" and ".." not in path.parts
    assert path.name not in ("qmp", "machine.cfg", "..") and len(path.name) <= 64


def test_a_here_document_ends_where_its_text_does() -> None:
    from mdtool.launch.script import _here

    text = "a\nEOF\nEOF_\ntouch RAN\n"
    done = subprocess.run(["sh", "-c", f"cat{_here(text)}"], capture_output=True, text=True, check=True)
    assert done.stdout == text
