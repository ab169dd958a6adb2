"""The wire of QMP: many small commands in one write, and the messages that come back, over one socket."""

from __future__ import annotations

import json
import socket
from collections import deque
from collections.abc import Iterable, Mapping
from itertools import count
from select import POLLIN, POLLOUT, poll
from struct import pack
from time import monotonic
from typing import Any

from mdtool.limits import MAX_ANSWER

KEPT_EVENTS = 10_000  # an event storm costs memory no further than this
_PIECE = 1 << 18  # bytes that are read at once


class Client:
    """A connected monitor.

    ``socket``  the connection
    ``events``  those that came and that nobody took, oldest first

    What waits raises TimeoutError where ``deadline``, of the clock ``monotonic``, is over, EOFError where the peer closed
    the connection, ValueError, or RecursionError, where what came is not QMP, and OSError.
    """

    def __init__(self, address: str | tuple[str, int], timeout: float) -> None:
        self.events: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)
        self._ids = count()
        self._unsent = b""
        self._unread = bytearray()
        self._searched = 0  # bytes of it in which no message ends
        self.socket = _connected(address, timeout)
        self.socket.setblocking(False)
        self._poll = poll()

    def send(self, questions: Iterable[tuple[str, Mapping[str, Any] | None]]) -> list[int]:
        """Queue commands for one write; the ids of their answers, which are short: QEMU reads byte by byte."""
        ids, lines = [], []
        for (command, arguments), id in zip(questions, self._ids, strict=False):
            line = {"execute": command, "arguments": arguments, "id": id} if arguments else {"execute": command, "id": id}
            ids.append(id)
            lines.append(json.dumps(line, separators=(",", ":")))
        self._unsent += "\n".join([*lines, ""]).encode()
        return ids

    def answer(self, id: int, deadline: float) -> Any:
        """What QEMU says to the command ``id``: an object with ``return`` or ``error``."""
        answer = self.message(deadline)
        if answer.get("id") != id:
            raise ValueError("an answer without an id of ours")
        return answer

    def message(self, deadline: float) -> dict[str, Any]:
        """The next message that is no event."""
        while "event" in (message := self._next(deadline)):
            self.events.append(message)
        return message

    def wait_for_event(self, deadline: float) -> None:
        """Return as soon as there is one."""
        while not self.events:
            if "event" not in (message := self._next(deadline)):
                raise ValueError("an answer to no question")
            self.events.append(message)

    def close(self) -> None:
        self.socket.close()

    def _next(self, deadline: float) -> dict[str, Any]:
        while not (end := self._end()):
            self._searched = max(0, len(self._unread) - len(_PRETTY_END))
            if len(self._unread) > MAX_ANSWER:
                raise ValueError(f"the answer is longer than {MAX_ANSWER >> 20} MiB")
            self._transfer(deadline)
        message = json.loads(self._unread[:end])
        del self._unread[:end]
        self._searched = 0
        if not isinstance(message, dict):
            raise ValueError("a message that is no object")
        return message

    def _end(self) -> int:
        """Where the first message ends, with its line; in the form of -qmp-pretty, with the first line not indented."""
        mark = _PRETTY_END if self._unread.startswith(_PRETTY) else b"\n"
        found = self._unread.find(mark, self._searched)
        return found + len(mark) if found >= 0 else 0

    def _transfer(self, deadline: float) -> None:
        """Write and read what is possible: one of the two always is, so that no full buffer stops both ends."""
        self._poll.register(self.socket, POLLIN | POLLOUT if self._unsent else POLLIN)
        if (left := deadline - monotonic()) <= 0 or not (ready := self._poll.poll(left * 1000)):
            raise TimeoutError
        (_, what), *_ = ready
        if what & POLLOUT and self._unsent:
            self._unsent = self._unsent[self.socket.send(self._unsent) :]
        if what & ~POLLOUT:
            if not (piece := self.socket.recv(_PIECE)):
                raise EOFError
            self._unread += piece


_PRETTY = b"{\r\n"
_PRETTY_END = b"\n}\r\n"


def _connected(address: str | tuple[str, int], timeout: float) -> socket.socket:
    if not isinstance(address, str):
        return socket.create_connection(address, timeout)
    made = socket.socket(socket.AF_UNIX)
    try:
        # It waits in the kernel while others wait before it, which no socket of Python's that has a timeout does.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, pack("@ll", int(timeout), int(timeout % 1 * 1e6)))
        made.connect(address)
    except BaseException as error:
        made.close()
        raise TimeoutError if isinstance(error, BlockingIOError) else error from None
    return made
