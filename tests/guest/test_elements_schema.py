"""The rows know everything that libvirt's own RELAX NG allows under a device: the installed one's, and those on record."""

from __future__ import annotations

import pytest
from conftest import lacking
from support_paths import recorded_paths
from support_relaxng import SCHEMAS, Grammar

from mdtool.guest.elements import ROWS


@pytest.fixture(scope="module")
def allowed() -> dict[str, set[str]]:
    if not (SCHEMAS / "domain.rng").is_file():
        lacking("libvirt's schemas", "apt-get install libvirt0")
    return Grammar().devices()


def test_the_walk_finds_what_it_should(allowed: dict[str, set[str]]) -> None:
    """The walk itself: paths of attributes, of text, and deep ones."""
    assert {"@type", "driver/@queues", "serial", "source/@file", "iotune/total_bytes_sec"} <= allowed["disk"]
    assert {"mac/@address", "driver/host/@mrg_rxbuf"} <= allowed["interface"]
    assert len(allowed) >= 30


def test_every_path_of_the_installed_libvirt_is_named(allowed: dict[str, set[str]]) -> None:
    assert not unnamed(allowed)


def test_every_path_of_the_newest_libvirt_is_named() -> None:
    assert len(recorded_paths()) >= 32
    assert not unnamed(recorded_paths())


def unnamed(allowed: dict[str, set[str]]) -> set[str]:
    """What is neither mapped, host side, without difference to the guest, nor refused."""
    assert not allowed.keys() - ROWS.keys()
    return {f"<{tag}> {path}" for tag, paths in allowed.items() for path in paths if ROWS[tag].use(path) is None}
