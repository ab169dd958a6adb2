"""What only a vendor's QEMU has: Proxmox's ``-id`` and machine types such as ``q35+pve0``."""

from __future__ import annotations

from mdtool.commandline.script import Command, Word
from mdtool.errors import Report
from mdtool.records import replace
from mdtool.text import pattern

#: option -> whose it is; each takes an argument
_OPTIONS = {"-id": "Proxmox"}
_MACHINE = pattern(r"\+pve\d+")


def without_vendor(command: Command, report: Report) -> Command:
    """The command line as upstream's QEMU takes it; a warning for each thing that is left out, at its place."""
    kept: list[Word] = []
    words = iter(command.words)
    for word in words:
        if word.text in _OPTIONS:
            value = next(words, None)
            what = f"{word.text} {value.text if value is not None else ''}: left out, {_OPTIONS[word.text]} alone has it"
            report.warn(what, at=word.position, rule="vendor")
            continue
        if kept and kept[-1].text in ("-M", "-machine", "--machine") and (found := _MACHINE.search(word.text)):
            report.warn(f"{found[0]}: left out of the machine type, Proxmox alone has it", at=word.position, rule="vendor")
            word = replace(word, text=_MACHINE.sub("", word.text))
        kept.append(word)
    return replace(command, words=tuple(kept))
