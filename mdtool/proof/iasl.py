"""ACPI code as people read it: the lines of the disassembled tables that differ, where iasl is installed."""

from __future__ import annotations

import difflib
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from mdtool.errors import MdtoolError

SECONDS = 60.0


def asl_changes(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[str]:
    """A unified diff of each table that differs, by ``Fingerprint.aml``; MdtoolError where there is no iasl."""
    for name in {**old, **new}:
        before, after = old.get(name, b""), new.get(name, b"")
        if before != after:
            yield from difflib.unified_diff(_asl(before), _asl(after), f"{name} before", f"{name} now", n=2, lineterm="")


def _asl(table: bytes) -> list[str]:
    """The source of a table without iasl's own remarks, which have a date in them; none for a table that is not there."""
    if not table:
        return []
    iasl = shutil.which("iasl") or shutil.which("iasl", path="/usr/sbin:/sbin:/usr/bin")
    if iasl is None:
        raise MdtoolError("ACPI code is disassembled by iasl, which is not installed", remedy="install acpica-tools")
    with tempfile.TemporaryDirectory(prefix="mdtool-") as folder:
        (Path(folder) / "table.dat").write_bytes(table)
        done = subprocess.run(
            [iasl, "-d", "table.dat"],
            cwd=folder,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=SECONDS,
            check=False,
        )
        source = Path(folder) / "table.dsl"
        if not source.exists():
            said = next((line for line in (done.stderr + done.stdout).splitlines() if "rror" in line), "no output")
            raise MdtoolError(f"iasl: {said.strip()}")
        lines = source.read_text(errors="replace").splitlines()
    start = next((number for number, line in enumerate(lines) if line.startswith("DefinitionBlock")), 0)
    return lines[start:]
