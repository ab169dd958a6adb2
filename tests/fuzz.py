"""Hostile text for every parser: each input is read, or an error of ours, soon; nothing else may happen.

    python tests/fuzz.py                      all parsers, until ctrl-C, with a count of inputs for each
    python tests/fuzz.py --count 100000       that many inputs for each
    python tests/fuzz.py --seconds 60 xml     so long, for some
    python tests/fuzz.py --seed 7             another sequence

What fails is shown with the parser, the seed and the input that does it, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Iterator
from functools import cache

from fuzzed import PARSERS, Parser

SLOW = 2.0  # seconds of CPU time for one input

#: text that has broken a program: paths, shells, terminals, numbers, notations of QEMU, YAML, XML and mdtool
HOSTILE = (
    "", " ", ".", "..", "../../victim", "/", "a/b", "-x", "--", "~", "$(touch RAN)", "`touch RAN`", "';touch RAN;'", "a\nb",
    "a\nEOF\nb", "a\r\nb", "\t", "\x1b[2J", "\x9b31m", "\x7f", "\u202e", "\ufeff", "\u2028", "\udc80", "\0", "\ufffe", "é" * 40,
    "<fd:x>", "/dev/fd/<fd:vnc0>", "a,b", "a,,b", "a=b", 'a"b', "a'b", "a\\", "{", "}", "[", "]", "{}", "[]", "{:", "*a", "&a b",
    "!!int 5", "|", ">", "%s", "%n", "#", "? a", "- a", "---", "...", "null", "~1", "true", "off", "yes", "0", "-1", "+1", "00",
    "0x", "0xg", "0x1f", "1e9", "1.0e999", "nan", "inf", "1_000", "0b1", "0o7", "1.5", "\u00b2", "\u0663", "65536", "4294967296",
    "18446744073709551616", "9" * 60, "9" * 5000, "-" + "9" * 5000, "0x" + "f" * 5000, "a" * 5000, "10000000", "1024", "256",
    "00.0", "1f.7", "20.0", "0:0:0", "0:0", "::", "1.2.3", "fe.0.0000", "pci.0", "pcie.0", "pci.10000000", "controller/pci/two",
    "controller/pci/10000000", "interface/", "disk/sda", "#2", "@", "builtin", "hand", "6A1F0C5293D44B7E8C215E0D7B9A4F10",
    "52:54:00:00:00:01", "52:54:00", "tcp:", "unix:", "json:{", 'json:{"a":' * 50, "vda", "hda", "sda9999999", "0-9999999", "1-",
    "16G", "1E", "5%", "x.y.z", "if=none", "id=", "on", "auto", "none", "&amp;", "&#10;", "&#x9b;", "]]>", "<!--", "<a/>", "\\ud800",
    "&b;", "%b;", "<!DOCTYPE a [<!ENTITY b 'c'>]>", "<?xml version='1.1' encoding='UTF-7'?>", "<![CDATA[", "&#0;", "&#xd800;",
    "<xi:include href='/etc/passwd'/>", "<a " + "b" * 5000 + "='1'/>", "<a>" * 300, "<<: *a", "<<", "&a [*a, *a]", "!!python/object:os.system",
    "!!binary aGk=", "!!set {a}", "!!timestamp 2001-01-01", "2001-01-01", "1:30", "0.1e-999", ".inf", "=", "%YAML 9.9", "[" * 300, '{"a":' * 300,
    "${A:-b}", "${A@P}", "$((1/0))", "{1..99999999}", "{a,b}{a,b}{a,b}", "<(id)", "<<EOF", "&&", "! ", "\\\n", "*", "?", "[a-z]", "$'\\x00'",
)  # fmt: skip


# --- inputs ------------------------------------------------------------------------------------------------------


def hostile(chance: random.Random) -> str:
    """One of the list, two of them together, or a few characters of any kind."""
    kind = chance.randrange(10)
    if kind < 7:
        return chance.choice(HOSTILE)
    if kind < 9:
        return chance.choice(HOSTILE) + chance.choice(HOSTILE)
    return "".join(
        chr(chance.choice((chance.randrange(128), chance.randrange(0x3000)))) for _ in range(chance.randrange(1, 9))
    )


def damaged(chance: random.Random, parser: Parser, seeds: list[str]) -> str:
    """A good input with hostile text in one or two of its slots, or damaged as a text."""
    text = min(chance.choice(seeds), chance.choice(seeds), key=len)  # what is short is read soon
    for _ in range(chance.choice((1, 1, 1, 2, 3))):
        if chance.randrange(10) < 8:
            slots = [found.span() for found in re.finditer(parser.slot, text)]
            if not slots:
                continue
            start, end = chance.choice(slots)
            raw = hostile(chance)
            text = text[:start] + (parser.quote(raw) if chance.randrange(4) else raw) + text[end:]
        else:
            text = torn(chance, text)
    return text


def torn(chance: random.Random, text: str) -> str:
    """Lines left out, said twice or swapped; a piece cut out, or put in somewhere else."""
    rows = text.split("\n")
    one, two = chance.randrange(len(rows)), chance.randrange(len(rows))
    match chance.randrange(5):
        case 0:
            del rows[one]
        case 1:
            rows.insert(two, rows[one])
        case 2:
            rows[one], rows[two] = rows[two], rows[one]
        case 3:
            start, end = sorted((chance.randrange(len(text) + 1), chance.randrange(len(text) + 1)))
            return text[:start] + text[min(end, start + 40) :]
        case _:
            at = chance.randrange(len(text) + 1)
            return text[:at] + hostile(chance) + text[at:]
    return "\n".join(rows)


def fault(parser: Parser, text: str) -> str | None:
    """What went wrong with an input; None where it was read, or an error of ours with no line made up."""
    from mdtool.errors import Errors, MdtoolError

    start = time.process_time()
    try:
        parser.read(text)
    except MdtoolError as error:
        for one in error.errors if isinstance(error, Errors) else (error,):
            str(one)
    except Exception:
        return traceback.format_exc()
    took = time.process_time() - start
    return f"took {took:.1f} s" if took > SLOW else None


def faults(name: str, seed: int) -> Iterator[tuple[int, str, str | None]]:
    """(number, input, what went wrong) without end: the same for the same seed."""
    parser = PARSERS[name]
    seeds = parser.seeds()
    number = 0
    while True:
        text = damaged(random.Random(f"{seed} {name} {number}"), parser, seeds)
        yield number, text, fault(parser, text)
        number += 1


def alone() -> None:
    """Nothing of the user's cache, and each QEMU asked once what it is: under the limit none would start."""
    from mdtool.launch import prepare

    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mdtool-fuzz-")
    prepare.version_of = cache(prepare.version_of)
    for parser in PARSERS.values():
        for seed in parser.seeds():
            fault(parser, seed)
    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))  # what takes more is a MemoryError, and so a fault


def main() -> int:
    words = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    words.add_argument("parsers", nargs="*", help=f"of {', '.join(PARSERS)}")
    words.add_argument("--count", type=int, help="inputs for each parser")
    words.add_argument("--seconds", type=float, help="for all of them")
    words.add_argument("--seed", type=int, default=0)
    args = words.parse_args()
    alone()
    running = {name: faults(name, args.seed) for name in args.parsers or PARSERS}
    counts = dict.fromkeys(running, 0)
    kinds: dict[str, int] = {}
    start = time.monotonic()
    try:
        while any(args.count is None or count < args.count for count in counts.values()):
            if args.seconds is not None and time.monotonic() - start > args.seconds:
                break
            for name, inputs in running.items():
                if args.count is not None and counts[name] >= args.count:
                    continue
                for _ in range(100):
                    number, text, wrong = next(inputs)
                    counts[name] += 1
                    if wrong is None:
                        continue
                    kind = f"{name}: " + " ".join(
                        re.findall(r'File ".*/(\w+\.py)", line (\d+)', wrong)[-1] if "File" in wrong else [wrong]
                    )
                    kinds[kind] = kinds.get(kind, 0) + 1
                    if kinds[kind] == 1:
                        print(f"== {kind} (seed {args.seed}, input {number})\n{wrong}\n{text[:3000]!r}\n", flush=True)
    except KeyboardInterrupt:
        pass
    took = time.monotonic() - start
    for name, count in counts.items():
        bad = sum(times for kind, times in kinds.items() if kind.startswith(f"{name}: "))
        print(f"{name:12} {count:8,} inputs, {bad} faults")
    print(f"{sum(counts.values()):,} inputs in {took:.0f} s; {sum(kinds.values())} faults of {len(kinds)} kinds")
    return 1 if kinds else 0


if __name__ == "__main__":
    sys.exit(main())
