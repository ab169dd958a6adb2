"""The cache: quicker, and never needed."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from mdtool import cache
from mdtool.cache import parser_from_grammar

OPTION = "size=1G,slots=2"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return Path(cache.cached())


def parsed() -> object:
    return parser_from_grammar("options.lark", start="value").parse(OPTION)


def test_a_user_without_a_home_gets_no_folder_in_the_working_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setattr(os, "getuid", lambda: 4_000_000_000)
    assert os.path.isabs(cache.cached("descriptions"))


def test_tables_are_kept_and_give_the_same_tree(folder: Path) -> None:
    made = parsed()
    (kept,) = folder.iterdir()
    before = kept.stat().st_mtime_ns
    assert parsed() == made
    assert [path.name for path in folder.iterdir()] == [kept.name]
    assert kept.stat().st_mtime_ns == before


def test_garbage_is_made_anew(folder: Path) -> None:
    made = parsed()
    (kept,) = folder.iterdir()
    kept.write_bytes(kept.read_bytes()[:200])
    assert parsed() == made


def test_no_folder_is_no_loss(folder: Path) -> None:
    folder.parent.joinpath("mdtool").write_text("in the way")
    assert parsed() is not None


class _Trap:
    def __reduce__(self) -> object:
        return os._exit, (77,)


@pytest.mark.parametrize("mode", [0o777, 0o775])
def test_what_others_could_have_written_is_not_read(folder: Path, mode: int) -> None:
    """A pickle runs what it likes: one in a folder that others write to is not touched."""
    parsed()
    (kept,) = folder.iterdir()
    head = kept.read_bytes().partition(b"\n")[0]
    kept.write_bytes(head + b"\n" + pickle.dumps({}) + pickle.dumps(_Trap()))
    folder.chmod(mode)
    assert parsed() is not None
