"""A script followed as a shell would run it, without running it: up to the command line of QEMU.

Where only a run can decide which way a script goes, all ways are followed, and what they agree on is known afterwards.
"""

from __future__ import annotations

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import NoReturn

from mdtool.commandline.alternatives import Unclear, Unknown, Value
from mdtool.commandline.command import Command, no_command
from mdtool.commandline.program import Expanded, qemu_in
from mdtool.commandline.shell import ASSIGNMENT, Shell
from mdtool.commandline.state import State, merged
from mdtool.commandline.syntax import Node, Part, ShellWord, SyntaxFault, commands_from_text
from mdtool.errors import InputError, Position, Report
from mdtool.files import text_from_file
from mdtool.records import NamedTuple
from mdtool.text import pattern

RUN_IT = "write its value into the script, run it with --run, or import the running QEMU with pid:N"
#: what a command of the shell's own does: its words, and all of it
Builtin = Callable[["Flow", Sequence[ShellWord], Node], "bool | None"]


class _Left(Exception):
    """The way that was followed ends here, or goes on elsewhere: its state is kept for there."""


_ANYTHING = (Part("glob", "*", False),)
_SYSTEMS = pattern("/(proc|sys|dev|run|etc)/")
_CALLS = 20  # functions that call each other deeper than this do not end
_STEPS = 5000  # commands that are followed
_ROUNDS = 500  # of a loop


class Source(NamedTuple):
    """A text that is followed: ``lines`` is where each of them begins."""

    file: str
    text: str
    lines: Sequence[int]

    @classmethod
    def of(cls, file: str, text: str) -> Source:
        return cls(file, text, [0, *(found.end() for found in re.finditer("\n", text))])


class Flow:
    """The commands of a script in the order in which they run."""

    def __init__(self, text: str, file: str, report: Report, state: State, builtins: Mapping[str, Builtin]) -> None:
        self.source, self.report, self.builtins = Source.of(file, text), report, builtins
        self.sources: dict[int, Source] = {}  # where functions are defined
        is_bash = not re.match(r"#!\s*\S*/(env\s+)?(da|a|k|)sh\b", text)
        self.shell = Shell(file, report, state, self._printed, is_bash=is_bash)
        self.found: list[Command] = []
        self.mentions: list[tuple[int, int, str, str]] = []  # where QEMU may be started: weight, place, what, rule
        self.left = _places()
        self.locals: list[dict[str, Value | Unclear | None]] = []
        self.output: list[str] | None = None  # what a command substitution prints, while one is followed
        self.place: int | None = None  # where a text stands that is run as commands
        self.steps = self.perhaps = 0
        self.returned: bool | None = None  # the status of the last `return`
        self.ended = 0  # where the script ended last

    @property
    def state(self) -> State:
        return self.shell.state

    @state.setter
    def state(self, state: State) -> None:
        self.shell.state = state

    def command(self) -> Command:
        try:
            nodes = commands_from_text(self.source.text)
        except SyntaxFault as fault:
            what = "not a command line that can be read without running it"
            remedy = "give the plain command, run the script with --run, or import the running QEMU with pid:N"
            raise InputError(what, at=self.at(fault.at), remedy=remedy, rule="script-syntax") from None
        with suppress(_Left):
            self.run(nodes)
        if self.found:
            return self.found[0]
        if self.ended and qemu_in(nodes) is not None:
            self.mentions.append((0, self.ended, "called without arguments, the script ends here", "script-arguments"))
        if self.mentions:
            _, at, what, rule = min(self.mentions)
            raise InputError(what, at=self.at(at), remedy=RUN_IT, rule=rule)
        raise no_command(self.source.file)

    def at(self, offset: int) -> Position:
        file, text, lines = self.source
        offset = min(self.place if self.place is not None else offset, len(text))
        line = bisect_right(lines, offset)
        return Position(file, line, offset - lines[line - 1] + 1)

    # --- ways --------------------------------------------------------------------------------------------------------

    def run(self, nodes: Sequence[Node]) -> bool | None:
        """Follows commands; whether the last one succeeds, None if only a run can decide it."""
        status: bool | None = True
        for node in nodes:
            self.steps += 1
            if self.steps > _STEPS:
                raise InputError("the script does not end", at=self.at(node.at), remedy=RUN_IT, rule="script-loop")
            status = _KINDS[node.kind](self, node)
        return status

    def leave(self, where: str, node: Node) -> NoReturn:
        """Ends this way; it goes on behind the loop, the function, ... that it leaves."""
        if where not in self.left:
            raise InputError(f"which loop it is, {where} says", at=self.at(node.at), remedy=RUN_IT, rule="script-loop")
        self.left[where].append(self.state)
        raise _Left

    def ways(self, *ways: Sequence[Node], said: bool = True) -> None:
        """Follows each of the ways, one of which is gone; ``said``, whether a QEMU in one is worth a warning."""
        start, ends = self.state, list[State]()
        self.prints(None)
        self.perhaps += said
        for way in ways:
            self.state = start.copy()
            with suppress(_Left):
                self.run(way)
                ends.append(self.state)
        self.perhaps -= said
        if not ends:
            raise _Left
        self.state = merged(ends)

    def _arrive(self, *places: str, alive: bool = True) -> None:
        """Goes on where those meet that left for ``places``, and the one that came by itself where it is ``alive``."""
        states = [self.state] if alive else []
        for place in places:
            states += self.left[place]
            self.left[place] = []
        self._meet(states)

    def _meet(self, states: Sequence[State]) -> None:
        if not states:
            raise _Left
        self.state = merged(states)

    def _and(self, node: Node) -> bool | None:
        wanted = node.kind == "and"
        status = self.run(node.bodies[0])
        if status is None and wanted and self._sources_file(*node.bodies):
            status = True
        if status is None:
            self.ways(node.bodies[1], [], said=False)
            return None
        return self.run(node.bodies[1]) if status == wanted else status

    def _sources_file(self, condition: Sequence[Node], then: Sequence[Node]) -> bool:
        """``[ -f FILE ] && . FILE``, where the file is here."""
        words = then[0].words if then and then[0].kind == "simple" else ()
        file = self.file_of(words[1]) if len(words) > 1 and words[0].parts[0].text in (".", "source") else None
        return file is not None and any(self.file_of(word) == file for node in condition for word in node.words)

    def _not(self, node: Node) -> bool | None:
        status = self.run(node.bodies[0])
        return None if status is None else not status

    def _if(self, node: Node) -> bool | None:
        condition, then, other = node.bodies
        status = self.run(condition)
        if status is None and self._sources_file(condition, then):
            status = True
        if status is None:
            self.ways(then, other)
            return None
        return self.run(then if status else other)

    def _case(self, node: Node) -> bool | None:
        try:
            with self.shell.asking():
                subject = self.shell.text(node.words[0].parts)
            clauses = zip(node.patterns, node.bodies, strict=True)
            expressions = (([self.shell.pattern_of(one.parts) for one in words], body) for words, body in clauses)
            body = next((body for ways, body in expressions if any(re.match(way, subject) for way in ways)), [])
        except Unknown:
            any_other = any(one.parts == _ANYTHING for words in node.patterns for one in words)
            self.ways(*node.bodies, *([] if any_other else [[]]))
            return None
        return self.run(body)

    def _group(self, node: Node) -> bool | None:
        return self.run(node.bodies[0])

    def _apart(self, node: Node) -> bool | None:
        """What a subshell or a part of a pipeline sets is gone with it; a QEMU that it starts is not."""
        if node.kind != "shell":
            self.prints(None)
        before, left = self.state, self.left
        status = None
        for body in node.bodies:
            self.state, self.left = before.copy(), _places()
            try:
                alive, status = True, self.run(body)
            except _Left:
                alive, status = False, None
            with suppress(_Left):
                self._arrive(*self.left, alive=alive)
                before.started = self.state.started
        self.state, self.left = before, left
        return status if len(node.bodies) == 1 and node.kind == "shell" else None

    # --- loops -------------------------------------------------------------------------------------------------------

    def _for(self, node: Node) -> bool | None:
        name = self.shell.text(node.words[0].parts) if node.words[0].parts[0].kind != "sum" else ""
        if not name:
            return self._counted(node)
        try:
            values = [text for word in node.words[1:] for text in self.shell.words(word)]
        except Unknown as error:
            self.state.variables[name] = Unclear(error.of(f"${name}"))
            return self._unknown_loop(node.bodies[0])

        def rounds() -> Iterator[bool | None]:
            for value in values:
                self.shell.set(name, value)
                yield True

        return self._loop(node.bodies[0], rounds())

    def _counted(self, node: Node) -> bool | None:
        first, condition, last = ([*node.words[0].parts[0].text.split(";"), "", ""])[:3]

        def rounds() -> Iterator[bool | None]:
            self.shell.calculate(first)
            while True:
                yield self.shell.calculate(condition) if condition.strip() else True
                self.shell.calculate(last)

        return self._loop(node.bodies[0], rounds())

    def _while(self, node: Node) -> bool | None:
        condition, body = node.bodies

        def rounds() -> Iterator[bool | None]:
            while not self.state.started:
                status = self.run(condition)
                yield status if status is None or node.kind == "while" else not status

        return self._loop(body, rounds())

    def _loop(self, body: Sequence[Node], rounds: Iterator[bool | None]) -> bool | None:
        outer, breaks = self.left, list[State]()
        self.left = _inside(outer, breaks)
        alive = True
        try:
            for number, goes_on in enumerate(rounds):
                if goes_on is False:
                    break
                if goes_on is None or number > _ROUNDS:
                    self._unknown_loop(body)
                    break
                try:
                    self.run(body)
                except _Left:
                    alive = False
                self._arrive("continue", alive=alive)
                alive = True
        except _Left:
            alive = False
        finally:
            self.left = outer
        self._meet([*breaks, *([self.state] if alive else [])])
        return None

    def _unknown_loop(self, body: Sequence[Node]) -> bool | None:
        """A body that runs never, once, or more often."""
        outer = self.left
        self.left = _inside(outer, [])
        try:
            for _ in range(5):
                before, found = self.state, len(self.found)
                self.ways(body, [])
                self._arrive("break", "continue")
                if self.state.variables == before.variables or len(self.found) > found:
                    break
            for name, value in self.state.variables.items():  # which may have grown more often
                self.state.variables[name] = Unclear(value.why) if isinstance(value, Unclear) else value
        finally:
            self.left = outer
        return None

    # --- commands ----------------------------------------------------------------------------------------------------

    def _define(self, node: Node) -> bool | None:
        self.state.functions[node.words[0].parts[0].text] = node
        self.sources[id(node)] = self.source
        if (at := qemu_in(node.bodies[0])) is not None:
            self.mentions.append((1, at, "QEMU is started in a function that nothing calls here", "script-function"))
        return True

    def _sum_command(self, node: Node) -> bool | None:
        return self.shell.calculate(node.words[0].parts[0].text)

    def _simple(self, node: Node) -> bool | None:
        words, assignments = list(node.words), list[ShellWord]()
        while words and words[0].parts:
            word = self.shell.indexed(words[0])
            if word.parts[0].quoted or not ASSIGNMENT.match(word.parts[0].text):
                break
            assignments.append(word)
            words.pop(0)
        if not words:
            if not assignments:  # $(< FILE)
                self.prints(None)
            for word in assignments:
                self.assign(word)
            return None if any(part.kind == "run" for word in assignments for part in word.parts) else True
        try:
            while words and not self.expanded(words[0]):  # $SUDO, which is empty
                words.pop(0)
            head = self.expanded(words[0])[0] if words else ":"
        except Unknown as error:
            if self.either_way(words):  # $SUDO, on which nothing depends
                return self.program(assignments, words, node)
            self.mentions.append((3, words[0].start, error.what, "script-variable"))
            return self.prints(None)
        if head in self.builtins and (head != "command" or len(words) > 1):
            return self.builtins[head](self, words[1:], node)
        if self.state.functions.get(head, self) is not self:
            return self._call(head, words[1:])
        return self.program(assignments, words, node)

    def prints(self, text: str | None) -> bool | None:
        """What a command prints; None if unknown: that matters in $(...) alone."""
        if self.output is not None:
            if text is None:
                raise Unknown("what $(...) prints")
            self.output.append(text)
        return None

    def _printed(self, nodes: Sequence[Node], what: str) -> str:
        before = self.state, self.output, self.left, self.perhaps, self.locals
        output: list[str] = []
        self.state, self.output, self.left, self.locals = self.state.copy(), output, _places(), list(self.locals)
        try:
            with suppress(_Left):
                self.run(nodes)
            return "".join(output).rstrip("\n")
        except Unknown:
            raise Unknown(what) from None
        finally:
            self.state, self.output, self.left, self.perhaps, self.locals = before

    def expanded(self, word: ShellWord) -> list[str]:
        """A word's texts; warnings of it have its place."""
        with self._placed(word):
            return self.shell.words(word)

    def assign(self, word: ShellWord) -> None:
        with self._placed(word):
            self.shell.assign(word)

    @contextmanager
    def _placed(self, word: ShellWord) -> Iterator[None]:
        before = len(self.report.warnings)
        try:
            yield
        finally:
            for warning in self.report.warnings[before:]:
                warning.at = warning.at or self.at(word.start)

    def _call(self, name: str, words: Sequence[ShellWord]) -> bool | None:
        node = self.state.functions[name]
        if node is None or len(self.locals) >= _CALLS:  # which may set anything
            return self.builtins["."](self, (), Node("simple", 0))
        before, source = self.state.positional, self.source
        try:
            given: list[str] | str = [text for word in words for text in self.expanded(word)]
        except Unknown as error:
            given = error.of("$@")
        self.mentions = [one for one in self.mentions if one[:2] != (1, qemu_in(node.bodies[0]))]
        self.state.positional, self.source = given, self.sources[id(node)]
        self.locals.append({})
        other, self.shell.other_names = self.shell.other_names, dict(self.shell.other_names)
        try:
            return self._returning(node.bodies[0])
        finally:
            self.source, self.shell.other_names = source, other
            for local, value in self.locals.pop().items():
                self.state.variables.pop(local, None)
                self.state.variables |= {local: value} if value is not None else {}
            self.state.positional = before

    def run_text(self, text: str, at: int) -> bool | None:
        """A text that is run as commands: ``eval``, ``sh -c``."""
        try:
            nodes = commands_from_text(text)
        except SyntaxFault:
            what = "commands that cannot be read without running them"
            raise InputError(what, at=self.at(at), remedy=RUN_IT, rule="script-syntax") from None
        place, self.place = self.place, at if self.place is None else self.place
        try:
            return self.run(nodes)
        finally:
            self.place = place

    def run_file(self, path: str, at: int) -> bool | None:
        """A file that is sourced: its commands have its places."""
        try:
            text = text_from_file(path)
            nodes = commands_from_text(text)
        except (SyntaxFault, InputError):
            what = f"{path}, which is sourced, cannot be read without running it"
            raise InputError(what, at=self.at(at), remedy=RUN_IT, rule="script-syntax") from None
        place, self.place, mentions, ended = self.place, None, list(self.mentions), self.ended
        source, self.source, before = self.source, Source.of(path, text), self.state.variables.get("BASH_SOURCE")
        self.shell.set("BASH_SOURCE", path)
        try:
            return self._returning(nodes)
        finally:
            self.mentions, self.place, self.source = mentions, place, source
            self.ended = at if self.ended != ended else ended
            self.state.variables.pop("BASH_SOURCE")
            self.state.variables |= {"BASH_SOURCE": before} if before is not None else {}

    def _returning(self, nodes: Sequence[Node]) -> bool | None:
        """Follows commands that ``return`` leaves."""
        outer = self.left
        self.left = {**outer, "return": []}
        alive, status = True, None
        try:
            status = self.run(nodes)
        except _Left:
            alive = False
        finally:
            returned, self.left = self.left["return"], outer
        self._meet([*returned, *([self.state] if alive else [])])
        if returned:
            return self.returned if not alive and len(returned) == 1 else None
        return status

    def file_of(self, word: ShellWord) -> str | None:
        """The file of this host that a word names; none of the system's, which differ at each run."""
        try:
            texts = self.expanded(word)
        except Unknown:
            return None
        path = os.path.join(self.state.folder or "", texts[0]) if len(texts) == 1 else ""
        is_here = path.startswith("/") and "/" in texts[0] and os.path.isfile(path)
        return os.path.normpath(path) if is_here and not _SYSTEMS.match(os.path.realpath(path)) else None

    def program(self, assignments: Sequence[ShellWord], words: Sequence[ShellWord], node: Node) -> bool | None:
        """A program that is run."""
        raise NotImplementedError

    def either_way(self, words: Sequence[ShellWord]) -> Sequence[Expanded]:
        """The words of a command that only a run can tell, where they start the same machine each way; none elsewhere."""
        raise NotImplementedError

    def run_alone(self, text: str, at: int, state: State) -> bool | None:
        """Whether a QEMU is started when a text was run with variables of its own: ``sh -c``."""
        before, self.state, self.left = (self.state, self.left), state, _places()
        with suppress(_Left):
            self.run_text(text, at)
        started = None if self.left["exit"] and not self.state.started else self.state.started
        self.state, self.left = before
        return started


def _inside(outer: dict[str, list[State]], breaks: list[State]) -> dict[str, list[State]]:
    """The places of a loop's body, those of the loop around it among them."""
    around = {f"{where} 2": outer[where] for where in ("break", "continue")}
    return {**outer, **around, "break": breaks, "continue": []}


def _places() -> dict[str, list[State]]:
    """Where a way may lead to that leaves another one, and the states that do."""
    return {"exit": [], "return": [], "break": [], "continue": []}


_KINDS: Mapping[str, Callable[[Flow, Node], bool | None]] = {
    "simple": Flow._simple,
    "and": Flow._and,
    "or": Flow._and,
    "not": Flow._not,
    "if": Flow._if,
    "case": Flow._case,
    "for": Flow._for,
    "while": Flow._while,
    "until": Flow._while,
    "group": Flow._group,
    "function": Flow._define,
    "test": lambda flow, node: flow.builtins["[["](flow, node.words, node),
    "sum": Flow._sum_command,
    **dict.fromkeys(("pipe", "shell", "apart"), Flow._apart),
}
