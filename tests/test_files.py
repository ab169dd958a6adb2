"""A file that is rewritten stays what it was beside its text: owner, group, mode, ACL, attributes, names."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from mdtool.errors import MdtoolError
from mdtool.files import write_file

ACCESS, DEFAULT = "system.posix_acl_access", "system.posix_acl_default"
_UNDEFINED = 0xFFFFFFFF


def acl(mask: int) -> bytes:
    """An ACL with an entry for user 12345, as the kernel keeps it: version, then tag, permissions and id of each entry."""
    entries = ((1, 6, _UNDEFINED), (2, 6, 12345), (4, 4, _UNDEFINED), (16, mask, _UNDEFINED), (32, 0, _UNDEFINED))
    return struct.pack("<I", 2) + b"".join(struct.pack("<HHI", *entry) for entry in entries)


def given(path: Path, name: str, value: bytes) -> None:
    try:
        os.setxattr(path, name, value)
    except OSError as error:
        pytest.skip(f"this file system has no {name}: {error.strerror}")


def attributes(path: Path) -> dict[str, bytes]:
    return {name: os.getxattr(path, name) for name in os.listxattr(path) if not name.startswith("security.")}


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "guest.yaml"
    path.write_text("old")
    path.chmod(0o640)
    return path


def alone(path: Path) -> bool:
    return [one.name for one in path.parent.iterdir()] == [path.name]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
@pytest.mark.parametrize("owner", [(65534, 65534), (12345, 0), (0, 12345)])
@pytest.mark.parametrize("mode", [0o600, 0o664, 0o2640])
def test_owner_group_and_mode_stay(owner: tuple[int, int], mode: int, target: Path) -> None:
    os.chown(target, *owner)
    target.chmod(mode)
    write_file(target, "new")
    held = target.stat()
    assert (held.st_uid, held.st_gid, held.st_mode & 0o7777) == (*owner, mode)
    assert target.read_text() == "new" and alone(target)


def test_acl_and_attributes_stay(target: Path) -> None:
    given(target, "user.note", b"of the file")
    given(target, ACCESS, acl(6))
    before, mode = attributes(target), target.stat().st_mode
    write_file(target, "new")
    assert attributes(target) == before and target.stat().st_mode == mode
    assert {"user.note", ACCESS} <= before.keys()


def test_the_default_acl_of_the_folder_lets_nobody_else_in(target: Path) -> None:
    given(target.parent, DEFAULT, acl(6))
    write_file(target, "new")
    assert ACCESS not in attributes(target)
    assert target.stat().st_mode & 0o7777 == 0o640


def test_an_attribute_that_cannot_be_kept_is_refused(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    given(target, "user.note", b"of the file")

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "setxattr", refuse)
    with pytest.raises(MdtoolError, match="cannot write"):
        write_file(target, "new")
    assert target.read_text() == "old" and alone(target)


def test_a_file_with_two_names_is_left_alone(target: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.yaml"
    os.link(target, other)
    with pytest.raises(MdtoolError, match="2 names"):
        write_file(target, "new")
    assert target.read_text() == other.read_text() == "old"
    assert os.path.samefile(target, other)


def test_a_symbolic_link_goes_on_naming_the_file(target: Path, tmp_path: Path) -> None:
    link = tmp_path / "link.yaml"
    link.symlink_to(target.name)
    write_file(link, "new")
    assert link.is_symlink() and target.read_text() == "new" and target.stat().st_mode & 0o7777 == 0o640


def test_another_users_file_is_refused_by_name(target: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: target.stat().st_uid + 4321)
    with pytest.raises(MdtoolError, match=r"belongs to \w+, and only its owner or root"):
        write_file(target, "new")
    assert target.read_text() == "old" and alone(target)


def test_a_copy_that_is_kept_goes_through_no_link(target: Path, tmp_path: Path) -> None:
    from mdtool.files import write_over

    victim = tmp_path / "victim"
    victim.write_text("of somebody else\n")
    kept = Path(f"{target}~")
    for make in (kept.symlink_to, kept.hardlink_to):
        make(victim)
        before = target.read_text()
        assert write_over(target, f"{before}new\n") == str(kept)
        assert (victim.read_text(), kept.read_text()) == ("of somebody else\n", before)
        kept.unlink()
