"""What libvirt's RELAX NG allows under <devices>, as recorded from libvirt 9.0 and 12.8: tests/guest/schema-paths.txt.

python tests/support_paths.py /usr/share/libvirt/schemas ... > tests/guest/schema-paths.txt records it anew.  A disk's
backing chain repeats itself: what stands deeper than its first image is left out.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

RECORD = Path(__file__).parent / "guest" / "schema-paths.txt"
_REPEATED = ("backingStore/", "mirror/", "dataStore/")


@cache
def recorded_paths() -> dict[str, set[str]]:
    """Tag -> paths, ``driver/@queues``; the tag itself stands where an element has none."""
    found: dict[str, set[str]] = {}
    for line in RECORD.read_text().splitlines():
        tag, _, path = line.partition(" ")
        found.setdefault(tag, set()).update({path} - {""})
    return found


def recorded(folders: list[Path]) -> str:
    sys.path.insert(0, str(RECORD.parent))
    from support_relaxng import Grammar

    lines = set()
    for folder in folders:
        for tag, paths in Grammar(folder).devices().items():
            lines |= {f"{tag} {path}" for path in paths if not any(part in path for part in _REPEATED)} | {tag}
    return "".join(f"{line}\n" for line in sorted(lines))


if __name__ == "__main__":
    print(recorded([Path(name) for name in sys.argv[1:]]), end="")
