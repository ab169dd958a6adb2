"""Questions in phases: what can be asked at once is asked at once.

A task is a generator that yields a list of questions, gets the list of their answers, and returns what it found out.
Tasks that need nothing of each other go ``together``: their first questions are one phase, their second ones the next.
So the number of round trips is that of the longest task, however many devices there are.
"""

from __future__ import annotations

from collections.abc import Generator
from typing import Any, TypeVar

from mdtool.qemu.session import Answer, Question, Refused, Session

T = TypeVar("T")
Task = Generator[list[Question], list[Answer], T]


def asked(session: Session, task: Task[T]) -> T:
    """What a task returns; a phase without questions costs nothing."""
    try:
        questions = next(task)
        while True:
            questions = task.send(session.ask(questions))
    except StopIteration as end:
        found: T = end.value
        return found


def together(*tasks: Task[Any]) -> Task[list[Any]]:
    """Several tasks in lockstep, as one; returns what each returned."""
    found: list[Any] = [None] * len(tasks)
    answers: dict[int, Any] = dict.fromkeys(range(len(tasks)))
    while answers:
        questions: dict[int, list[Question]] = {}
        for number, answer in answers.items():
            try:
                questions[number] = tasks[number].send(answer)
            except StopIteration as end:
                found[number] = end.value
        flat = iter((yield [question for some in questions.values() for question in some]) if questions else ())
        answers = {number: [next(flat) for _ in some] for number, some in questions.items()}
    return found


def answered(answer: Answer) -> Any:
    """An answer that has to be there; raises Refused."""
    if isinstance(answer, Refused):
        raise answer
    return answer


def or_none(answer: Answer) -> Any:
    """None where this QEMU or this machine has no answer."""
    return None if isinstance(answer, Refused) else answer
