"""``mdtool embed`` and ``extract``: the description inside of the guest XML, and through libvirt unharmed."""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest

from mdtool.errors import InputError
from mdtool.review.embed import embedded, embedded_in, with_embedded
from tests.conftest import require
from tests.support import SAMPLES, run_mdtool

YAML = """\
# my guest: <not> & "escaped" ]]> ünïcode
mdtool: machine/1

machine: {type: pc-q35-7.2, arch: x86_64}   # a comment
buses:
  pcie.0:
    type: PCIE
    devices:
    - {id: a, driver: e1000, address: '03.0'}
---
{"mdtool": "pins/1",
 "a": {"rombar": 1}}
"""
PLAIN = "<domain type='qemu'>\n  <name>g</name>\n  <uuid>x</uuid>\n  <os/>\n</domain>\n"


def back(xml: str) -> str | None:
    return embedded_in(xml.encode(), "guest.xml")


@pytest.mark.parametrize(
    "xml",
    [
        PLAIN,
        PLAIN.replace("<os/>", "<metadata/>\n  <os/>"),
        PLAIN.replace("<os/>", "<metadata></metadata>\n  <os/>"),
        PLAIN.replace("<os/>", "<metadata>\n    <a:b xmlns:a='u'>keep</a:b>\n  </metadata>\n  <os/>"),
        PLAIN.replace("\n", "").replace("  ", ""),
        "<!-- ü -->" + PLAIN.replace("<name>g", "<!-- ünïcode before -->\n  <name>gü"),
    ],
)
def test_in_and_out_again(xml: str) -> None:
    assert back(xml) is None
    inside = with_embedded(xml, YAML)
    assert back(inside) == YAML
    assert "keep" not in xml or "<a:b xmlns:a='u'>keep</a:b>" in inside
    assert with_embedded(inside, YAML) == inside, "embedding again changes nothing"
    changed = YAML.replace("03.0", "04.0")
    assert back(with_embedded(inside, changed)) == changed
    out = with_embedded(inside, None)
    assert back(out) is None
    assert "".join(out.split()).replace("<metadata></metadata>", "") == "".join(xml.split()).replace(
        "<metadata></metadata>", ""
    ).replace("<metadata/>", "")


def test_only_the_lines_of_the_description_are_touched() -> None:
    before, after = PLAIN.splitlines(), with_embedded(PLAIN, YAML).splitlines()
    assert [line for line in after if line in before] == before
    assert after[3] == "  <metadata>"


def test_what_is_no_guest_or_cannot_be_said() -> None:
    with pytest.raises(InputError, match="is not a guest"):
        with_embedded("<network/>", YAML)
    with pytest.raises(InputError, match="cannot hold the character"):
        with_embedded(PLAIN, YAML + "\x01")
    twice = with_embedded(PLAIN, YAML).replace("<metadata>", "<metadata><m:machine xmlns:m='urn:mdtool:machine:1'/>")
    with pytest.raises(InputError, match="two descriptions"):
        back(twice)


def test_the_command(tmp_path: Path) -> None:
    guest, description = tmp_path / "guest.xml", tmp_path / "guest.yaml"
    original = (SAMPLES / "web01" / "guest.xml").read_text()
    guest.write_text(original)
    description.write_text(YAML)
    assert run_mdtool("extract", guest).returncode == 2
    assert run_mdtool("embed", guest, description).returncode == 0
    assert embedded(guest) == YAML
    assert run_mdtool("extract", guest).stdout == YAML
    assert run_mdtool("extract", guest, "-o", tmp_path / "out.yaml").returncode == 0
    assert (tmp_path / "out.yaml").read_text() == YAML
    assert run_mdtool("embed", "--remove", guest).returncode == 0
    assert embedded(guest) is None
    description.write_text("mdtool: machine/1\n")
    done = run_mdtool("embed", guest, description)
    assert (done.returncode, "missing key" in done.stderr) == (2, True), "a broken description is not embedded"


@pytest.fixture
def virsh(libvirt: str) -> str:
    return require("virsh")


def test_libvirt_keeps_it(virsh: str, tmp_path: Path) -> None:
    """Through define, dumpxml and define again; and embed and extract by the domain's name."""
    name = f"mdtool-{uuid.uuid4().hex[:12]}"
    guest, description = tmp_path / "guest.xml", tmp_path / "guest.yaml"
    xml = (
        f"<domain type='qemu'><name>{name}</name><memory>65536</memory>"
        "<os><type arch='x86_64' machine='pc-q35-7.2'>hvm</type></os></domain>"
    )
    description.write_text(YAML)

    def dumped() -> str:
        done = subprocess.run([virsh, "-q", "dumpxml", "--inactive", name], capture_output=True, text=True, check=True)
        return done.stdout

    def defined(text: str) -> None:
        guest.write_text(text)
        subprocess.run([virsh, "-q", "define", str(guest)], check=True, capture_output=True)

    try:
        defined(with_embedded(xml, YAML))
        assert back(dumped()) == YAML
        defined(dumped())
        assert back(dumped()) == YAML
        changed = YAML.replace("03.0", "04.0")
        description.write_text(changed)
        assert run_mdtool("embed", f"libvirt:{name}", description).returncode == 0
        assert run_mdtool("extract", f"libvirt:{name}").stdout == changed
        assert run_mdtool("embed", "--remove", f"libvirt:{name}").returncode == 0
        assert run_mdtool("extract", f"libvirt:{name}").returncode == 2
    finally:
        subprocess.run([virsh, "-q", "undefine", name], capture_output=True)
