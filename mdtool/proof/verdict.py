"""What an audit comes to: one verdict a guest, and what differs grouped over all guests by its cause."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from mdtool.compare import ADDRESS, FIRMWARE, IDENTITY, PCI, PROPERTY
from mdtool.proof.audit import Audit, ChangeGroup, what_differs
from mdtool.proof.differences import ViewChange
from mdtool.records import dataclass

TEXT = "text"  # which build of a firmware or ROM it is: versions, dates, hashes
#: what ``--fail-on`` names, the worst first; each includes what is before it
LEVELS = (IDENTITY, ADDRESS, PCI, PROPERTY, FIRMWARE, TEXT)

SAME, SAME_BUT_TEXT, DIFFERS, GONE = "same", "same but for firmware text and ROM builds", "differs", "machine type is gone"

#: SMBIOS fields that say which build of the firmware or of QEMU wrote the table
_BUILD = frozenset({"version", "release date", "date", "bios version", "vendor", "release"})


def level(finding: ChangeGroup) -> str:
    """The severity of a finding, where only the build of a firmware differs TEXT.

    >>> level(ChangeGroup((ViewChange("pci", "01.0", "vga", "rom content", "1f", "2e", "firmware"),)))
    'text'
    """
    return TEXT if all(map(_is_text, finding.changes)) else finding.severity


def _is_text(change: ViewChange) -> bool:
    is_rom = change.field == "rom content" or (change.section == "fw_cfg" and change.subject.startswith("genroms/"))
    if is_rom or change.section == "firmware":
        return True
    return change.section == "smbios" and change.field.lower() in _BUILD


def worst(audit: Audit) -> str | None:
    """The worst level of an audit; IDENTITY where the machine cannot move, or not back; None where nothing differs."""
    if not audit.type.known or _stuck(audit):
        return IDENTITY
    return min(map(level, audit.findings), key=LEVELS.index, default=None)


def verdict(audit: Audit) -> str:
    """``same``, ``same but for firmware text and ROM builds``, ``differs: pci, property``, ``machine type is gone``."""
    if not audit.type.known:
        return GONE
    levels = {level(finding) for finding in audit.findings}
    if stuck := _stuck(audit):
        return f"{DIFFERS}: {stuck}" + (f", {_listed(levels)}" if levels else "")
    if not levels:
        return SAME
    return SAME_BUT_TEXT if levels == {TEXT} else f"{DIFFERS}: {_listed(levels)}"


def _stuck(audit: Audit) -> str:
    """Which way a state does not go; "" where it goes both, or was not tried."""
    for loaded, words in ((audit.forward, "its state does not load"), (audit.backward, "its state does not load back")):
        if loaded is not None and not loaded.ok:
            return words
    return ""


def _listed(levels: Iterable[str]) -> str:
    return ", ".join(sorted(levels, key=LEVELS.index))


def fails(audit: Audit, at: str | None) -> bool:
    """Whether an audit is a failure with ``--fail-on at``; without it, where anything differs or a state does not load."""
    if at is None:
        return not audit.clean
    found = worst(audit)
    return found is not None and LEVELS.index(found) <= LEVELS.index(at)


@dataclass(frozen=True, slots=True)
class Cause:
    """What differs in the same way at some guests; ``guests`` are their names and ``finding`` is the first one's."""

    finding: ChangeGroup
    level: str
    guests: tuple[str, ...]

    def data(self) -> dict[str, Any]:
        return {"level": self.level, "guests": list(self.guests), "finding": self.finding.data()}


def causes(audits: Mapping[str, Audit]) -> list[Cause]:
    """Everything that differs, once each, the worst first, with the guests that have it."""
    groups: dict[tuple[object, ...], list[tuple[str, ChangeGroup]]] = {}
    for name, audit in audits.items():
        for finding in audit.findings:
            groups.setdefault(what_differs(finding.changes[0]), []).append((name, finding))
    found = []
    for group in groups.values():
        best = max((finding for _, finding in group), key=lambda finding: len(finding.fixes))
        found.append(Cause(best, level(best), tuple(name for name, _ in group)))
    return sorted(found, key=lambda cause: (LEVELS.index(cause.level), -len(cause.guests)))
