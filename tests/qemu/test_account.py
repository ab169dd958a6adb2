"""``--user``: the rights of that user, as QEMU's own ``-runas`` gives them, and none of mdtool's."""

from __future__ import annotations

import os
import pwd
import subprocess
from pathlib import Path

import pytest

from mdtool.errors import QemuError
from mdtool.qemu.account import Account, account
from mdtool.qemu.process import QemuProcess
from tests.support_dump import binary_of

ROOT = os.geteuid() == 0


def rights(pid: int) -> dict[str, list[str]]:
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines())
    return {name: sorted(set(rows[name].split())) for name in ("Uid", "Gid", "Groups", "CapEff", "CapPrm")}


@pytest.fixture
def plain(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    for folder in (tmp_path, tmp_path.parent):  # a user who is not root comes through
        folder.chmod(0o711)
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    return [binary_of("x86_64"), "-nodefaults", "-no-user-config", "-display", "none", "-M", "none"]


@pytest.mark.skipif(not ROOT, reason="only root can run QEMU as somebody else")
def test_as_with_runas(plain: list[str], tmp_path: Path) -> None:
    name = "nobody"
    usage = subprocess.run([plain[0], "-help"], capture_output=True, text=True, check=True).stdout
    words = ["-runas", name] if "-runas" in usage else ["-run-with", f"user={name}"]  # since QEMU 10
    with QemuProcess([*plain, *words]) as runas:
        right = rights(runas.pid)
    with QemuProcess(plain, user=account(name)) as ours:
        assert rights(ours.pid) == right
    number = str(pwd.getpwnam(name).pw_uid)
    with QemuProcess(plain, user=account(number)) as by_number:
        assert rights(by_number.pid) == right


@pytest.mark.skipif(not ROOT, reason="only root can run QEMU as somebody else")
@pytest.mark.parametrize("groups", [(54321,), (54321, 54322)])
def test_every_group_of_the_user_and_no_other(groups: tuple[int, ...], plain: list[str]) -> None:
    with QemuProcess(plain, user=Account("somebody", 54320, 54321, groups)) as qemu:
        have = rights(qemu.pid)
        assert qemu.directory is not None
        assert (qemu.directory.stat().st_uid, qemu.directory.stat().st_gid) == (54320, 54321)
    assert have["Uid"] == ["54320"] and have["Gid"] == ["54321"]
    assert have["Groups"] == [str(group) for group in groups]
    assert set(have["CapEff"] + have["CapPrm"]) == {"0" * 16}


@pytest.mark.parametrize("name", ["nosuchuser", "", "12345678", "99999999999999999999", "-1", "1:2:3"])
def test_who_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(QemuError, match="there is no such user"):
        account(name)


@pytest.mark.parametrize(("mine", "refused"), [(65534, False), (1234, True)])
def test_who_is_not_root_becomes_nobody_else(mine: int, refused: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: mine)
    if refused:
        with pytest.raises(QemuError, match="only root"):
            account("65534:65534")
    else:
        assert account("65534:65534").uid == mine
