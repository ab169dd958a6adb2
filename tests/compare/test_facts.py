"""The table of docs/proof.md: every kind of fact, and where it is compared or why not; made from what is compared here."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mdtool.compare.knowledge import FACTS, XML, is_known, is_usual, same_on_the_machine
from mdtool.machine.schema import machine_schema
from mdtool.machine.tree import ARGUMENTS, MONITOR, SECTIONS
from tests.compare import test_options

PAGE = Path(__file__).resolve().parents[2] / "docs/proof.md"
START, END = "<!-- the table of facts: made by tests/compare/test_facts.py -->\n", "<!-- end of the table of facts -->\n"

SOURCES = {"monitor": MONITOR, "arguments": ARGUMENTS, "guest XML": XML}
#: kinds of fact that are no key of a section: (what, verify and diff, launch, fingerprint and audit)
OTHERS = (
    ("a device: there, driver, place on its bus", "yes", "yes", "PCI functions"),
    ("its properties, chosen and filled in", "yes", "yes", "what they change in configuration space and tables"),
    ("its strings (serial, name, model, ...), empty ones too", "yes", "yes", "no: read by commands of a driver"),
    (
        "its id, and bus names made of ids",
        "no: no guest sees a name",
        "no: no guest sees a name",
        "no: no guest sees a name",
    ),
    ("PCI class, ids, BARs, size of the ROM", "yes", "yes", "yes"),
    ("PCI bus numbers", "no: firmware gives them out", "no: firmware gives them out", "no: firmware gives them out"),
    ("contents of option ROMs", "no: the name of the file only", "no: the name of the file only", "x86"),
    ("CPU identity (family, model, stepping, caches, midr, clock)", "yes", "yes", "x86"),
    (
        "CPU flags; of `host` and `max` all; vendor, levels, physical bits, TSC",
        "yes",
        "reported: hosts differ",
        "x86",
    ),
    ("virtio features that were `auto`", "reported: hosts differ", "reported: hosts differ", "yes"),
    ("a disk's geometry that nobody chose", "yes", "reported: its size and partitions make it", "no"),
    ("a disk's capacity, what is on it", "no: the host's", "no: the host's", "no: the host's"),
    ("machine properties, also those that nobody chose", "yes", "yes", "what they change in tables"),
    (
        "hash of the firmware",
        "yes",
        "reported by verify: the host's package",
        "x86 and virt, where the image is on this host",
    ),
    ("ACPI and SMBIOS tables", "no: fingerprint reads them", "no: fingerprint reads them", "yes"),
)


def table() -> str:
    lines = ["| fact | `verify`, `diff` | `launch` | `fingerprint`, `audit` |", "|---|---|---|---|"]
    lines += [f"| {' | '.join(row)} |" for row in OTHERS]
    lines += ["", "| key of a section | reported by | like an absent key |", "|---|---|---|"]
    for fact in FACTS:
        told = ", ".join(name for name, source in SOURCES.items() if source in fact.tells) or "nobody: not compared alone"
        said = [str(value).lower() if isinstance(value, bool) else str(value) for value in fact.unset if value != ""]
        lines.append(f"| {', '.join(f'`{key}`' for key in fact.keys)} | {told} | {', '.join(f'`{one}`' for one in said)} |")
    return "\n".join(lines) + "\n\n" + test_options.table()


def test_the_page_has_the_table() -> None:
    """MDTOOL_WRITE=1 writes it."""
    text = PAGE.read_text()
    before, _, rest = text.partition(START)
    _, _, after = rest.partition(END)
    made = before + START + table() + END + after
    if os.environ.get("MDTOOL_WRITE"):
        PAGE.write_text(made)
    assert PAGE.read_text() == made


def test_every_section_has_a_row_or_a_reason() -> None:
    """objects are names of back ends, which no guest sees."""
    assert set(SECTIONS) - {key.partition(".")[0] for fact in FACTS for key in fact.keys} == {"objects"}


def test_every_row_names_a_key_of_the_schema() -> None:
    for key in [key for fact in FACTS for key in fact.keys]:
        section, _, name = key.partition(".")
        known = machine_schema()["properties"][section]
        while "$ref" in known:
            known = machine_schema()["$defs"][known["$ref"].rpartition("/")[2]]
        assert not name or not known.get("properties") or name.partition(".")[0] in known["properties"], key


@pytest.mark.parametrize(
    ("path", "sources", "known"),
    [
        ("boot.menu", {MONITOR}, True),
        ("numa.nodes[0].cpus", {MONITOR}, True),
        ("numa.distances", {MONITOR}, False),
        ("numa.distances", {MONITOR, ARGUMENTS}, True),
        ("smbios.type1.serial", {XML}, True),
        ("clock.base", {MONITOR}, False),
        ("firmware.sha256", {MONITOR, ARGUMENTS, XML}, False),
        ("nonesuch", {MONITOR, ARGUMENTS, XML}, False),
    ],
)
def test_who_knows_what(path: str, sources: set[str], known: bool) -> None:
    assert is_known(frozenset(sources), path) is known


def test_what_is_like_an_absent_key() -> None:
    assert (is_usual("nvdimm", "off"), is_usual("nvdimm", True), is_usual("smbios-entry-point-type", "32")) == (
        True,
        False,
        None,
    )
    assert (is_usual("nvdimm", True, "pseries-7.2"), is_usual("nvdimm", False, "pseries-7.2")) == (True, False)
    assert same_on_the_machine("acpi", "auto", "on") and not same_on_the_machine("acpi", "auto", "off")
