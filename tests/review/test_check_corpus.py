"""The verdict of ``mdtool check`` is QEMU's own: every edit of the corpus is tried on a real QEMU."""

from __future__ import annotations

import pytest

from mdtool.qemu.introspect import knowledge
from mdtool.review.check import checked
from tests.review.corpus import GROUPS, refusal


@pytest.mark.parametrize("group", GROUPS)
def test_the_verdict_is_qemus(qemu: str, group: str) -> None:
    known = knowledge(qemu)
    if not known.version.startswith("7.2."):
        pytest.skip("the corpus was measured on QEMU 7.2")
    different = []
    edits = list(GROUPS[group]())
    for edit in edits:
        theirs = refusal(qemu, edit)
        ours = checked(edit.document(), known).errors
        if bool(theirs) != bool(ours):
            different.append(
                f"{edit.says}: QEMU: {theirs or 'takes it'}; mdtool: {'; '.join(map(str, ours)) or 'takes it'}"
            )
    assert not different, f"{len(different)} of {len(edits)}:\n" + "\n".join(different)


def test_the_corpus_has_enough_of_both() -> None:
    assert sum(len(list(group())) for group in GROUPS.values()) > 350
