"""The firmware that a proof looks at: found by its hash, put in place of empty flash, or named as not looked at."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
from support import run_mdtool

from mdtool.commandline.option import options_from_words
from mdtool.errors import QemuError
from mdtool.machine.tree import Tree
from mdtool.proof.fingerprint import Fingerprint
from mdtool.proof.firmware import (
    FirmwareImage,
    image_from_hash,
    is_empty,
    why_missing,
    with_flash,
    without_firmware,
    words_with_image,
)
from mdtool.proof.probe import probed
from mdtool.proof.standalone import argv_from_description

NULL = json.dumps({"driver": "null-co", "node-name": "pflash0", "size": 4096, "read-only": True})
VARS = json.dumps({"driver": "null-co", "node-name": "pflash1", "size": 4096})
WORDS = ["qemu", "-machine", "q35,pflash0=pflash0,pflash1=pflash1", "-blockdev", NULL, "-blockdev", VARS]


def image(share: Path) -> str:
    """A folder as distributions have it; the hash of the image in it."""
    folder = share / "OVMF"
    folder.mkdir(parents=True)
    (folder / "OVMF_CODE_4M.secboot.fd").write_bytes(b"code")
    (folder / "OVMF_VARS_4M.fd").write_bytes(b"vars")
    return hashlib.sha256(b"code").hexdigest()


def test_an_image_is_found_by_its_hash(tmp_path: Path) -> None:
    known = image(tmp_path)
    found = image_from_hash({"kind": "pflash", "sha256": known}, tmp_path)
    assert found == FirmwareImage(
        "pflash", str(tmp_path / "OVMF/OVMF_CODE_4M.secboot.fd"), str(tmp_path / "OVMF/OVMF_VARS_4M.fd")
    )
    assert image_from_hash({"kind": "pflash", "sha256": "0" * 64}, tmp_path) is None
    assert image_from_hash({"kind": "bios"}, tmp_path) is None
    assert "0" * 12 in why_missing({"kind": "bios", "sha256": "0" * 64}) and "bios" in why_missing({"kind": "bios"})


def test_it_takes_the_place_of_empty_flash() -> None:
    assert is_empty(WORDS) and not is_empty(["qemu", "-machine", "q35"])
    made = words_with_image(WORDS, FirmwareImage("pflash", "/code", "/vars"))
    banks = [json.loads(word) for word in made if word.startswith("{")]
    assert [(one["node-name"], one["file"]["filename"], one["read-only"]) for one in banks] == [
        ("pflash0", "/code", True),
        ("pflash1", "/vars", True),
    ]
    assert not is_empty(made)
    assert words_with_image(WORDS, FirmwareImage("pflash", "/code"))[-1] == VARS  # no variables are known: empty ones
    assert words_with_image(["qemu"], FirmwareImage("bios", "/b")) == ["qemu", "-bios", "/b"]


def test_a_drive_s_flash_too() -> None:
    options = options_from_words(["-drive", "if=pflash,unit=0,driver=null-co,size=4096,read-zeroes=on,readonly=on"])
    (made,) = with_flash(options, {"pflash0": "/a,b"})
    assert made.bag == {
        "if": "pflash", "unit": "0", "driver": "raw", "readonly": "on",
        "file.driver": "file", "file.filename": "/a,b", "file.locking": "off",
    }  # fmt: skip


def test_what_stood_in_its_place_is_left_out() -> None:
    seen = Fingerprint("7.2", "pc-q35-7.2", "x86_64", facts={"firmware": {"a": {"sha256": "0"}}, "cpu": {}})
    found = without_firmware(seen, "firmware: none")
    assert (dict(found.facts), found.unread) == ({"cpu": {}}, ("firmware: none",))


def test_a_description_with_flash_has_flash() -> None:
    """virt has another ACPI device with firmware than without: also where the image is not on this host."""
    tree = Tree(machine={"type": "virt-7.2", "arch": "aarch64"}, firmware={"kind": "pflash", "sha256": "0" * 64})
    made = argv_from_description(tree, binary="qemu-system-aarch64")
    assert is_empty(made.argv) and "firmware" in made.unread
    assert not argv_from_description(Tree(machine=tree.machine), binary="qemu-system-aarch64").unread


@pytest.mark.parametrize(("version", "wants"), [("7.2.22", False), ("11.1.3", True)])
def test_a_board_s_own_sound_has_a_back_end_where_qemu_wants_one(version: str, wants: bool, tmp_path: Path) -> None:
    tree = Tree(machine={"type": "vexpress-a9", "arch": "arm"})
    binary = program_that(tmp_path, f"echo QEMU emulator version {version}")
    assert ("audiodev=audio0" in argv_from_description(tree, binary=binary).argv) is wants


def test_why_qemu_does_not_start_is_no_deprecation(tmp_path: Path) -> None:
    binary = program_that(
        tmp_path, "echo 'audio: audiodev default parameter is deprecated, please specify' >&2; echo No >&2"
    )
    with pytest.raises(QemuError, match=r"does not start: No$"), probed([binary, "-M", "none"]):
        pass


def program_that(folder: Path, does: str) -> str:
    file = folder / "qemu"
    file.write_text(f"#!/bin/sh\n{does}\n")
    file.chmod(0o755)
    return str(file)


@pytest.mark.parametrize("kind", ["pflash", "bios"])
def test_seabios_is_not_told_of_another_firmware(kind: str, tmp_path: Path, qemu: str) -> None:
    plain, own = tmp_path / "plain.yaml", tmp_path / "own.yaml"
    text = "mdtool: machine/1\nguest: {name: a}\nmachine: {type: pc-q35-7.2, arch: x86_64}\nbuses: {}\n"
    plain.write_text(text)
    own.write_text(text.replace("buses", f"firmware: {{kind: {kind}, sha256: '{'1' * 64}'}}\nbuses"))
    done = [run_mdtool("fingerprint", path) for path in (plain, own)]
    assert [one.returncode for one in done] == [0, 0], done[1].stderr
    assert "firmware below" in done[0].stdout
    assert "firmware below" not in done[1].stdout and "not read: firmware" in done[1].stderr
