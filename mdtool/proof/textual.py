"""What differs between two fingerprints as they are kept in git: one line a device, compared word by word.

The text form has hashes where values are long, so that it says which device and which field; ``--json`` says the rest.
"""

from __future__ import annotations

from collections.abc import Iterator

from mdtool.text import pattern

_WORD = pattern(r'[^\s="]+=(?:"[^"]*"|[^"]\S*)?|\S+')


def text_changes(old: str, new: str) -> Iterator[str]:
    """The lines that differ, each by the words that do; a line is known again by what stands before its colon.

    >>> list(text_changes("cpu cpu: cpus=2 level=13", "cpu cpu: cpus=3 level=13"))
    ['~ cpu cpu -cpus=2 +cpus=3']
    """
    before, after = (dict(map(_keyed, text.splitlines())) for text in (old, new))
    for key in {**before, **after}:
        if key not in after:
            yield f"- {key} {before[key]}"
        elif key not in before:
            yield f"+ {key} {after[key]}"
        elif before[key] != after[key]:
            was, now = _WORD.findall(before[key]), _WORD.findall(after[key])
            gone = [f"-{word}" for word in was if word not in now]
            came = [f"+{word}" for word in now if word not in was]
            yield " ".join([f"~ {key}", *(gone + came or ["in another order"])])


def _keyed(line: str) -> tuple[str, str]:
    """What a line is about, and what it says: a function's path and id, another's name up to the colon."""
    if line.startswith(("pci ", "machine ", "unread ")):
        head, _, said = line.partition(" ")
        path, _, rest = said.partition(" ")
        if path == "bus":  # "bus 128: 00.0" is one path
            more = rest.split(" ", 2)
            path, rest = " ".join([path, *more[:2]]), more[2]
        return (f"{head} {path}", rest.replace(";", "")) if head == "pci" else (head, said)
    head, _, said = line.partition(": ")
    return head, said
