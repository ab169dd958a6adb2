"""What a command made of a text is kept in the cache, and only what is certain comes back out of it."""

from __future__ import annotations

import marshal
import os
import sys
from pathlib import Path

import pytest

from mdtool import cache
from mdtool.machine import document
from mdtool.machine.document import document_from_file, document_from_text
from mdtool.machine.tree import Tree

SAMPLE = Path(__file__).parent / "cases/boot-order-per-device/new.yaml"


@pytest.fixture(autouse=True)
def private(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "mdtool/descriptions"


def positions(tree: Tree) -> list[object]:
    return [(place.name, place.node.position, place.bus and place.bus.position) for place in tree.places]


def test_a_description_that_is_read_again_is_the_same_with_every_position(private: Path, tmp_path: Path):
    copy = tmp_path / "copy.yaml"
    copy.write_text(SAMPLE.read_text())
    first, again = document_from_file(copy), document_from_file(copy)
    assert again == first == document_from_text(SAMPLE.read_text(), str(copy))
    assert positions(again.tree) == positions(first.tree) and len(list(private.iterdir())) == 1


def test_one_that_is_read_again_is_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    document_from_file(SAMPLE)
    monkeypatch.setattr(document, "document_from_text", lambda *_: pytest.fail("parsed again"))
    assert document_from_file(SAMPLE).tree.by_name


def test_another_text_another_version_and_a_damaged_file_are_not_known(private: Path, monkeypatch: pytest.MonkeyPatch):
    text, code = "a text", str(SAMPLE.parent)
    cache.remember("descriptions", text, [1], code)
    assert cache.known("descriptions", text, code) == [1]
    monkeypatch.setattr(cache, "crc32", lambda _: 7)
    cache.remember("descriptions", text, [2], code)
    assert cache.known("descriptions", "a tent", code) is None  # of the same length, and here of the same sum
    monkeypatch.setattr(cache, "_stamp", lambda *_: "newer")
    assert cache.known("descriptions", text, code) is None
    monkeypatch.undo()
    monkeypatch.setenv("XDG_CACHE_HOME", str(private.parent.parent))
    (file, *_) = (path for path in private.iterdir() if not path.name.startswith("00000007"))
    for damaged in (b"", file.read_bytes()[:20], marshal.dumps("other"), b"\xff" * 50):
        file.write_bytes(damaged)
        assert cache.known("descriptions", text, code) is None


def test_what_somebody_else_may_have_written_is_not_read(private: Path):
    code = str(SAMPLE.parent)
    cache.remember("descriptions", "text", [1], code)
    (file,) = private.iterdir()
    assert not private.stat().st_mode & 0o077
    file.chmod(0o666)
    assert cache.known("descriptions", "text", code) is None
    file.chmod(0o600)
    private.chmod(0o777)
    assert cache.known("descriptions", "text", code) is None


def test_the_oldest_go_when_there_are_many(private: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cache, "_MOST_TEXTS", 8)
    for number in range(9):
        cache.remember("descriptions", "x" * number, number, str(SAMPLE.parent))
        for file in private.iterdir():
            os.utime(file, (file.stat().st_mtime - 10,) * 2)
    assert cache.known("descriptions", "x" * 8, str(SAMPLE.parent)) == 8
    assert cache.known("descriptions", "", str(SAMPLE.parent)) is None and len(list(private.iterdir())) == 5
    assert sys.version in cache._stamp(str(SAMPLE.parent))
