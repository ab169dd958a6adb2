"""What several tests use: the samples, a rehearsed QEMU, and what its PCI enumeration says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, chdir, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mdtool.cli import main
from mdtool.errors import MdtoolError
from mdtool.qemu.session import Session, session_from_source
from tests.support_waiting import PATIENCE, until

SAMPLES = Path(__file__).resolve().parent.parent / "samples"


def mdtool(*words: str | Path) -> int:
    """mdtool in this process; its exit status."""
    return main([str(word) for word in words])


def run_mdtool(*words: str | Path, cwd: Path | str = ".", stdin: str = "") -> subprocess.CompletedProcess[str]:
    """mdtool with standard streams, exit status and working folder as in a process of its own, but in this one.

    The start of a process takes longer than most commands.  A test that is about a process (signals, its environment, the
    end of a stream) starts one, and what goes on in the background would go on as a copy of this one.
    """
    command = [sys.executable, "-m", "mdtool", *map(str, words)]
    if "--daemonize" in words:
        return subprocess.run(command, input=stdin or None, cwd=cwd, capture_output=True, text=True, timeout=PATIENCE)
    with ExitStack() as stack:
        files = [stack.enter_context(tempfile.TemporaryFile("w+b")) for _ in range(3)]
        files[0].write(stdin.encode())
        files[0].seek(0)
        stack.enter_context(chdir(cwd))
        sys.stdout.flush()
        sys.stderr.flush()
        for number, name in enumerate(("stdin", "stdout", "stderr")):
            kept = os.dup(number)
            stack.callback(os.close, kept)
            stack.callback(os.dup2, kept, number)
            os.dup2(files[number].fileno(), number)
            stream = open(number, "w" if number else "r", 1, closefd=False)  # noqa: SIM115
            stack.enter_context(mock.patch.object(sys, name, stream))
        try:
            status = main(command[3:])
        except SystemExit as end:  # argparse
            status = end.code if isinstance(end.code, int) else 2
        sys.stdout.flush()
        sys.stderr.flush()
        said = [os.pread(file.fileno(), 1 << 30, 0).decode() for file in files[1:]]
    return subprocess.CompletedProcess(command, status, *said)


def argv_of(guest: Path, description: Path, *options: str) -> list[str]:
    """The command line that a launch would use."""
    done = run_mdtool("launch", guest, description, "--via", "device", "--print", "--json", *options)
    assert done.returncode == 0, done.stderr
    argv: list[str] = json.loads(done.stdout)
    return argv


def connected(path: Path, process: subprocess.Popen[str]) -> Session:
    """A session with a QEMU that is starting: its socket is there a moment before it listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return session_from_source(os.fspath(path))
        except MdtoolError:
            if process.poll() is not None:
                raise AssertionError(
                    f"QEMU ended with {process.returncode}: {process.stderr.read() if process.stderr else ''}"
                ) from None
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)


@contextmanager
def started(argv: list[str], folder: Path, *options: str) -> Iterator[Session]:
    """QEMU with a command line and a monitor of the test's own; ended afterwards."""
    path = folder / f"t{len(list(folder.iterdir()))}.qmp"
    process = subprocess.Popen(
        [*argv, *options, "-qmp", f"unix:{path},server=on,wait=off"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        text=True,
    )
    try:
        with connected(path, process) as session:
            yield session
    finally:
        process.kill()
        process.communicate()


def pci(session: Session) -> dict[str, str]:
    """{qdev id: path of slot.function from the root}, as QEMU enumerates after its firmware numbered the buses."""
    session.execute("cont")
    seen: list[dict[str, str]] = []
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        found, numbered = enumerated(session)
        seen.append(found)
        if numbered and len(seen) > 3 and seen[-3:] == [found] * 3:
            return found
        time.sleep(0.1)
    raise AssertionError("the firmware did not number all buses")


def enumerated(session: Session) -> tuple[dict[str, str], bool]:
    """What query-pci shows now, and whether every bridge has its number: it hides what is behind one that has none."""
    found: dict[str, str] = {}
    numbers: list[int] = []

    def walk(devices: list[dict[str, Any]], path: str) -> None:
        for device in devices:
            here = f"{path}{device['slot']:02x}.{device['function']}"
            found[device["qdev_id"]] = here
            if "pci_bridge" in device:
                numbers.append(device["pci_bridge"]["bus"]["secondary"])
                walk(device["pci_bridge"].get("devices", []), here + "/")

    for bus in session.execute("query-pci"):
        walk(bus["devices"], "")
    return found, all(numbers)


def ran(session: Session) -> None:
    """Let the machine run until its firmware has numbered all PCI buses; without firmware, until its CPU is elsewhere."""
    before = session.hmp("info registers")
    firmware = "RIP=" in before or "EIP=" in before
    session.execute("cont")
    until(lambda: session.hmp("info registers") != before)
    until(lambda: not firmware or enumerated(session)[1])


def saved(session: Session, path: Path) -> None:
    """The machine's migration stream, written to a file."""
    session.execute("migrate", {"uri": f"exec:cat > {path}"})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        status = session.execute("query-migrate").get("status")
        if status == "completed":
            return
        assert status != "failed", "the migration failed"
        time.sleep(0.05)
    raise AssertionError("the migration did not end")


def loads(argv: list[str], stream: Path, folder: Path) -> str:
    """'' where QEMU takes the stream, its words where it refuses."""
    done = subprocess.Popen(
        [*argv, "-incoming", f"exec:cat {stream}", "-qmp", f"unix:{folder}/in.qmp,server=on,wait=off"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd=folder,
        text=True,
    )
    try:
        deadline = time.monotonic() + PATIENCE
        while time.monotonic() < deadline:
            if done.poll() is not None:
                assert done.stderr is not None
                return done.stderr.read() or "ended"
            if (folder / "in.qmp").exists():
                try:
                    with session_from_source(f"{folder}/in.qmp") as session:
                        if session.execute("query-status")["status"] != "inmigrate":
                            return ""
                except Exception:  # it may be ending right now: the loop will see
                    pass
            time.sleep(0.05)
        return "it did not end"
    finally:
        done.kill()
        done.communicate()
        (folder / "in.qmp").unlink(missing_ok=True)
