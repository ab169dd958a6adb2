"""QEMU's command line: its words, each with its place, and what surrounds it."""

from __future__ import annotations

from collections.abc import Mapping

from mdtool.errors import InputError, Position
from mdtool.records import dataclass, field
from mdtool.text import pattern


@dataclass(frozen=True, slots=True)
class Word:
    """A word of a command line, unquoted, with its place."""

    text: str
    position: Position


@dataclass(frozen=True)
class Command:
    """QEMU's command line: ``words``, the binary first, and what surrounds it.

    ``folder``       what relative paths start from; None if only a run can decide it
    ``environment``  variables that are set for QEMU alone
    ``stdin``        the here-document that QEMU reads, as ``/dev/stdin`` in ``-readconfig``
    """

    words: tuple[Word, ...]
    folder: str | None = None
    environment: Mapping[str, str] = field(default_factory=dict)
    stdin: Word | None = None

    def __post_init__(self) -> None:
        """Raises InputError for what is no text: the guest XML could not hold it."""
        for word in self.words:
            if found := _UNREADABLE.search(word.text):
                what = f"a word with {found[0]!a} in it, which is not text"
                raise InputError(what, at=word.position, expected="UTF-8 without control characters", rule="script-text")


_UNREADABLE = pattern(r"[\x00-\x08\x0b\x0c\x0e-\x1f\ud800-\udfff\ufffe\uffff]")


def no_command(file: str) -> InputError:
    """The error for a text that starts no QEMU."""
    return InputError("no QEMU command line in it", at=Position(file, 1), expected="qemu-system-...", rule="script-qemu")
