"""``qemu.qmp``'s client, for many small commands at once."""

from __future__ import annotations

from itertools import count
from typing import Any

from qemu.qmp import Message, QMPClient

from mdtool.limits import MAX_ANSWER


class Client(QMPClient):
    """Sends all waiting commands in one write, so that QEMU wakes up once for them, and keeps no log of the messages: the
    library formats each message again for its log, which takes as long as all the rest.  Ids are short: QEMU reads byte
    by byte, which is most of the time of a dump.
    """

    def __init__(self) -> None:
        try:
            super().__init__("mdtool", readbuflen=MAX_ANSWER)
        except TypeError:  # qemu.qmp 0.0.3, which Debian has, knows it by another name
            super().__init__("mdtool")
            self._limit = MAX_ANSWER
        self._unsent: list[bytes] = []
        self._ids = count()

    @property
    def socket(self) -> Any:
        """The connected socket; None before and after."""
        return self._writer.get_extra_info("socket") if self._writer is not None else None

    def abort(self) -> None:
        """Close the socket without farewell: a peer that hangs would not read it."""
        if self._writer is not None:
            self._writer.transport.abort()

    def _do_send(self, msg: Message) -> None:
        self._unsent.append(bytes(msg))
        waiting: Any = getattr(self, "_outgoing", None)
        if waiting is None or waiting.empty():
            whole = b"".join(self._unsent)
            self._unsent.clear()
            assert self._writer is not None
            self._writer.write(whole)

    def _get_exec_id(self) -> str:
        return str(next(self._ids))

    def _cb_outbound(self, msg: Message) -> Message:
        return msg

    def _cb_inbound(self, msg: Message) -> Message:
        return msg
