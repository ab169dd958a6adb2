"""A command that runs a program: QEMU, one that runs QEMU in the end, or another one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise

from mdtool.commandline.alternatives import Unknown, each_way
from mdtool.commandline.command import Command, Word
from mdtool.commandline.flow import RUN_IT, Flow
from mdtool.commandline.program import (
    LOOKS,
    QEMU_NAME,
    SHELLS,
    Expanded,
    asks,
    is_script,
    one_machine,
    runs_another,
    started,
)
from mdtool.commandline.shell import ASSIGNMENT
from mdtool.commandline.state import State
from mdtool.commandline.syntax import Node, ShellWord
from mdtool.commandline.table import LOST, OPTIONS
from mdtool.errors import InputError


def _is_left_out(option: str, word: ShellWord) -> bool:
    """Whether a word, and surely no more than one, is the argument of an option that nothing is made of: a log's name."""
    row = OPTIONS.get(option.lstrip("-")) if option.startswith("-") else None
    is_one = all(part.kind == "text" or part.text == "$" or (part.quoted and "@" not in part.text) for part in word.parts)
    return row is not None and row.fate == LOST and is_one


class ScriptFlow(Flow):
    """A script whose programs are looked at."""

    def program(self, assignments: Sequence[ShellWord], words: Sequence[ShellWord], node: Node) -> bool | None:
        """A program that is run: QEMU, one that runs QEMU, or another one, which changes nothing that is known."""
        given = self._given(words[:1])
        if given and (given[0].text is None or runs_another(given[0].text)):
            given += self._given(words[1:])
            if any(one.text is None for one in given):
                given = self.either_way(words) or given
        head = given[0].text or "" if given else ""
        start, wrappers, settings = started(given)
        name = (given[start].text or "").rpartition("/")[2] if start is not None else ""
        if start is not None and name in SHELLS:
            return self._script_text(given[start:], node)
        if start is not None and not asks(given[start:]):
            self.prints(None)
            for wrapper in wrappers if self.state.started is not True else ():
                what = f"{wrapper.text} before QEMU is not carried over"
                remedy = "libvirt's XML says it in <cputune>, <numatune> and <resource>"
                self.report.warn(what, at=self.at(wrapper.word.start), remedy=remedy, rule="script-wrapper")
            self._qemu(given[start:], node, {**self._environment(assignments), **settings})
        elif start is None:
            self._names_qemu(head, words)
            self.mentions += [(3, one.word.start, one.why, "script-variable") for one in given if one.text is None][:1]
        if head == "exec" and len(words) > 1:
            self.leave("exit", node)
        return self.prints(None)

    def either_way(self, words: Sequence[ShellWord]) -> list[Expanded]:
        """The words of a command that only a run can tell, where they start the same machine each way; none elsewhere."""
        try:
            ways = each_way(self.state.variables, lambda: [Expanded(t, w, "") for w in words for t in self.expanded(w)])
        except Unknown:
            return []
        given, differs = one_machine(ways)
        what = f"{differs}: whether QEMU is given it only a run can tell; the machine is the same, and it was taken"
        if differs and not any(warning.what == what for warning in self.report.warnings):
            self.report.warn(what, at=self.at(words[0].start), rule="script-condition")
        return given

    def _given(self, words: Sequence[ShellWord]) -> list[Expanded]:
        found: list[Expanded] = []
        for word in words:
            try:
                found += [Expanded(text, word, "") for text in self.expanded(word)]
            except Unknown as error:
                found.append(Expanded(None, word, error.what))
        return found

    def _environment(self, assignments: Sequence[ShellWord]) -> dict[str, str]:
        """What ``A=1 qemu`` sets for QEMU alone."""
        outer, self.state = self.state, self.state.copy()
        names = [match[1] for word in assignments if (match := ASSIGNMENT.match(word.parts[0].text))]
        for word in assignments:
            self.assign(word)
        found = {name: self.state.variables.get(name) for name in names}
        self.state = outer
        return {name: value["0"] for name, value in found.items() if isinstance(value, dict) and "0" in value}

    def _names_qemu(self, head: str, words: Sequence[ShellWord]) -> None:
        """Remembers where a program gets QEMU as an argument: the place to name if nothing else starts it."""
        for word in words[1:] if self.place is None and head not in LOOKS else ():
            if QEMU_NAME.search(self.source.text[word.start : word.end]):
                what = f"what {head or 'this'} does with QEMU only a run can tell"
                self.mentions.append((2, word.start, what, "script-wrapper"))

    def _script_text(self, given: Sequence[Expanded], node: Node) -> bool | None:
        """``sh -c TEXT``, whose variables are its own."""
        at = next((n for n, one in enumerate(given) if is_script(one)), len(given))
        texts = [one.text for one in given[at + 1 :]]
        if not texts or texts[0] is None:
            self._names_qemu(given[0].text or "", node.words)
            return self.prints(None)
        rest = [text for text in texts[2:] if text is not None]
        positional = rest if None not in texts else "$@ is set outside of the script"
        state = State({}, self.state.folder, positional, "the script around it", self.state.started)
        self.state.started = self.run_alone(texts[0], node.at, state)
        return None

    def _needed(self, why: str, word: ShellWord) -> InputError:
        """The error for a word that QEMU is given and whose value only a run can determine."""
        what = why if why.startswith("$") else f"only a run can tell {why}"
        return InputError(what, at=self.at(word.start), remedy=RUN_IT, rule="script-variable")

    def _qemu(self, given: Sequence[Expanded], node: Node, environment: Mapping[str, str]) -> None:
        at = self.at(given[0].word.start)
        if self.state.started:
            what = "another QEMU command line, which was not looked at"
            self.report.warn(what, at=at, remedy="import it from a file of its own", rule="script-qemu")
            return
        for before, one in pairwise(given):
            if one.text is None and not _is_left_out(before.text or "", one.word):
                raise self._needed(one.why, one.word)
        words = tuple(Word(one.text or "", self.at(one.word.start)) for one in given)
        stdin = None
        for document in node.stdin:
            try:
                stdin = Word(self.shell.text(document.parts), self.at(document.start))
            except Unknown as error:
                raise self._needed(error.what, document) from None
        found = Command(words, self.state.folder, environment, stdin)
        self.state.started = True
        if self.found and [word.text for word in self.found[0].words] != [word.text for word in words]:
            what = (
                f"it is this QEMU, or that of line {self.found[0].words[0].position.line}: which one, only a run can tell"
            )
            raise InputError(what, at=at, remedy=RUN_IT, rule="script-condition")
        if self.perhaps:
            what = "QEMU is started under a condition, or in a loop: taken as it stands"
            self.report.warn(what, at=at, rule="script-condition")
        self.found.append(found)
