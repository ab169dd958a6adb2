"""What can go wrong, and where.

    MdtoolError            anything that is reported to a user in place of a traceback; exit status 2
      InputError           a file that mdtool read: guest XML, machine description, options
      MonitorError         the QMP monitor: not there, taken, silent, garbage
      QemuError            QEMU itself: refused a device, died, hangs
      ConflictError        two facts that contradict each other, between which only a person can decide
      Errors               several of the above, sorted by position

One error prints as

    guest.xml:31:5: error: watchdog: unknown model 'ib701'; expected one of i6300esb, ib700 [driver-known]
      remedy, on a line of its own
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from mdtool.records import NamedTuple, dataclass, field

#: takes a sentence that a user should read, and goes on
Warned = Callable[[str], None]


class Position(NamedTuple):
    """A place in a file: ``file`` as the user named it, ``line`` and ``column`` counted from 1."""

    file: str
    line: int
    column: int = 1

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"


class MdtoolError(Exception):
    """One fault: what, where (``at``, None where there is no place), what was expected, what to do (``remedy``)."""

    severity = "error"

    def __init__(
        self,
        what: str,
        *,
        at: Position | None = None,
        expected: str | None = None,
        remedy: str | None = None,
        rule: str | None = None,
    ) -> None:
        super().__init__(what)
        self.what = what
        self.at = at
        self.expected = expected
        self.remedy = remedy
        self.rule = rule

    def __str__(self) -> str:
        return line_of(self)


def line_of(found: Any) -> str:
    """An error or a finding: ``file:line:column: error: what; expected this [rule]``, and the remedy on its own line.

    What has several lines (QEMU's words, a value with line breaks) makes none that could be another error, or a command to
    who reads the log (``::error`` of a forge).

    >>> line_of(MdtoolError("no such bus", at=Position("a.yaml", 2, 3), rule="bus"))
    'a.yaml:2:3: error: no such bus [bus]'
    """
    where = f"{found.at}: " if found.at else ""
    expected = f"; expected {found.expected}" if found.expected else ""
    rule = f" [{found.rule}]" if found.rule else ""
    text = f"{where}{found.severity}: {found.what}{expected}{rule}".replace("\n", "\n  | ")
    remedy = f"{found.remedy or ''}".replace("\n", "\n  | ")
    return f"{text}\n  {remedy}" if remedy else text


class InputError(MdtoolError):
    """A file that mdtool read says something that it must not say."""


class MonitorError(MdtoolError):
    """The QMP monitor is not there, is taken by another client, is silent, or speaks garbage."""


class QemuError(MdtoolError):
    """QEMU refused something, died, or hangs; ``what`` holds its own words."""


class ConflictError(MdtoolError):
    """Two places say different things and only a person can decide."""


class Warn(MdtoolError):
    """Not an error until ``--strict``: something was understood and deliberately left out."""

    severity = "warning"


class InternalError(MdtoolError):
    """A fault of mdtool's own, in one line."""


def unexpected(error: BaseException) -> InternalError:
    """An exception that no code foresaw, as an error: what it is, where it came from, and what to do about it.

    The traceback goes to stderr where MDTOOL_TRACEBACK is set.
    """
    if os.environ.get("MDTOOL_TRACEBACK"):
        import traceback  # only where something is wrong

        traceback.print_exception(error, file=sys.stderr)
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f" ({os.path.basename(trace.tb_frame.f_code.co_filename)}:{trace.tb_lineno})" if trace is not None else ""
    text = " ".join(f"{error}".split())[:200]
    what = f"mdtool failed: {type(error).__name__}{place}{': ' if text else ''}{text}"
    remedy = "please report it, with the command and its files; MDTOOL_TRACEBACK=1 shows more"
    return InternalError(f"{what}; {remedy}", rule="internal")


def as_error(error: Exception) -> MdtoolError:
    """Any exception as an error for a user: its own, the system's (a full disk), an unexpected one."""
    if isinstance(error, MdtoolError):
        return error
    if isinstance(error, OSError):
        return MdtoolError(f"{error.filename or 'output'}: {error.strerror}")
    return unexpected(error)


class Errors(MdtoolError):
    """Several errors at once, in the order of their positions; ``errors`` is never empty."""

    def __init__(self, errors: Iterable[MdtoolError]) -> None:
        self.errors = sorted(errors, key=_place)
        super().__init__(self.errors[0].what, at=self.errors[0].at)

    def __str__(self) -> str:
        return "\n".join(str(error) for error in self.errors)


def _place(error: MdtoolError) -> tuple[str, int, int]:
    return (error.at.file, error.at.line, error.at.column) if error.at else ("", 0, 0)


@dataclass(slots=True)
class Report:
    """Collects what a reader finds, so that a user sees all of it at once and not the first.

    ``with report.step():`` collects one MdtoolError and goes on; ``report.done()`` raises what was collected.
    """

    errors: list[MdtoolError] = field(default_factory=list)
    warnings: list[Warn] = field(default_factory=list)

    def error(self, error: MdtoolError) -> None:
        if isinstance(error, Errors):
            self.errors.extend(error.errors)
        else:
            self.errors.append(error)

    def warn(self, what: str, *, at: Position | None = None, **more: str | None) -> None:
        """Collect a warning; ``more`` is ``expected``, ``remedy`` and ``rule``."""
        self.warnings.append(Warn(what, at=at, **more))

    @contextmanager
    def step(self) -> Iterator[None]:
        try:
            yield
        except MdtoolError as error:
            self.error(error)

    def done(self, *, strict: bool = False) -> None:
        """Raise InputError (or Errors) where something was collected; with ``strict`` warnings count too."""
        found: list[MdtoolError] = list(self.errors)
        if strict:
            found += [InputError(w.what, at=w.at, remedy=w.remedy, rule=w.rule) for w in self.warnings]
        if len(found) == 1:
            raise found[0]
        if found:
            raise Errors(found)


def choices(names: Iterable[str]) -> str:
    """``'one of a, b, c'``, for ``expected=``; sorted, and cut where there are very many."""
    listed = sorted(names)
    if len(listed) == 1:
        return listed[0]
    return "one of " + ", ".join(listed) if len(listed) <= 40 else f"one of {', '.join(listed[:40])}, ..."
