"""Hosts for Ansible: each a network namespace with an sshd of its own, and beside that a libvirtd and its guests.

A host's processes see the files of this machine, libvirt's folders aside, which are each host's own (``libvirtd.isolate``).
"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import libvirtd

ROOT = Path(__file__).resolve().parents[2]
SECONDS = 300.0  # only so that a host that does not come up ends the test


def missing() -> str:
    """What to install for hosts; "" where nothing is missing."""
    if os.geteuid():
        return "run as root"
    programs = {"sshd": "openssh-server", "ssh": "openssh-client", "ip": "iproute2", "libvirtd": "libvirt-daemon-system"}
    lacking = [package for name, package in programs.items() if program(name) is None]
    return f"apt-get install {' '.join(lacking)}" if lacking else ""


def program(name: str) -> str | None:
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin")


def run(*words: str | Path) -> None:
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{words}: {done.stderr}"


@dataclass(frozen=True)
class Host:
    """One host; ``folder`` is where its guests are described."""

    name: str
    number: int
    home: Path
    key: Path

    @property
    def address(self) -> str:
        return f"10.213.{self.number}.2"

    @property
    def namespace(self) -> str:
        return f"mdtool{os.getpid()}-{self.number}"

    @property
    def link(self) -> str:
        return f"md{os.getpid() % 100000}-{self.number}"

    @property
    def folder(self) -> Path:
        return self.home / "guests"

    def ssh(self, *words: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            ["ssh", *options(self.key), f"root@{self.address}", *words], capture_output=True, text=True, check=False
        )
        assert not check or done.returncode == 0, f"{self.name}: {words}: {done.stderr}"
        return done

    def cut(self) -> None:
        """The host dies, for all that its clients can tell: no packet comes back."""
        run("ip", "link", "set", self.link, "down")

    def mend(self) -> None:
        run("ip", "link", "set", self.link, "up")


def options(key: Path) -> list[str]:
    return [
        *("-i", str(key), "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
        *("-o", "ServerAliveInterval=2", "-o", "ServerAliveCountMax=3", "-o", "ConnectTimeout=20", "-F", "none"),
    ]


@contextmanager
def hosts(folder: Path, names: Sequence[str]) -> Iterator[list[Host]]:
    """Hosts that answer, in a folder of their own each."""
    key = folder / "key"
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    Path("/run/sshd").mkdir(exist_ok=True)
    with ExitStack() as stack:
        yield [stack.enter_context(host(Host(name, number, folder / name, key))) for number, name in enumerate(names, 1)]


@contextmanager
def host(one: Host) -> Iterator[Host]:
    one.home.mkdir()
    server = program("sshd")
    assert server is not None
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", one.home / "host_key")
    (one.home / "authorized").write_bytes(one.key.with_suffix(".pub").read_bytes())
    lines = [
        f"ListenAddress {one.address}",
        f"HostKey {one.home}/host_key",
        f"AuthorizedKeysFile {one.home}/authorized",
        "PermitRootLogin yes",
        "StrictModes no",
        "UsePAM no",
        "PidFile none",
        "Subsystem sftp internal-sftp",
    ]
    (one.home / "sshd_config").write_text("\n".join(lines) + "\n")
    started: subprocess.Popen[bytes] | None = None
    try:
        _network(one)
        # sshd is a child of the process that has libvirt's folders to itself, and so are the sessions
        words = ["ip", "netns", "exec", one.namespace, sys.executable, str(ROOT / "tests" / "libvirtd.py")]
        words += [server, "-D", "-e", "-f", str(one.home / "sshd_config")]
        with (one.home / "log").open("wb") as log:
            own = {key: value for key, value in os.environ.items() if key != libvirtd.VARIABLE}
            started = subprocess.Popen(
                words, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True, env=own
            )
        _answers(one, started)
        yield one
    finally:
        if started is not None:
            with suppress(ProcessLookupError):
                os.killpg(started.pid, signal.SIGTERM)
            started.wait()
        for pid in _inside(one):  # libvirtd's keeper ends its guests by itself
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGTERM)
        deadline = time.monotonic() + SECONDS
        while _inside(one) and time.monotonic() < deadline:
            time.sleep(0.05)
        subprocess.run(["ip", "netns", "del", one.namespace], capture_output=True, check=False)
        subprocess.run(["ip", "link", "del", one.link], capture_output=True, check=False)


def _network(one: Host) -> None:
    run("ip", "netns", "add", one.namespace)
    run("ip", "link", "add", one.link, "type", "veth", "peer", "name", "eth0", "netns", one.namespace)
    run("ip", "address", "add", f"10.213.{one.number}.1/30", "dev", one.link)
    run("ip", "link", "set", one.link, "up")
    for words in (
        ["address", "add", f"{one.address}/30", "dev", "eth0"],
        ["link", "set", "eth0", "up"],
        ["link", "set", "lo", "up"],
    ):
        run("ip", "-n", one.namespace, *words)


def _inside(one: Host) -> list[int]:
    done = subprocess.run(["ip", "netns", "pids", one.namespace], capture_output=True, text=True, check=False)
    return [int(word) for word in done.stdout.split()]


def _answers(one: Host, started: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        assert started.poll() is None, (one.home / "log").read_text()
        with suppress(OSError), socket.create_connection((one.address, 22), timeout=1):
            return
        time.sleep(0.05)
    raise AssertionError(f"{one.name} does not answer: {(one.home / 'log').read_text()}")
