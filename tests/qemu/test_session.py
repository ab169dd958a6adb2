"""A monitor that is fine, one that is taken, and all the ways in which one can fail."""

from __future__ import annotations

import json
import os
import socket
import stat
import threading
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any

import pytest

from mdtool.apply.restart import check_may_end
from mdtool.cli import main
from mdtool.errors import MonitorError
from mdtool.qemu.session import Refused, Session, monitors_from_arguments, session_from_source
from tests.support_dump import GREETING, answering, binary_of, line, running, serving
from tests.support_waiting import PATIENCE, reserved_ports, until

SMALL = "-machine pc-i440fx-7.2 -m 16"


def refused(source: str, **options: Any) -> str:
    with pytest.raises(MonitorError) as caught:
        session_from_source(source, **options)
    return str(caught.value)


def test_a_session_counts_its_trips_and_says_what_qemu_says(tmp_path: Path) -> None:
    with running(binary_of("x86_64"), SMALL, tmp_path) as path, session_from_source(path) as session:
        assert session.version >= (7, 2)
        assert session.execute("query-status")["running"] is False
        with pytest.raises(Refused, match="has not been found") as caught:
            session.execute("no-such-command")
        assert caught.value.kind == "CommandNotFound"
        assert "\r" not in session.hmp("info status")
        assert session.trips == 3


def test_a_taken_monitor_is_told_within_five_seconds(tmp_path: Path) -> None:
    with running(binary_of("x86_64"), SMALL, tmp_path) as path, session_from_source(path) as first:
        told = refused(path)  # though its holder never lets go
        assert "another one holds it" in told
        assert "libvirt:NAME" in told
        first.execute("query-status")  # whoever holds it notices nothing


def test_a_monitor_that_libvirt_holds_is_told_with_the_guests_name(tmp_path: Path) -> None:
    folder = tmp_path / "domain-3-web-01"
    folder.mkdir()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(folder / "monitor.sock"))
        listener.listen(1)
        assert "libvirt:web-01" in refused(str(folder / "monitor.sock"), timeout=0.2)


def test_tcp_and_pid_lead_to_the_same_machine(tmp_path: Path) -> None:
    with (
        reserved_ports(1) as (port,),
        running(
            binary_of("x86_64"),
            f"{SMALL} -name tcp-test -qmp tcp:127.0.0.1:{port},server=on,wait=off -pidfile {tmp_path}/pid",
            tmp_path,
        ),
    ):
        pid = (tmp_path / "pid").read_text().strip()
        for source in (f"tcp:127.0.0.1:{port}", f"pid:{pid}"):
            with session_from_source(source) as session:
                assert session.execute("query-name") == {"name": "tcp-test"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_another_users_monitor_is_an_error_that_says_who_may(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    tmp_path.chmod(0o700)
    options = f"{SMALL} -qmp unix:beside,server=on,wait=off -pidfile pid"
    with running(binary_of("x86_64"), options, tmp_path) as path:
        pid = (tmp_path / "pid").read_text().strip()
        os.seteuid(65534)
        try:
            told = [refused(path), refused(f"pid:{pid}")]
        finally:
            os.seteuid(0)
        for text in told:
            assert text.endswith(": Permission denied\n  run mdtool as the user whose QEMU it is, or as root")


def test_of_two_monitors_the_free_one_is_taken(tmp_path: Path) -> None:
    """Whoever holds the first one keeps it; where both are taken that is an error."""
    options = f"{SMALL} -qmp unix:{tmp_path}/first,server=on,wait=off -pidfile {tmp_path}/pid"
    with (
        running(binary_of("x86_64"), options, tmp_path) as second,
        session_from_source(f"{tmp_path}/first") as holder,
        ExitStack() as stack,
    ):
        pid = (tmp_path / "pid").read_text().strip()
        found: list[Session] = []

        def greeted() -> bool:  # the free one has half a second for it, which a loaded machine may not have
            with suppress(MonitorError):
                found.append(stack.enter_context(session_from_source(f"pid:{pid}", timeout=0.5)))
            return bool(found)

        until(greeted)
        assert found[0].source == second
        assert "another one holds it" in refused(f"pid:{pid}", timeout=0.5)
        holder.execute("query-status")


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["-qmp", "unix:/run/a,server=on,wait=off"], ["/run/a"]),
        (["--qmp", "tcp::4444,server"], [("localhost", 4444)]),
        (["-qmp-pretty", "tcp:[::1]:5,server=on"], [("::1", 5)]),
        (["-chardev", "socket,id=m,path=/run/a,,b,server=on", "-mon", "chardev=m,mode=control"], ["/run/a,b"]),
        (["-chardev", "socket,id=m,host=h,port=7,server=on", "-mon", "m,mode=control"], [("h", 7)]),
        (["-chardev", "socket,id=m,path=/run/a", "-mon", "chardev=m,mode=readline"], []),
        (["-chardev", "socket,id=m,fd=24,server=on", "-mon", "chardev=m,mode=control"], []),
        (["-monitor", "unix:/run/hmp,server"], []),
        (["-qmp", "tcp:localhost:no-such-service,server"], []),
        (["-qmp", f"tcp:localhost:{'9' * 5000},server"], []),
        (["-qmp", "tcp:localhost:65536,server", "-mon", "{", "-mon", "[1]", "-chardev", "{" * 100_000], []),
        (["-chardev", "socket,id=m,host=h,port=x y,server=on", "-mon", "m,mode=control"], []),
    ],
)
def test_where_arguments_put_the_monitor(words: list[str], found: list[Any]) -> None:
    assert list(monitors_from_arguments(["qemu-system-x86_64", *words])) == found


def test_sources_that_are_no_monitor(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    stale = tmp_path / "stale"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(stale))
    told = {
        str(tmp_path / "none"): "there is no such socket",
        str(tmp_path / "file"): "is not a socket",
        str(stale): "nothing listens there",
        "tcp:localhost": "no port",
        "tcp:localhost:1": "nothing listens there",
        "pid:none": "not a number",
        f"pid:{2**22 + 1}": "No such file",
        f"pid:{os.getpid()}": "not a QEMU; expected a QEMU",
    }
    for source, words in told.items():
        assert words in refused(source), source


# --- servers that misbehave: each an error within a stated time ------------------------------------------------------


@pytest.mark.parametrize(
    ("greeting", "words"),
    [
        (b"SSH-2.0-OpenSSH_9.2\r\n", "not QMP"),
        (b"QEMU 7.2.22 monitor - type 'help' for more information\r\n(qemu) ", "no greeting|not QMP"),
        (b'{"QMP": \r\n', "not QMP"),
        (b'["QMP"]\r\n', "not QMP"),
        (b"\xff\xfe\x00\r\n", "not QMP"),
        (b'{"QMP": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\r\n", "not QMP"),
        (
            b'{"QMP": {"version": {"qemu": "7.2"}, "capabilities": []}}\r\n',
            "not QMP|no greeting|closed|Broken pipe|Connection reset",
        ),
        (
            b'{"QMP": {"version": {"qemu": {"major": "x"}, "package": ""}, "capabilities": []}}\r\n',
            "not QMP|no greeting|closed|Broken pipe|Connection reset",
        ),
        (b"", "closed before a greeting"),
        (json.dumps(GREETING).encode(), "not QMP|closed|no greeting"),
    ],
)
def test_a_greeting_that_is_none(tmp_path: Path, greeting: bytes, words: str) -> None:
    with serving(tmp_path, lambda client: client.sendall(greeting)) as path, pytest.raises(MonitorError, match=words):
        session_from_source(path, timeout=PATIENCE)


def ask(path: str, timeout: float = PATIENCE) -> Any:
    with session_from_source(path) as session:
        return session.execute("query-status", timeout=timeout)


def test_an_answer_in_time_is_taken_after_an_event_storm(tmp_path: Path) -> None:
    event = line({"event": "RTC_CHANGE", "data": {"offset": 1}, "timestamp": {"seconds": 0, "microseconds": 0}})

    def storm(client: socket.socket, request: dict[str, Any]) -> None:
        for _ in range(100):
            client.sendall(event * 200)
        client.sendall(line({"return": {"status": "paused"}, "id": request["id"]}))

    with serving(tmp_path, answering(storm)) as path, session_from_source(path) as session:
        assert session.execute("query-status", timeout=PATIENCE) == {"status": "paused"}
        assert len(session.events()) == 10_000  # the youngest; memory has an end
        assert session.events() == []


def test_no_answer(tmp_path: Path) -> None:
    over = threading.Event()
    with serving(tmp_path, answering(lambda _client, _request: over.wait())) as path:
        with pytest.raises(MonitorError, match=r"no answer to query-status within 0.3 s"):
            ask(path, 0.3)
        over.set()


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (b"", "closed the connection"),
        (b'{"return": {"status": "pau', "not QMP|closed"),
        (b"\x00\x01\x02 garbage\r\n", "not QMP"),
        (b"[1, 2]\r\n", "not QMP"),
        (b'{"return": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\r\n", "not QMP"),
        (b'{"event": "X", "data": ' + b"[" * 100_000 + b"]" * 100_000 + b"}\r\n", "not QMP"),
        (b'{"return": 1' + b"0" * 5_000 + b"}\r\n", "not QMP"),
        (b"{}\r\n" * 5, "closed the connection"),
        (b'{"error": {"class": "GenericError", "desc": "parse error"}}\r\n', "not QMP|without an ID"),
        (b'{"return": "' + b"x" * (50 << 20) + b'"}\r\n', "longer than 6 MiB"),
    ],
    ids=[
        "nothing",
        "half",
        "garbage",
        "a list",
        "deep",
        "a deep event",
        "a long number",
        "empty answers",
        "no id",
        "50 MB",
    ],
)
def test_an_answer_that_is_none(tmp_path: Path, answer: bytes, words: str) -> None:
    def talk(client: socket.socket, request: dict[str, Any]) -> None:
        client.sendall(answer)
        client.shutdown(socket.SHUT_WR)

    with serving(tmp_path, answering(talk)) as path, pytest.raises(MonitorError, match=words) as caught:
        ask(path)
    assert len(str(caught.value)) < 500


def test_qemu_that_dies_in_mid_dump_leaves_no_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """From any command on: one error, nothing written, and the old file is as it was."""
    out = tmp_path / "out.yaml"
    old = "mdtool: machine/1\nmachine: {type: pc, arch: x86_64}\nbuses: {}\n"
    out.write_text(old)

    for survived in (0, 1, 7, 13):
        left = survived

        def answer(client: socket.socket, request: dict[str, Any]) -> None:
            nonlocal left
            if not left:
                client.close()
                raise OSError
            left -= 1
            client.sendall(line({"return": [], "id": request["id"]}))

        folder = tmp_path / str(survived)
        folder.mkdir()
        with serving(folder, answering(answer)) as path:
            assert main(["dump", path, "-o", str(out)]) == 2
        told = capsys.readouterr()
        assert "closed the connection" in told.err
        assert told.out == ""
        assert out.read_text() == old
    assert sorted(found.name for found in tmp_path.iterdir() if found.is_file()) == ["out.yaml"]


@pytest.mark.parametrize("junk", [None, 5, "text", [], {}, [5], [{}], {"arch": 3}, [{"name": 1, "type": 2}]])
def test_answers_of_no_sense_are_one_error(tmp_path: Path, junk: Any, capsys: pytest.CaptureFixture[str]) -> None:
    """QMP by form, but nothing that a QEMU says: an error, no traceback, nothing on stdout."""

    def answer(client: socket.socket, request: dict[str, Any]) -> None:
        client.sendall(line({"return": junk, "id": request["id"]}))

    with serving(tmp_path, answering(answer)) as path:
        assert main(["dump", path]) == 2
    told = capsys.readouterr()
    assert told.err.startswith(f"error: {path}: ") or "info qtree:" in told.err
    assert told.out == ""
    Path(path).unlink(missing_ok=True)
    unexpected = pytest.raises(MonitorError, match="query-status: unexpected reply format")
    with serving(tmp_path, answering(answer)) as path, session_from_source(path) as session, unexpected:
        check_may_end(session)


def test_libraries_say_nothing_of_their_own(tmp_path: Path) -> None:
    """A QEMU that ends while it is asked: one error, and no warning of asyncio's."""
    import subprocess
    import sys

    def answer(client: socket.socket, request: dict[str, Any]) -> None:
        client.close()
        raise OSError

    with serving(tmp_path, answering(answer)) as path:
        done = subprocess.run([sys.executable, "-m", "mdtool", "dump", path], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1 and done.stderr.startswith(f"error: {path}: ")
    logs = (
        "import logging, mdtool.qemu.session; [logging.getLogger(n).error('x') for n in ('asyncio', 'qemu.qmp.protocol')]"
    )
    assert subprocess.run([sys.executable, "-c", logs], capture_output=True, check=True).stderr == b""


# --- libvirt's door --------------------------------------------------------------------------------------------------

VIRSH = """#!{python}
import json, shlex, socket, sys
words = sys.argv[1:]
with open({log!r}, "a") as log:
    print(json.dumps(words), file=log)
if "--domain gone" in words[-1]:
    sys.exit("error: failed to get domain 'gone'")
lexer = shlex.shlex(words[-1], posix=True, punctuation_chars=";")
lexer.whitespace_split = True
commands = [word for word in lexer if word.startswith("{{")]
with socket.socket(socket.AF_UNIX) as qemu:
    qemu.connect({path!r})
    lines = qemu.makefile("rw")
    lines.readline()
    for text in ['{{"execute": "qmp_capabilities"}}', *commands]:
        lines.write(text + "\\n")
        lines.flush()
        answer = lines.readline()
        if text in commands:
            print(answer)
"""


def test_libvirts_door(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """A virsh of our own, so that no libvirt has to run: the same bytes as by the socket, URI and name passed on."""
    import sys

    log = tmp_path / "log"
    with running(binary_of("x86_64"), f"{SMALL} -device virtio-rng-pci,id=rng0", tmp_path) as path:
        (tmp_path / "virsh").write_text(VIRSH.format(python=sys.executable, log=str(log), path=path))
        (tmp_path / "virsh").chmod(stat.S_IRWXU)
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
        assert main(["dump", path]) == 0
        direct = capsys.readouterr().out
        assert main(["dump", "libvirt:web01", "--connect", "qemu+ssh://host/system"]) == 0
        # of a libvirt without a process there are no arguments, which say what the clock starts at
        direct = direct.replace('["monitor", "arguments"]', '["monitor"]').replace("clock: {base: utc}\n", "")
        assert capsys.readouterr().out == direct
        processes = [json.loads(words) for words in log.read_text().splitlines()]
        assert processes[0][:-1] == ["--quiet", "--connect", "qemu+ssh://host/system"]
        assert processes[0][-1].startswith("qemu-monitor-command --domain web01 --cmd ")
        assert len(processes) == 1 + 2  # the version, and a process for each phase
        with session_from_source("libvirt:web01") as session, pytest.raises(Refused, match="not been found"):
            session.execute("nonsense")
        assert "failed to get domain 'gone'" in refused("libvirt:gone")


def test_no_virsh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "virsh is not installed" in refused("libvirt:web01")


def test_closing_twice_is_fine(tmp_path: Path) -> None:
    with running(binary_of("x86_64"), SMALL, tmp_path) as path:
        session: Session = session_from_source(path)
        session.close()
        session.close()
        with session_from_source(path) as again:  # the monitor is free at once
            again.execute("query-status")


def test_an_event_in_the_midst_of_the_negotiation_is_no_refusal(tmp_path: Path) -> None:
    """QEMU may emit one as soon as it took the command, before it answers."""
    path = str(tmp_path / "fake")
    event = {"event": "RTC_CHANGE", "data": {"offset": 0}, "timestamp": {"seconds": 1, "microseconds": 0}}
    said: list[bytes] = []

    def serve(listener: socket.socket) -> None:
        for first in (event, None):
            client, _ = listener.accept()
            with client:
                client.sendall(line(GREETING))
                said.append(client.recv(4096))
                client.sendall((line(first) if first else b"") + line({"return": {}}))
                client.recv(4096)

    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        threading.Thread(target=serve, args=[listener], daemon=True).start()
        with session_from_source(path) as session:
            assert session.version == (7, 2, 22)
    assert len(said) == 2


def test_many_commands_and_long_answers_at_once(tmp_path: Path) -> None:
    """More of both than the buffers of the socket hold: neither end waits for the other."""
    with running(binary_of("x86_64"), SMALL, tmp_path) as path, session_from_source(path) as session:
        answers = session.ask([("query-name", None), ("query-hotpluggable-cpus", {"x" * 1000: 0})] * 2000)
    assert len(answers) == 4000 and {type(answer) for answer in answers} == {dict, Refused}
