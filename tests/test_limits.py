"""Files that are too large, too deep or in another character set: a clear error at its place, soon and in little memory."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdtool import cli, limits
from mdtool.errors import InputError, MdtoolError
from mdtool.guest.devices import guest_from_bytes
from mdtool.guest.xml import element_from_bytes, utf8_from_xml
from mdtool.machine.document import document_from_text
from mdtool.machine.yaml import composed
from mdtool.review.embed import embedded_in, with_embedded
from tests.conftest import require
from tests.support_waiting import PATIENCE

HEAD = "mdtool: machine/1\nmachine: {type: pc-q35-7.2}\n"
TREE = "buses:\n  pcie.0: {type: PCIE, devices: [{id: net0, driver: e1000, address: '02.0'}]}\n"
PINS = '---\n{"mdtool": "pins/1",\n "net0": {"a": %s}}\n'
XML = "<domain type='qemu'><name>web</name><os><type arch='x86_64' machine='q35'>hvm</type></os>%s</domain>"


def property_of(value: str) -> str:
    return HEAD + TREE.replace("address: '02.0'", f"address: '02.0', properties: {{a: {value}}}")


def buses(depth: int) -> str:
    inner = "[]"
    for number in range(depth):
        inner = f"[{{driver: pcie-root-port, id: x{number}, buses: {{x{number}: {{type: PCIE, devices: {inner}}}}}}}]"
    return HEAD + f"buses: {{pcie.0: {{type: PCIE, devices: {inner}}}}}\n"


DESCRIPTIONS = {
    "brackets": (lambda: property_of("[" * 100_000), "limit-depth"),
    "braces": (lambda: property_of("{a: " * 100_000), "limit-depth"),
    "sequences in each other": (lambda: "- " * 100_000 + "a\n", "limit-depth"),
    "keys in each other": (lambda: HEAD + "? " * 100_000 + "a\n", "limit-depth"),
    "indentation": (lambda: HEAD + "".join(" " * n + "a:\n" for n in range(1_500)), "limit-depth"),
    "buses": (lambda: buses(150), "limit-depth"),
    "buses, read by the slow parser": (
        lambda: buses(150).replace("PCIE", "PCIE, host: 52:54:00:00:00:01", 1),
        "limit-depth",
    ),
    "an alias that contains itself": (lambda: HEAD + TREE.replace("buses:\n", "buses: &all\n  loop: *all\n"), "yaml-alias"),
    "aliases that grow": (
        lambda: property_of("[&a0 [x], " + ", ".join(f"&a{n + 1} [{', '.join([f'*a{n}'] * 10)}]" for n in range(9)) + "]"),
        "yaml-alias",
    ),
    "values": (lambda: property_of("[" + "1," * 500_000 + "]"), "limit-values"),
    "bytes": (lambda: HEAD + TREE + "# " + "x" * limits.MAX_BYTES, "limit-size"),
    "digits": (lambda: property_of("9" * 5_000), "limit-number"),
    "an address": (
        lambda: HEAD + "buses: {ide.0: {type: IDE, devices: [{driver: ide-hd, address: '" + "9" * 5_000 + "'}]}}\n",
        "limit-number",
    ),
    "hexadecimal digits": (lambda: property_of("0x" + "f" * 5_000), "limit-number"),
    "an exponent": (lambda: property_of("1.0e999"), "limit-number"),
    "half a character": (lambda: property_of('"\\ud800"'), "limit-text"),
    "no character": (lambda: property_of('"\\U99999999"'), "yaml-syntax"),
    "no character at all": (lambda: property_of('"\\U00110000"'), "yaml-syntax"),
    "NUL": (lambda: property_of('"a\\0b"'), "limit-text"),
    "pins: digits": (lambda: HEAD + TREE + PINS % ("9" * 5_000), "limit-number"),
    "pins: an exponent": (lambda: HEAD + TREE + PINS % "1e999", "limit-number"),
    "pins: no number": (lambda: HEAD + TREE + PINS % "NaN", "limit-number"),
    "pins: depth": (lambda: HEAD + TREE + PINS % ("[" * 100_000 + "]" * 100_000), "limit-depth"),
    "pins: half a character": (lambda: HEAD + TREE + PINS % '"\\ud800"', "limit-number"),
    "pins: NUL": (lambda: HEAD + TREE + PINS % '"\\u0000"', "limit-number"),
}
GUESTS = {
    "elements in each other": (lambda: XML % ("<a>" * 100_000 + "</a>" * 100_000), "xml-depth"),
    "elements": (lambda: XML % ("<a/>" * 500_000), "limit-values"),
    "attributes": (lambda: XML % f"<a {' '.join(f'a{n}=%r' % '1' for n in range(100_000))}/>", "limit-values"),
    "bytes": (lambda: XML % f"<description>{'x' * limits.MAX_BYTES}</description>", "limit-size"),
    "entities": (lambda: "<!DOCTYPE domain [<!ENTITY a 'a'>]>" + XML % "&a;", "xml-dtd"),
}
#: of CPU time, for a machine that is ten times slower than one where each takes two at most; what grows too fast takes minutes
SECONDS = 20
MEASURED = """
import re, sys, time
from mdtool import cli
start = time.process_time()
status = cli.main(["check" if sys.argv[1].endswith(".yaml") else "extract", sys.argv[1]])
seconds = time.process_time() - start
# Not getrusage's, which begins with the memory of the process that started this one.
print(seconds, int(re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())[1]) // 1024)
sys.exit(status)
"""


@pytest.mark.parametrize(
    ("name", "text", "rule"),
    [(name + ".yaml", *row) for name, row in DESCRIPTIONS.items()]
    + [(name + ".xml", *row) for name, row in GUESTS.items()],
    ids=lambda value: value if isinstance(value, str) and "." in value else "",
)
def test_a_hostile_file_gets_an_error_and_no_more(name: str, text: Callable[[], str], rule: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_text(text())
    done = subprocess.run([sys.executable, "-c", MEASURED, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-500:]
    *said, measured = (done.stdout + done.stderr).splitlines() if name.endswith(".yaml") else [done.stderr, done.stdout]
    assert f"[{rule}]" in "".join(said), "".join(said)[:500]
    assert str(path) in "".join(said)
    assert max(map(len, "".join(said).splitlines())) < 600
    seconds, megabytes = map(float, measured.split())
    assert seconds < SECONDS and megabytes < 200


def test_what_is_within_the_limits_is_read() -> None:
    document_from_text(buses(limits.MAX_BUSES_DEEP), "guest.yaml")
    document_from_text(property_of('[&a x, *a, 1.0e9, 18446744073709551615, "\\u00e9"]'), "guest.yaml")
    document_from_text(HEAD + TREE + PINS % '["\\ud83d\\ude00", 18446744073709551615, 1e10]', "guest.yaml")


@given(st.integers(0, 260), st.sampled_from(["[%s]", "{a: %s}", "[[%s], 1]"]))
def test_depth_is_counted_right(depth: int, form: str) -> None:
    value, deep = "1", 0
    for _ in range(depth):
        value = form % value
        deep += 2 if form.startswith("[[") else 1
    if deep > limits.MAX_COLLECTIONS_DEEP:
        with pytest.raises(InputError, match="nested deeper"):
            composed(value, "a.yaml")
    else:
        composed(value, "a.yaml")


def test_brackets_in_a_text_hide_no_depth() -> None:
    """A quoted text with a thousand closing brackets before, and one with opening ones beside, what is too deep."""
    deep = "[" * (limits.MAX_COLLECTIONS_DEEP + 1) + "]" * (limits.MAX_COLLECTIONS_DEEP + 1)
    for before in ("]" * 1000, "}" * 1000, "]["):
        with pytest.raises(InputError, match="nested deeper"):
            composed(f'{{a: "{before}", b: {deep}}}', "a.yaml")
    composed(f'{{a: "{"[" * 1000}", b: 1}}', "a.yaml")


# --- character sets ----------------------------------------------------------------------------------------------

TITLE = "<title>%s</title>"


@pytest.mark.parametrize(
    "charset", ["iso-8859-1", "ISO-8859-15", "windows-1252", "utf-16", "utf-8", "us-ascii", "gbk", "big5"]
)
def test_xml_in_other_character_sets(charset: str, tmp_path: Path) -> None:
    title = {"gbk": "\u4f60\u597d", "big5": "\u4f60\u597d", "us-ascii": "cafe"}.get(charset, "caf\u00e9")
    text = f"<?xml version='1.0' encoding='{charset}'?>\n" + XML % (TITLE % title)
    data = text.encode(charset)
    assert element_from_bytes(data, "guest.xml").get("title") == title
    assert guest_from_bytes(data, "guest.xml").name == "web"
    note = f"# caf\u00e9 {title}\n{HEAD}{TREE}"
    path = tmp_path / "guest.xml"
    path.write_bytes(data)
    (tmp_path / "guest.yaml").write_text(note)
    assert cli.main(["embed", str(path), str(tmp_path / "guest.yaml")]) == 0
    after = path.read_bytes()
    assert ElementTree.fromstring(after).findtext("title") == title  # by any XML reader
    assert embedded_in(after, "guest.xml") == note
    assert cli.main(["embed", str(path), "--remove"]) == 0
    assert ElementTree.fromstring(path.read_bytes()).findtext("title") == title


@pytest.mark.parametrize("charset", ["utf-7", "cp037", "rot13", "unicode_escape", "no-such", "utf-32", "hex"])
def test_xml_in_a_character_set_that_nobody_reads_is_an_error(charset: str) -> None:
    data = (f"<?xml version='1.0' encoding='{charset}'?>\n" + XML % "").encode()
    with pytest.raises(InputError, match=r"guest.xml:\d") as caught:
        element_from_bytes(data, "guest.xml")
    assert caught.value.rule in ("xml-encoding", "xml-syntax")


def test_bytes_that_are_not_of_the_declared_set_have_a_place() -> None:
    data = b"<?xml version='1.0' encoding='gbk'?>\n<domain>\n <name>\xff</name></domain>"
    with pytest.raises(InputError, match=r"^guest.xml:3:8: error: not gbk"):
        element_from_bytes(data, "guest.xml")


@given(st.binary(max_size=60), st.sampled_from(["utf-8", "utf-16", "iso-8859-1", "gbk", "utf-7", "x"]))
def test_any_bytes_are_xml_or_an_error(body: bytes, charset: str) -> None:
    data = f"<?xml version='1.0' encoding='{charset}'?>\n<domain>".encode() + body + b"</domain>"
    try:
        element_from_bytes(data, "guest.xml")
        once = utf8_from_xml(data, "guest.xml")
    except MdtoolError:
        return
    assert utf8_from_xml(once, "guest.xml") == once
    assert with_embedded(data, None) == once.decode()


# --- two writers -------------------------------------------------------------------------------------------------


def waits(pid: int) -> bool:
    return any(row.split()[1] == "->" and str(pid) in row.split() for row in Path("/proc/locks").read_text().splitlines())


@pytest.mark.parametrize("options", [[], ["--write-xml", "guest.xml"], ["--write-xml", "other.xml"]], ids=" ".join)
def test_reconcile_reads_what_it_rewrites_under_the_lock(options: list[str], tmp_path: Path) -> None:
    require("qemu-system-x86_64")
    path, yaml = tmp_path / "guest.xml", tmp_path / "guest.yaml"
    xml = XML % "<memory unit='MiB'>64</memory><devices><emulator>/usr/bin/qemu-system-x86_64</emulator></devices>"
    path.write_text(xml)
    for words in (["reconcile", str(path), str(yaml)], ["embed", str(path), str(yaml)]):
        assert cli.main(words) == 0
    path.write_text(path.read_text().replace(">64<", ">128<"))
    lock = os.open(path, os.O_RDONLY)
    fcntl.flock(lock, fcntl.LOCK_EX)
    command = [sys.executable, "-m", "mdtool", "reconcile", "guest.xml", *options]
    child = subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        while not waits(child.pid):
            assert child.poll() is None, child.communicate()[0]
            time.sleep(0.01)
        other = tmp_path / "new"
        other.write_text(path.read_text().replace("</name>", "</name><title>the other writer</title>"))
        os.replace(other, path)
        os.close(lock)
        said, _ = child.communicate(timeout=PATIENCE)
    finally:
        child.kill()
    assert child.returncode == 0, said
    assert "the other writer" in path.read_text()
    assert embedded_in(path.read_bytes(), "guest.xml") is not None


def test_new_files_of_one_folder_are_locked_together(tmp_path: Path) -> None:
    from mdtool.files import locked

    with locked(tmp_path / "a", tmp_path / "b", tmp_path / "./a"):
        (tmp_path / "a").write_text("")
    with locked(tmp_path / "a", tmp_path / "b"):
        pass
