"""One monitor, talked to in order: the only place that speaks QMP.

    with session_from_source("/run/qemu/web01.qmp") as session:
        session.execute("query-status")

A source is a unix socket path, ``tcp:HOST:PORT``, ``pid:N`` (the process's own arguments say where its monitor is) or
``libvirt:NAME`` (libvirt holds the monitor and passes commands on).
"""

from __future__ import annotations

import asyncio
import errno
import json
import logging
import os
import re
import shlex
import socket
import stat
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Mapping, Sequence
from contextlib import suppress
from itertools import pairwise
from typing import Any, Protocol, TypeVar

from qemu.qmp import ConnectError, ExecuteError

from mdtool.commandline.process import arguments_of, peer_of, pid_of_libvirt, program_in, program_name
from mdtool.errors import MdtoolError, MonitorError, QemuError
from mdtool.limits import MAX_ANSWER
from mdtool.qemu.client import Client
from mdtool.qemu.virsh import Virsh, message

GREETING_TIMEOUT = 4.0  # seconds; a monitor greets at once, or its QEMU is busy with another client
COMMAND_TIMEOUT = 20.0  # seconds; the slowest command of a dump takes 0.2 s
LONGEST_WORD = 100_000  # bytes; Linux takes 128 KiB for one argument of a process
KEPT_EVENTS = 10_000  # an event storm costs memory no further than this

for _library in ("qemu.qmp", "asyncio"):  # their errors arrive as exceptions, and are reported once, in our words
    logging.getLogger(_library).addHandler(logging.NullHandler())

T = TypeVar("T")


class Refused(QemuError):
    """QEMU answered with an error; ``kind`` is its class, ``GenericError``, ``CommandNotFound``, ``DeviceNotFound``."""

    def __init__(self, what: str, kind: str, command: str) -> None:
        super().__init__(what)
        self.kind = kind
        self.command = command


#: what commands return, and the keys of it, or of each row, that are always there
FORMS: Mapping[str, tuple[Any, ...]] = {
    "query-status": (dict, "status"),
    "query-target": (dict, "arch"),
    "query-uuid": (dict,),
    "query-name": (dict,),
    "query-migrate": (dict,),
    "query-block-jobs": (list, "device", "type", "status"),
    "query-named-block-nodes": (list, "node-name"),
    "qom-list": (list, "name", "type"),
    "query-pci": (list, "bus", "devices"),
}

#: a command and its arguments
Question = tuple[str, Mapping[str, Any] | None]
#: what QEMU returned, or a Refused
Answer = Any


class _Wire(Protocol):
    version: tuple[int, int, int]
    pid: int | None

    def ask(self, questions: Sequence[Question], timeout: float) -> list[Answer]: ...
    def events(self, timeout: float) -> list[dict[str, Any]]: ...
    def close(self) -> None: ...


class Session:
    """A connection to one QEMU.

    ``source``    as the user named it
    ``version``   of QEMU, ``(7, 2, 22)``
    ``trips``     how many times something was sent and waited for
    ``commands``  how many commands that were
    ``local``     whether QEMU runs on this host, so that its files are this host's
    ``pid``       its process, where it runs here and that is known
    """

    def __init__(self, source: str, wire: _Wire, *, timeout: float = COMMAND_TIMEOUT, pid: int | None = None) -> None:
        self.source = source
        self.version = wire.version
        self.timeout = timeout
        self.trips = 0
        self.commands = 0
        self.pid = pid or wire.pid
        self.local = self.pid is not None or (isinstance(wire, _Qmp) and isinstance(wire.address, str))
        self._wire = wire

    def __enter__(self) -> Session:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def execute(self, command: str, arguments: Mapping[str, Any] | None = None, *, timeout: float | None = None) -> Any:
        """QEMU's answer.  Raises Refused where QEMU says no, MonitorError where it says nothing sensible."""
        (answer,) = self.ask([(command, arguments)], timeout=timeout)
        if isinstance(answer, Refused):
            raise answer
        kind, *keys = FORMS.get(command, (object,))
        rows = answer if kind is list else [answer]
        if not isinstance(answer, kind) or (
            keys and not all(isinstance(row, dict) and row.keys() >= {*keys} for row in rows)
        ):
            raise MonitorError(f"{self.source}: {command}: unexpected reply format")
        return answer

    def ask(self, questions: Sequence[Question], *, timeout: float | None = None) -> list[Answer]:
        """The answers to all questions, in order, a Refused where QEMU says no: one round trip, none for no question.

        ``timeout`` is how long QEMU may be silent, not how long all of it may take.  Raises MonitorError where QEMU says
        nothing sensible.
        """
        if not questions:
            return []
        self.trips += 1
        self.commands += len(questions)
        return self._wire.ask(questions, self.timeout if timeout is None else timeout)

    def hmp(self, line: str) -> str:
        """What the human monitor prints: ``session.hmp("info qtree")``, with plain line ends."""
        text = self.execute("human-monitor-command", {"command-line": line})
        return str(text).replace("\r\n", "\n")

    def events(self, timeout: float = 0.0) -> list[dict[str, Any]]:
        """Events since the last call, oldest first; waits up to ``timeout`` seconds for the first one."""
        return self._wire.events(timeout)

    def close(self) -> None:
        self._wire.close()


class _Qmp:
    """QMP over a socket: a synchronous face of ``qemu.qmp``."""

    def __init__(self, source: str, address: str | tuple[str, int], timeout: float) -> None:
        self._source = source
        self.address = address
        self._loop = asyncio.new_event_loop()
        self._client = Client()
        self._events: deque[dict[str, Any]] = deque(maxlen=KEPT_EVENTS)
        self._client.events.event_filter = self._seen  # the default listener, whose own queue has no end
        try:
            self._connect(address, timeout)
        except BaseException as error:
            self.close()
            raise _connect_error(error, source, timeout) from None
        greeting = self._client.greeting
        try:
            self.version = _version(greeting.QMP.version if greeting else {"qemu": {}})
        except MonitorError as error:
            self.close()
            raise MonitorError(f"{source}: {error.what}", remedy=error.remedy) from None
        connected = self._client.socket
        self.pid = peer_of(connected) if connected is not None and isinstance(address, str) else None

    def _connect(self, address: str | tuple[str, int], timeout: float) -> None:
        """Once more where an event came between the command and the answer of the negotiation: qemu.qmp expects none."""
        try:
            self._run(self._client.connect(address), timeout)
        except ConnectError as error:
            if not isinstance(getattr(error.exc, "exc", None), AssertionError):
                raise
            self._run(self._client.connect(address), timeout)

    def _seen(self, event: Any) -> bool:
        self._events.append(dict(event))
        return False

    def _run(self, what: Coroutine[Any, Any, T], timeout: float) -> T:
        return self._loop.run_until_complete(asyncio.wait_for(what, timeout))

    def ask(self, questions: Sequence[Question], timeout: float) -> list[Answer]:
        answered = 0  # QEMU answers in order

        async def one(question: Question) -> Answer:
            nonlocal answered
            try:
                answer = await self._client.execute(*question)
            except ExecuteError as error:
                reply: Any = error.received["error"]
                answer = Refused(f"QEMU refused {question[0]}: {reply['desc']}", reply["class"], question[0])
            answered += 1
            return answer

        async def all_answers() -> list[Answer]:
            """qemu.qmp reads while it writes, so no full socket buffer can stop both ends."""
            answers = asyncio.gather(*map(one, questions))
            before = -1
            while before < answered and not answers.done():
                before = answered
                await asyncio.wait({answers}, timeout=timeout)
            if not answers.done():
                answers.cancel()
                raise TimeoutError
            return await answers

        try:
            return self._loop.run_until_complete(all_answers())
        except TimeoutError:
            command = questions[answered][0]
            what = f"{self._source}: no answer to {command} within {timeout:g} s"
            self._client.abort()
            self.close()
            raise MonitorError(what, remedy="QEMU hangs, or its host is very busy: try again") from None
        except Exception as error:  # any error that a peer other than QEMU causes in the libraries
            command = questions[min(answered, len(questions) - 1)][0]
            raise MonitorError(f"{self._source}: {command}: {self._cause(error)}") from None

    def _cause(self, error: BaseException) -> str:
        """Why the connection ended: what the reader saw, which ``disconnect`` raises."""
        try:
            self._run(self._client.disconnect(), 1.0)
        except EOFError:
            return "QEMU closed the connection (it ended, or somebody ended it)"
        except TimeoutError:
            pass
        except ConnectionError as cause:
            return f"QEMU closed the connection ({cause.strerror or cause})"
        except Exception as cause:  # whatever the reader stumbled over
            if "chunk" in str(cause) and "limit" in str(cause):  # asyncio.LimitOverrunError
                return f"the answer is longer than {MAX_ANSWER >> 20} MiB"
            return f"what came back is not QMP ({' '.join(str(cause).split())[:200]})"
        return " ".join(str(error).split())[:200] or type(error).__name__

    def events(self, timeout: float) -> list[dict[str, Any]]:
        async def first() -> None:
            while not self._events:
                await asyncio.sleep(0.005)

        try:
            self._run(first(), max(timeout, 0.01))
        except TimeoutError:
            return []
        found = list(self._events)
        self._events.clear()
        return found

    def close(self) -> None:
        if self._loop.is_closed():
            return
        try:
            self._run(self._client.disconnect(), 1.0)
        except Exception:  # the end of the connection was reported already, or does not matter
            pass
        finally:
            for task in asyncio.all_tasks(self._loop):
                task.cancel()
            self._loop.run_until_complete(asyncio.sleep(0))
            self._loop.close()


def _connect_error(error: BaseException, source: str, timeout: float) -> BaseException:
    """What a failure to connect means, in words that help."""
    cause = getattr(error, "exc", None) or error
    if isinstance(cause, TimeoutError):
        name = _libvirt_name(source) or "NAME"
        return MonitorError(
            f"{source}: no greeting within {timeout:g} s; a monitor serves one client, and another one holds it",
            remedy=f"where libvirt runs the guest, go through libvirt: libvirt:{name} (virsh list shows the names)",
            rule="monitor-taken",
        )
    if isinstance(cause, FileNotFoundError):
        remedy = "start QEMU with -qmp unix:PATH,server=on,wait=off"
        return MonitorError(f"{source}: there is no such socket", remedy=remedy)
    if isinstance(cause, ConnectionRefusedError) or f"[Errno {errno.ECONNREFUSED}]" in str(cause):  # or all of a name's
        return MonitorError(f"{source}: nothing listens there: its QEMU has ended, or has not started yet")
    if isinstance(cause, PermissionError):
        remedy = "run mdtool as the user whose QEMU it is, or as root"
        return MonitorError(f"{source}: {cause.strerror}", remedy=remedy)
    if isinstance(cause, OSError):
        return MonitorError(f"{source}: {cause.strerror or cause}")
    if isinstance(cause, EOFError):
        return MonitorError(f"{source}: the connection was closed before a greeting came; is it a QMP monitor?")
    if isinstance(cause, Exception):  # any error that a peer other than QEMU causes in the libraries
        return MonitorError(f"{source}: {_NO_QMP}", remedy=_NAME_A_MONITOR)
    return error


_NO_QMP = "what answers there is not QMP"
_NAME_A_MONITOR = "name a monitor in mode=control (-qmp)"


def _version(answer: Any) -> tuple[int, int, int]:
    """``{"qemu": {"major": 7, "minor": 2, "micro": 22}}`` as a tuple; raises MonitorError where it has another form."""
    try:
        major, minor, micro = (int(answer["qemu"].get(name, 0)) for name in ("major", "minor", "micro"))
    except (LookupError, AttributeError, TypeError, ValueError, OverflowError):
        raise MonitorError(_NO_QMP, remedy=_NAME_A_MONITOR) from None
    return major, minor, micro


def _libvirt_name(source: str) -> str | None:
    """The guest's name in libvirt's own socket path, ``/var/lib/libvirt/qemu/domain-1-web01/monitor.sock``."""
    found = re.search(r"/domain--?\d+-([^/]+)/monitor\.sock$", source)
    return found[1] if found else None


class _Libvirt:
    """The monitor of a guest that libvirt runs, through libvirt: ``virsh qemu-monitor-command``."""

    def __init__(self, name: str, connect: str | None, timeout: float) -> None:
        self._virsh, self._name = Virsh(connect), name
        self._domain = self._virsh.named(name)
        self.pid = pid_of_libvirt(name, connect)
        self.version = _version(self.ask([("query-version", None)], max(timeout, 10.0))[0])

    def ask(self, questions: Sequence[Question], timeout: float) -> list[Answer]:
        """One virsh for all of them, which does what a string with ``;`` says; more where that string would be too long."""
        found: list[Answer] = []
        chunk: list[tuple[str, str]] = []
        for command, arguments in questions:
            text = json.dumps({"execute": command, **({"arguments": arguments} if arguments else {})})
            line = f"qemu-monitor-command --domain {shlex.quote(self._domain)} --cmd {shlex.quote(text)}"
            if chunk and sum(len(line) + 2 for _, line in chunk) + len(line) > LONGEST_WORD:
                found += self._passed_on(chunk, timeout)
                chunk = []
            chunk.append((command, line))
        return found + self._passed_on(chunk, timeout)

    def _passed_on(self, lines: list[tuple[str, str]], timeout: float) -> list[Answer]:
        what = f"libvirt:{self._name}: no answer to {lines[0][0]}"
        done = self._virsh.run("; ".join(line for _, line in lines), timeout=timeout, what=what)
        answers = [line for line in done.stdout.split(b"\n") if line.strip()]
        if done.returncode or len(answers) < len(lines):
            raise MonitorError(f"libvirt:{self._name}: {message(done)}", remedy="virsh list shows the guests that run")
        return [self._answer(*pair) for pair in zip((command for command, _ in lines), answers, strict=True)]

    def _answer(self, command: str, text: bytes) -> Answer:
        try:
            answer = json.loads(text)
            if "error" in answer:
                error = answer["error"]
                return Refused(f"QEMU refused {command}: {error.get('desc')}", error.get("class", "GenericError"), command)
            return answer["return"]
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise MonitorError(f"libvirt:{self._name}: {command}: what came back is not QMP") from None

    def events(self, timeout: float) -> list[dict[str, Any]]:
        return []  # libvirt keeps them for itself

    def close(self) -> None:
        pass


def session_from_source(source: str, *, timeout: float = GREETING_TIMEOUT, connect: str | None = None) -> Session:
    """Connect to the QEMU that ``source`` names; ``timeout`` is how long to wait for its greeting.

    ``connect`` is libvirt's URI for ``libvirt:NAME`` (``qemu+ssh://host/system``).  Raises MonitorError.
    """
    scheme, colon, rest = source.partition(":")
    opener = _SCHEMES.get(scheme) if colon else None
    return (opener or _from_path)(rest if opener else source, source, timeout, connect)


def _from_path(path: str, source: str, timeout: float, connect: str | None, *, pid: int | None = None) -> Session:
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            expected = "a QMP socket, tcp:HOST:PORT, pid:N or libvirt:NAME"
            raise MonitorError(f"{source} is not a socket", expected=expected)
    except OSError as error:
        raise _connect_error(error, source, timeout) from None
    return Session(source, _Qmp(source, path, timeout), pid=pid)


def _from_tcp(rest: str, source: str, timeout: float, connect: str | None) -> Session:
    address = _host_port(*rest.rpartition(":")[::2])
    if address is None:
        raise MonitorError(f"{source}: no port", expected="tcp:HOST:PORT")
    return Session(source, _Qmp(source, address, timeout))


def _from_libvirt(rest: str, source: str, timeout: float, connect: str | None) -> Session:
    return Session(source, _Libvirt(rest, connect, timeout))


def _from_pid(rest: str, source: str, timeout: float, connect: str | None) -> Session:
    try:
        words = arguments_of(int(rest))
    except ValueError:
        raise MonitorError(f"{source}: not a number", expected="pid:N") from None
    except OSError as error:
        raise MonitorError(f"{source}: {error.strerror}") from None
    found = list(monitors_from_arguments(words)) or list(_monitors_in_files(int(rest), words))
    if not found and program_in(words) is None:
        raise MonitorError(f"{source} is {program_name(rest)}, not a QEMU", expected="a QEMU")
    if not found:
        name = next(iter(_after(words, "-name")), "").removeprefix("guest=").partition(",")[0]
        way = f"libvirt:{name}" if name else "libvirt:NAME"
        raise MonitorError(
            f"{source}: its arguments name no QMP monitor that can be reached",
            remedy=f"where libvirt runs the guest, go through libvirt: {way}",
        )
    patience = timeout / len(found)
    for address in found[:-1]:
        with suppress(MonitorError):  # it is taken, or QEMU is the client there
            return _from_monitor(int(rest), address, source, patience)
    return _from_monitor(int(rest), found[-1], source, patience)


def _from_monitor(pid: int, address: str | tuple[str, int], source: str, timeout: float) -> Session:
    """The monitor of a process at an address that its arguments name."""
    if not isinstance(address, str):
        return Session(source, _Qmp(source, address, timeout), pid=pid)
    if not os.path.isabs(address):
        try:
            address = os.path.join(os.readlink(f"/proc/{pid}/cwd"), address)
        except OSError as error:
            raise _connect_error(error, source, timeout) from None
    if not os.path.exists(address):  # another mount namespace
        address = f"/proc/{pid}/root{address}"
    return _from_path(address, address, timeout, None, pid=pid)


def _monitors_in_files(pid: int, words: list[str]) -> Iterable[str | tuple[str, int]]:
    """Monitors that a file for -readconfig names."""
    if "-readconfig" not in words:
        return ()
    from mdtool.commandline.option import words_from_options  # they need lark, and few processes have such a file
    from mdtool.commandline.process import options_from_process

    try:
        return monitors_from_arguments(words_from_options(options_from_process(pid, lambda _: None)))
    except (OSError, LookupError, MdtoolError):
        return ()


def _after(words: list[str], option: str) -> Iterable[str]:
    return (after for word, after in pairwise(words) if word in (option, f"-{option}"))


def monitors_from_arguments(words: list[str]) -> Iterable[str | tuple[str, int]]:
    """Where a QEMU with these arguments listens for QMP: socket paths and (host, port).

    >>> list(monitors_from_arguments(["qemu", "-qmp", "unix:/run/a.qmp,server=on", "-qmp", "tcp:localhost:44,server"]))
    ['/run/a.qmp', ('localhost', 44)]
    """
    for option in ("-qmp", "-qmp-pretty"):
        for text in _after(words, option):
            kind, _, rest = text.partition(":")
            rest = rest.partition(",")[0]
            if kind == "unix":
                yield rest
            elif kind == "tcp" and (address := _host_port(*rest.rpartition(":")[::2])) is not None:
                yield address
    chardevs = {bag.get("id"): bag for bag in map(_bag, _after(words, "-chardev"))}
    for bag in map(_bag, _after(words, "-mon")):
        chardev = chardevs.get(bag.get("chardev", bag.get("")), {})
        if bag.get("mode") != "control":
            continue
        if "path" in chardev:
            yield chardev["path"]
        elif (address := _host_port(chardev.get("host", ""), chardev.get("port", ""))) is not None:
            yield address


def _host_port(host: str, port: str) -> tuple[str, int] | None:
    """A host and a port, which may be given by the name of its service; None where it is neither.

    >>> _host_port("[::1]", "4444"), _host_port("", "no such service")
    (('::1', 4444), None)
    """
    try:
        number = int(port) if port.isdecimal() and len(port) <= 5 else socket.getservbyname(port, "tcp")
    except (OSError, ValueError):
        return None
    return (host.strip("[]") or "localhost", number) if number < 65536 else None


def _bag(text: str) -> dict[str, str]:
    """``socket,id=mon,path=/run/a`` as a dict; JSON as it is."""
    if text.startswith("{"):
        try:
            return {key: str(value) for key, value in json.loads(text).items()}
        except (ValueError, RecursionError):  # the process is not a QEMU, which would not have started with it
            return {}
    parts = (part.partition("=") for part in text.replace(",,", "\0").split(","))
    return {key if equals else "": (value if equals else key).replace("\0", ",") for key, equals, value in parts}


_Opener = Callable[[str, str, float, str | None], Session]
_SCHEMES: Mapping[str, _Opener] = {"tcp": _from_tcp, "pid": _from_pid, "libvirt": _from_libvirt}
