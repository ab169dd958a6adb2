"""{a,b} and {1..3}, which bash makes several words of."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import product

from mdtool.commandline.alternatives import Unknown
from mdtool.commandline.syntax import Part
from mdtool.text import pattern

_BRACES = pattern(r"\{([^{}]*)\}")


def braced(parts: tuple[Part, ...], *, is_bash: bool = True) -> list[tuple[Part, ...]]:
    """The words that braces outside of quotes make of one; raises Unknown."""
    plain = "".join(part.text if part.kind == "text" and not part.quoted else "\0" for part in parts)
    if "{" not in plain or not re.search(r"\{.*(?:,|\.\.).*\}", plain, re.S):
        return [parts]
    if not is_bash or re.search(r"\{[^{}]*(?:[{]|\0)", plain):
        raise Unknown("what {...} stands for")
    ways: list[Sequence[Part]] = []
    for part in parts:
        pieces = _BRACES.split(part.text) if part.kind == "text" and not part.quoted else []
        if not pieces:
            ways.append([part])
        for number, piece in enumerate(pieces):
            ways.append([part._replace(text=text) for text in (_alternatives(piece) if number % 2 else [piece])])
    return list(product(*ways))


def _alternatives(text: str) -> list[str]:
    """What stands between braces.

    >>> _alternatives("1..3"), _alternatives("a,"), _alternatives("x")
    (['1', '2', '3'], ['a', ''], ['{x}'])
    """
    if found := re.fullmatch(r"(-?[1-9]\d*|0)\.\.(-?[1-9]\d*|0)", text):
        first, last = int(found[1]), int(found[2])
        step = 1 if last >= first else -1
        if abs(last - first) > 1000:
            raise Unknown("what {...} stands for")
        return [str(number) for number in range(first, last + step, step)]
    if ".." in text and "," not in text:
        raise Unknown("what {...} stands for")
    return text.split(",") if "," in text else ["{" + text + "}"]
