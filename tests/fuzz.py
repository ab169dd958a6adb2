"""Hostile text for every parser: each input is read, or an error of ours, soon; nothing else may happen.

    python tests/fuzz.py                      all parsers, until ctrl-C, with a count of inputs for each
    python tests/fuzz.py --count 100000       that many inputs for each
    python tests/fuzz.py --seconds 60 xml     so long, for some
    python tests/fuzz.py --seed 7             another sequence

What fails is shown with the parser, the seed and the input that does it, and the exit status is 1.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import resource
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent
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
)  # fmt: skip


@dataclass(frozen=True)
class Parser:
    """``read`` takes a text and may raise MdtoolError only; ``seeds`` are good inputs; ``slot`` finds what a writer chose."""

    read: Callable[[str], object]
    seeds: Callable[[], list[str]]
    slot: str
    quote: Callable[[str], str] = str


# --- the parsers -------------------------------------------------------------------------------------------------


def guests() -> list[str]:
    return [path.read_text() for path in sorted(TESTS.glob("cases/*/guest.xml")) if "<domain" in path.read_text()]


def descriptions() -> list[str]:
    found = [path.read_text() for path in sorted(TESTS.glob("cases/*/guest.yaml"))]
    return [text for text in found if "mdtool: machine/1" in text] + [text for text in found if "\n---\n" in text]


@cache
def small_case() -> Path:
    """The folder of the smallest good case with a description."""
    found = [path.parent for path in TESTS.glob("cases/*/guest.yaml") if not (path.parent / "error.txt").exists()]
    return min(found, key=lambda folder: ((folder / "guest.yaml").stat().st_size, folder))


def small_description() -> str:
    return (small_case() / "guest.yaml").read_text()


def scripts() -> list[str]:
    return [
        "#!/bin/sh\nA=5\nexec qemu-system-x86_64 -M pc-q35-7.2,accel=tcg -m 512 -smp 2,cores=2 -name web01 \\\n"
        "  -device pcie-root-port,id=p1,chassis=1,bus=pcie.0,addr=02.0 -drive file=a.img,if=none,id=d0,format=raw \\\n"
        "  -device virtio-blk-pci,drive=d0,bus=p1 -netdev user,id=n0,hostfwd=tcp::22-:22 -device e1000,netdev=n0,mac=52:54:00:00:00:01\n",
        'ARGS=(-m 64 -device "virtio-rng-pci,addr=0x5")\nfor i in 1 2; do ARGS+=(-device e1000,id=n$i); done\nqemu-system-x86_64 "${ARGS[@]}"\n',
        "qemu-system-x86_64 -blockdev '{\"driver\": \"raw\", \"node-name\": \"d\", \"file\": {\"driver\": \"file\", \"filename\": \"x\"}}' "
        "-object memory-backend-ram,id=m0,size=64M -numa node,memdev=m0 -smbios type=1,serial=a -fw_cfg name=opt/a,string=b "
        "-readconfig /dev/stdin -set device.n0.mac=52:54:00:00:00:02 <<EOF\n[device \"n0\"]\n  driver = \"e1000\"\nEOF\n",
    ]  # fmt: skip


def configs() -> list[str]:
    return [
        '[machine]\n  type = "pc"\n\n[device "net0"]\n  driver = "e1000"\n  addr = "0x3"\n# a note\n[memory]\n  size = "64M"\n',
        '[blockdev "d0"]\n  driver = "null-co"\n[chardev "c0"]\n  backend = "socket"\n  path = "/run/a"\n[smbios]\n  type = "1"\n',
    ]


def trees() -> list[str]:
    return [
        'bus: main-system-bus\n  type System\n  dev: q35-pcihost, id ""\n    MCFG = 2952790016 (0xb0000000)\n    x-config = true\n'
        '    bus: pcie.0\n      type PCIE\n      dev: e1000, id "net0"\n        mac = "52:54:00:00:00:01"\n        addr = 02.0\n'
        "        class Ethernet controller, addr 00:02.0, pci id 8086:100e (sub 1af4:1100)\n        bar 0: mem at 0x0 [0x1ffff]\n",
    ]


def monitors() -> list[str]:
    return [
        "qemu-system-x86_64\n-qmp\nunix:/run/a.qmp,server=on,wait=off\n-qmp\ntcp:localhost:4444,server\n-name\nguest=web01",
        "-chardev\nsocket,id=m,host=h,port=7,server=on\n-mon\nchardev=m,mode=control\n-chardev\n"
        '{"id": "c", "backend": {"type": "socket"}}',
    ]


def answers() -> list[str]:
    return [
        '{"return": {"qemu": {"major": 7, "minor": 2, "micro": 22}, "package": ""}}',
        '{"error": {"class": "A", "desc": "b"}}',
    ]


def read_guest(text: str) -> None:
    from mdtool.errors import Report
    from mdtool.guest.devices import guest_from_bytes, wanted_from_guest
    from mdtool.guest.platform import sections_from_guest

    guest = guest_from_bytes(text.encode(errors="surrogatepass"), "guest.xml")
    report = Report()
    wanted_from_guest(guest, report)
    sections_from_guest(guest, report)
    report.done()


def read_whole(text: str) -> None:
    """A guest with its new description, what is printed of it and what QEMU is given: nothing of it is obeyed."""
    from mdtool.guest.devices import guest_from_bytes
    from mdtool.launch.prepare import prepared, wanted_by
    from mdtool.launch.script import script_from_prepared
    from mdtool.machine.document import document_from_text
    from mdtool.machine.writer import yaml_from_tree
    from mdtool.reconcile import reconcile
    from mdtool.review.plan import text_from_plan
    from mdtool.review.textconv import lines

    guest = guest_from_bytes(text.encode(errors="surrogatepass"), "guest.xml")
    result = reconcile(guest, None)
    yaml = yaml_from_tree(result.tree)
    again = document_from_text(yaml, "guest.yaml").tree
    assert yaml_from_tree(again) == yaml, "the description does not say what was written"
    assert not reconcile(guest, again).plan, "the second reconcile changes something"
    shown = text_from_plan(result.plan).split("\n")
    assert len(shown) <= len(result.plan.steps) + 1, "a value makes lines of a plan"
    for line in (*shown, *lines(result.tree)):
        assert not re.search(r"[\0-\x08\x0a-\x1f\x7f-\x9f]", line), f"a terminal obeys {line!r}"
    for via in ("file", "options"):
        made = prepared(guest, result.tree, wanted_by(guest, result.tree), via=via)
        for word in made.words():
            word.encode()
            assert "\0" not in word
        script_from_prepared(made)


def read_description(text: str) -> None:
    from mdtool.machine.document import document_from_text
    from mdtool.machine.writer import yaml_from_tree
    from mdtool.review.check import checked
    from mdtool.review.names import names
    from mdtool.review.textconv import lines

    document = document_from_text(text, "guest.yaml")
    for line in lines(document.tree):
        assert not re.search(r"[\0-\x08\x0a-\x1f\x7f-\x9f]", line), f"a terminal obeys {line!r}"
    names(document.tree)
    checked(document)
    yaml_from_tree(document.tree).encode()


def read_described(text: str) -> None:
    """A hostile description beside a good guest."""
    from mdtool.guest.devices import guest_from_bytes
    from mdtool.machine.document import document_from_text
    from mdtool.reconcile import reconcile

    reconcile(
        guest_from_bytes((small_case() / "guest.xml").read_bytes(), "guest.xml"),
        document_from_text(text, "guest.yaml").tree,
    )


def read_script(text: str) -> None:
    from mdtool.commandline.resolved import options_from_command
    from mdtool.commandline.script import command_from_script
    from mdtool.errors import Report

    report = Report()
    for option in options_from_command(command_from_script(text, "start.sh", report), report):
        _ = option.bag


def read_config(text: str) -> None:
    from mdtool.commandline.config import options_from_config
    from mdtool.launch.file import handover

    options = options_from_config(text, "qemu.conf")
    found = handover(options)
    again = options_from_config(found.config, "x") if found.config else []
    assert sum(len(option.bag) for option in again) <= sum(len(option.bag) for option in options), "groups were made up"


def read_qtree(text: str) -> None:
    from mdtool.qemu.qtree import buses_from_qtree
    from mdtool.qemu.read import check_is_there

    check_is_there(buses_from_qtree(text), "/machine (pc-machine)\n", "qmp")


def read_monitors(text: str) -> None:
    from mdtool.qemu.session import monitors_from_arguments

    list(monitors_from_arguments(text.split("\n")))


def read_answer(text: str) -> None:
    from mdtool.qemu.session import _Libvirt, _version

    virsh = _Libvirt.__new__(_Libvirt)
    virsh._name = "web01"
    _version(virsh._answer("query-version", text.encode(errors="surrogatepass")))


def read_hints(text: str) -> None:
    from mdtool.launch.hints import tree_from_hints

    with tempfile.NamedTemporaryFile("wb") as file:
        file.write(text.encode(errors="surrogatepass"))
        file.flush()
        tree_from_hints(file.name)


@cache
def hints() -> list[str]:
    from mdtool.launch.hints import hints_from_tree
    from mdtool.machine.document import document_from_text

    return [hints_from_tree(document_from_text(small_description(), "guest.yaml").tree)]


def read_fingerprint(text: str) -> None:
    from mdtool.proof.fingerprint import fingerprint_from_json

    fingerprint_from_json(text)


def fingerprints() -> list[str]:
    from mdtool.proof.fingerprint import FORMAT

    head = {"mdtool": FORMAT, "qemu": "7.2.22", "machine": "pc-q35-7.2", "arch": "x86_64", "pci": [], "unread": []}
    return [json.dumps({**head, "facts": {"cpu": {"1.eax": "0"}}, "aml": {"DSDT": "eJwDAAAAAAE="}})]


def read_refusal(text: str) -> None:
    from mdtool.errors import Position
    from mdtool.qemu.refusals import error_from_words

    str(error_from_words(text, {"net0": Position("guest.xml", 1)}, {"/run/mdtool/x/qemu.conf": '[device "net0"]\n'}))


def refusals() -> list[str]:
    return [
        'qemu-system-x86_64: -device {"driver":"e1000","id":"net0"}: Bus \'x\' not found\n',
        "2026-01-01T00:00:00.000Z qemu-system-x86_64:/run/mdtool/x/qemu.conf:1: Property 'a.b' not found\n",
    ]


_IN_XML = r"(?<=')[^'<>]*(?=')|(?<=\")[^\"<>]*(?=\")|(?<=>)[^<>]+(?=</)"
_IN_YAML = r"'[^'\n]*'|\"[^\"\n]*\"|[^\s:{},\[\]'\"]+"
_IN_WORDS = r"[^\s,={}:'\"]+"


def _in_xml(text: str) -> str:
    return text.translate(
        {ord("&"): "&amp;", ord("<"): "&lt;", ord("'"): "&#39;", ord('"'): "&#34;", 10: "&#10;", 13: "&#13;"}
    )


def _in_yaml(text: str) -> str:
    return '"' + "".join(one if one.isalnum() and one.isascii() else f"\\U{ord(one):08x}" for one in text) + '"'


PARSERS = {
    "xml": Parser(read_guest, guests, _IN_XML, _in_xml),
    "guest": Parser(read_whole, guests, _IN_XML, _in_xml),
    "yaml": Parser(read_description, descriptions, _IN_YAML, _in_yaml),
    "reconcile": Parser(read_described, lambda: [small_description()], _IN_YAML, _in_yaml),
    "script": Parser(read_script, scripts, _IN_WORDS),
    "config": Parser(read_config, configs, _IN_WORDS),
    "qtree": Parser(read_qtree, trees, _IN_WORDS),
    "monitors": Parser(read_monitors, monitors, _IN_WORDS),
    "answer": Parser(read_answer, answers, _IN_WORDS),
    "hints": Parser(read_hints, hints, _IN_WORDS),
    "fingerprint": Parser(read_fingerprint, fingerprints, _IN_WORDS),
    "refusal": Parser(read_refusal, refusals, _IN_WORDS),
}


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
    text = chance.choice(seeds)
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
    """Nothing of the user's cache, and no QEMU asked for its version for every input."""
    from mdtool.launch import prepare

    resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))  # what takes more is a MemoryError, and so a fault
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="mdtool-fuzz-")
    prepare.version_of = cache(prepare.version_of)


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
