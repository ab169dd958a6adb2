"""The tests' own libvirtd: the machine's libvirt is left alone, test runs do not meet, and nothing stays behind."""

from __future__ import annotations

import os
import select
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import libvirtd
import pytest

from tests.conftest import lacking

GUEST = """set -e
virsh -q create /dev/stdin >/dev/null <<END
<domain type='qemu'><name>same-name</name><uuid>8d0c0a4e-96b7-4b6e-9a0b-2d3f1f6f0001</uuid><memory>65536</memory>
<os><type arch='x86_64' machine='pc'>hvm</type></os><devices><emulator>{qemu}</emulator></devices></domain>
END
echo $(cat /run/libvirt/qemu/same-name.pid) $(cat /run/libvirt/tests.pid) $(cat /run/libvirt/libvirtd.pid)
cat
"""


@contextmanager
def beside(qemu: str) -> Iterator[tuple[subprocess.Popen[str], list[int]]]:
    """A test run with a guest: its process, which ends with its standard input, and QEMU, the keeper and libvirtd."""
    outside = {name: value for name, value in os.environ.items() if name != libvirtd.VARIABLE}
    words = [sys.executable, libvirtd.__file__, "sh", "-c", GUEST.format(qemu=qemu)]
    pipe = subprocess.PIPE
    with subprocess.Popen(words, stdin=pipe, stdout=pipe, stderr=pipe, env=outside, text=True) as process:
        try:
            line = process.stdout.readline() if process.stdout else ""
            if not line:
                _, error = process.communicate()
                assert process.returncode == 125, error
                lacking("a libvirtd of the tests' own", error)
            pids = [os.pidfd_open(int(word)) for word in line.split()]
            yield process, pids
        finally:
            process.kill()


def ended(pidfd: int) -> bool:
    return bool(select.select([pidfd], [], [], 60)[0])


def runs(pidfd: int) -> bool:
    return not select.select([pidfd], [], [], 0)[0]


@pytest.mark.parametrize("how", ["at its end", "killed"])
def test_two_test_runs_do_not_meet(how: str, qemu: str) -> None:
    """They have a guest of one name and one uuid; the end of one is the end of its guest alone."""
    with beside(qemu) as (one, ones), beside(qemu) as (other, others):
        assert all(map(runs, [*ones, *others]))
        if how == "killed":
            one.kill()
        else:
            one.communicate()
        assert all(map(ended, ones))
        assert all(map(runs, others))
        other.communicate()
        assert all(map(ended, others))


def test_the_machines_libvirt_is_left_alone(libvirt: str) -> None:
    """Its folders are not those that the tests see: theirs are in memory."""
    seen = {line.split()[4]: line.split()[-3] for line in Path("/proc/self/mountinfo").read_text().splitlines()}
    assert {seen.get(str(folder)) for folder in libvirtd.FOLDERS} == {"tmpfs"}
    uri = subprocess.run(["virsh", "-q", "uri"], capture_output=True, text=True, check=True)
    assert uri.stdout.strip() == libvirt


def test_a_run_without_root_says_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(os, "environ", libvirtd.isolate({}))
    assert libvirtd.start() == "run the tests as root, for a libvirtd of their own"
