"""Command lines from the wild: those of the corpus that begin with a star; `make corpus` tries all of them."""

from __future__ import annotations

import pytest

from tests.corpus import CORPUS, lines_of, outcome

STARRED = {name.lstrip("*"): text for name, text in lines_of(CORPUS).items() if name.startswith("*")}


@pytest.mark.parametrize("name", STARRED)
def test_a_command_line_is_imported_whole(name: str) -> None:
    """The import, rehearsed, is the original by what QEMU says of both; verify is clean; both dumps are the same."""
    one = outcome(name, STARRED[name])
    if one.status in ("skipped", "refused"):  # no such QEMU here, or one that takes none of it any more
        pytest.skip(one.said[-1])
    assert (one.status, one.said) == ("same", [])
