"""The parsers that hostile text is tried on, each with good inputs that it is put into."""

from __future__ import annotations

import json
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TESTS = Path(__file__).resolve().parent


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
        "[Unit]\nDescription=web01\n[Service]\nUser=qemu\nExecStartPre=/bin/true\nExecStart=-/usr/bin/qemu-system-x86_64 -m 64 \\\n"
        "  -name web01,process=100%% -device e1000,mac=52:54:00:00:00:01 -serial unix:/run/a,server=on,wait=off\nRestart=always\n[Install]\nWantedBy=a\n",
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


def read_rehearsed(text: str) -> None:
    """The same with placeholders for all that is the host's: no word that a script has becomes a path."""
    from mdtool.commandline.option import words_from_options
    from mdtool.commandline.placeholder.hostside import HostSide
    from mdtool.commandline.placeholder.options import without_host
    from mdtool.commandline.resolved import options_from_command
    from mdtool.commandline.script import command_from_script
    from mdtool.commandline.sections import sections_from_options
    from mdtool.errors import Report

    options = options_from_command(command_from_script(text, "start.sh", Report()), Report())
    with tempfile.TemporaryDirectory() as folder:
        words_from_options(without_host(options, HostSide(Path(folder), "x86_64")))
        assert all(Path(folder) in path.parents for path in Path(folder).rglob("*"))
    sections_from_options(options, lambda _: None)


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


def read_merged(text: str) -> None:
    """A hostile side of a merge: its text is in the result or among the conflicts, never lost with a crash."""
    from mdtool.review.merge3 import merged_text

    good = small_description()
    text = text.encode(errors="replace").decode()  # a file with half a character is none in UTF-8
    merged_text(*((good, good, text) if len(text) % 2 else (text, good.replace("256", "512"), text)))


def read_embedded(text: str) -> None:
    from mdtool.review.embed import embedded_in, with_embedded

    data = text.encode(errors="surrogatepass")
    embedded_in(data, "guest.xml")
    again = with_embedded(data, "a: ]]> <b/>\n", "guest.xml")
    assert embedded_in(again.encode(), "guest.xml") == "a: ]]> <b/>\n"


def with_descriptions() -> list[str]:
    from mdtool.review.embed import with_embedded

    guest = (small_case() / "guest.xml").read_text()
    return [guest, with_embedded(guest, small_description())]


def read_edited(text: str) -> None:
    """A description that is being typed, as the language server reads it, the cursor in its middle."""
    from mdtool.integrations.lsp.analysis import Source, paired
    from mdtool.integrations.lsp.completion import completions, xml_completions
    from mdtool.integrations.lsp.cursor import cursor_at

    guest = (small_case() / "guest.xml").read_text()
    pair = paired(Source("guest.yaml", text), Source("guest.xml", guest))
    rows = text.split("\n")
    completions(pair, pair.tree, cursor_at(text, len(rows) // 2, len(rows[len(rows) // 2]) // 2))
    xml_completions(pair, text, len(text) // 2)


def read_instance(text: str) -> None:
    from mdtool.integrations.hooks import kubevirt

    kubevirt(text, (small_case() / "guest.xml").read_text(), None)


def instances() -> list[str]:
    from mdtool.integrations.hooks import ANNOTATION

    metadata = {"name": "web01", "namespace": "prod", "annotations": {ANNOTATION: hints()[0], "a": "b"}}
    return [json.dumps({"metadata": metadata}), json.dumps({"metadata": {"name": "web01"}})]


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
    "rehearsed": Parser(read_rehearsed, scripts, _IN_WORDS),
    "merge": Parser(read_merged, lambda: [small_description()], _IN_YAML, _in_yaml),
    "embed": Parser(read_embedded, with_descriptions, _IN_XML, _in_xml),
    "editor": Parser(read_edited, lambda: [small_description()], _IN_YAML, _in_yaml),
    "instance": Parser(read_instance, instances, _IN_WORDS, lambda raw: json.dumps(raw)[1:-1]),
    "config": Parser(read_config, configs, _IN_WORDS),
    "qtree": Parser(read_qtree, trees, _IN_WORDS),
    "monitors": Parser(read_monitors, monitors, _IN_WORDS),
    "answer": Parser(read_answer, answers, _IN_WORDS),
    "hints": Parser(read_hints, hints, _IN_WORDS),
    "fingerprint": Parser(read_fingerprint, fingerprints, _IN_WORDS),
    "refusal": Parser(read_refusal, refusals, _IN_WORDS),
}
