"""Command lines from the wild: those of the corpus that begin with a star; `make corpus` tries all of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.corpus import CORPUS, EXPLAINED, lines_of, outcome

STARRED = {name.lstrip("*"): text for name, text in lines_of(CORPUS).items() if name.startswith("*")}


@pytest.mark.parametrize("name", STARRED)
def test_a_command_line_is_imported_whole(name: str) -> None:
    """The import, rehearsed, is the original by what QEMU says of both; verify is clean; both dumps are the same."""
    one = outcome(name, STARRED[name])
    if one.status in ("skipped", "refused"):  # no such QEMU here, or one that takes none of it any more
        pytest.skip(one.said[-1])
    assert (one.status, one.said) == ("same", [])


def test_what_explains_a_difference_is_documented() -> None:
    """A warning that explains differences of the corpus stands in docs/import.md, with its reason."""
    text = (Path(__file__).parents[2] / "docs" / "import.md").read_text()
    assert [warning for warning, _ in EXPLAINED if warning not in text] == []
