"""What commands load and what they ask, counted: a clock would tell the same, and differently every time."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from mdtool.qemu.client import Client
from mdtool.qemu.dump import dump
from mdtool.qemu.session import Question, Session
from tests.support_dump import binary_of, running, session_of
from tests.support_waiting import PATIENCE

GUEST = Path(__file__).parent.parent.parent / "samples/web01/guest.xml"
CODE = (
    "import sys; sys.argv = ['mdtool', *{words}]\nfrom mdtool.cli import main\nmain()\nprint(*sys.modules, file=sys.stderr)"
)
#: libraries that take longer to import than most commands take, and that these commands need no more
SLOW = {
    "asyncio", "bz2", "dataclasses", "datetime", "email", "inspect", "jsonschema", "lark", "logging", "qemu.qmp", "random",
    "ruamel.yaml", "ssl", "tempfile", "unicodedata",
}  # fmt: skip
#: command: how many of our modules it loads at most; a new one is a tenth of a percent of its time
LIMITS = {"--help": 9, "check": 43, "show": 41, "diff": 33, "reconcile": 119, "launch": 159}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a description that was read before."""
    place = tmp_path_factory.mktemp("speed")
    loaded(place, "reconcile", str(GUEST), "guest.yaml")
    loaded(place, "reconcile", str(GUEST), "guest.yaml")
    return place


def loaded(place: Path, *words: str) -> set[str]:
    environment = {**os.environ, "XDG_CACHE_HOME": str(place / "cache")}
    command = [sys.executable, "-c", CODE.format(words=list(words))]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    return set(done.stderr.splitlines()[-1].split())


@pytest.mark.parametrize(
    "words",
    [
        ("check", "guest.yaml"),
        ("show", "guest.yaml"),
        ("diff", "guest.yaml", "guest.yaml"),
        ("reconcile", str(GUEST), "guest.yaml"),
        ("launch", str(GUEST), "guest.yaml", "--print"),
    ],
    ids=lambda words: words[0],
)
def test_a_command_loads_what_it_needs(place: Path, words: tuple[str, ...]) -> None:
    modules = loaded(place, *words)
    assert modules & (SLOW if words[0] in ("check", "launch") else SLOW | {"pathlib"}) == set()
    assert Counter(name.partition(".")[0] for name in modules)["mdtool"] <= LIMITS[words[0]]


def test_help_loads_no_command(place: Path) -> None:
    code = (
        "import sys, atexit; sys.argv = ['mdtool', '--help']; atexit.register(lambda: print(*sys.modules, file=sys.stderr))"
    )
    command = [sys.executable, "-c", f"{code}\nfrom mdtool.cli import main\nmain()"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, timeout=PATIENCE)
    modules = set(done.stderr.splitlines()[-1].split())
    assert not modules & SLOW and len([name for name in modules if name.startswith("mdtool")]) <= LIMITS["--help"]


def test_a_dump_and_its_verification_load_nothing_of_guest_xml(place: Path) -> None:
    with running(binary_of("x86_64"), "-machine q35 -device edu,id=edu", place) as source:
        assert loaded(place, "dump", source, "-o", "dump.yaml")
        for words in (("dump", source, "-o", "dump.yaml"), ("verify", "dump.yaml", source)):
            modules = loaded(place, *words)
            assert "qemu.qmp" in modules and not {"mdtool.guest.elements", "mdtool.reconcile"} & modules


@pytest.mark.parametrize("words", [("dump", str(GUEST)), ("launch", str(GUEST), "guest.yaml", "--rehearse")],
                         ids=lambda words: words[0])  # fmt: skip
def test_what_speaks_to_qemu_is_loaded_while_it_starts(place: Path, words: tuple[str, ...]) -> None:
    code = (
        f"import subprocess, sys; sys.argv = ['mdtool', *{list(words)}]; start = subprocess.Popen.__init__\n"
        "def watched(self, command, *more, **others):\n"
        "    print('asyncio' in sys.modules, command[0], file=sys.stderr)\n    start(self, command, *more, **others)\n"
        "subprocess.Popen.__init__ = watched\nfrom mdtool.cli import main\nmain()\nprint('asyncio' in sys.modules)"
    )
    loaded(place, *words)  # what QEMU says of its machine types is in the cache from now on
    environment = {**os.environ, "XDG_CACHE_HOME": str(place / "cache")}
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, timeout=PATIENCE)
    started = [line for line in done.stderr.splitlines() if "qemu-system" in line]
    assert [line.split()[0] for line in started] == ["False"] and done.stdout.splitlines()[-1] == "True", done.stderr


def test_questions_go_in_one_write_and_none_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A dump writes as often as it waits, and asks of the machine and its CPU only what it makes something of."""
    asked: list[Question] = []
    writes: list[int] = []
    ask, send = Session.ask, Client._do_send

    def counted(session: Session, questions: list[Question], *, timeout: float | None = None) -> list[object]:
        asked.extend(questions)
        return ask(session, questions, timeout=timeout)

    def sent(client: Client, message: object) -> None:
        send(client, message)  # type: ignore[arg-type]
        writes.append(not client._unsent)

    monkeypatch.setattr(Session, "ask", counted)
    options = "-machine pc-q35-7.2 " + " ".join(f"-device virtio-net-pci,id=n{n},addr={n + 2:x}" for n in range(20))
    with session_of(binary_of("x86_64"), options, tmp_path) as session:
        monkeypatch.setattr(Client, "_do_send", sent)
        dump(session)
        assert sum(writes) == session.trips <= 4
    twice = [what for what, count in Counter(json.dumps(question) for question in asked).items() if count > 1]
    assert twice == [] and len(asked) <= 95
