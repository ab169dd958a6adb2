"""What all tests share: the tools they need, and --regenerate for golden files."""

from __future__ import annotations

import os
import shutil
import signal
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import hypothesis
import libvirtd
import pytest

# The same examples every time; `make soak` looks for new ones.
# A shell starts what it runs in the background with ctrl-C ignored, which programs that tests start would inherit.
signal.signal(signal.SIGINT, signal.default_int_handler)
hypothesis.settings.register_profile("mdtool", derandomize=not os.environ.get("MDTOOL_SOAK"), deadline=None)
hypothesis.settings.load_profile("mdtool")

# A user's Python buffers what it prints into a pipe, and loses it where nobody flushes: so does the tests'.
os.environ.pop("PYTHONUNBUFFERED", None)

PACKAGES = {
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-system-aarch64": "qemu-system-arm",
    "qemu-system-s390x": "qemu-system-misc",
    "qemu-system-riscv64": "qemu-system-misc",
    "qemu-system-ppc64": "qemu-system-ppc",
    "qemu-img": "qemu-utils",
    "virsh": "libvirt-clients",
    "libvirtd": "libvirt-daemon-system",
    "iasl": "acpica-tools",
    "git": "git",
    "nvim": "neovim",
    "node": "npm",
}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--regenerate", action="store_true", help="rewrite the golden files of tests/cases")
    parser.addoption("--quick", action="store_true", help="only what starts no QEMU and draws no examples: under a minute")


#: what a test that starts something asks for, and the folders and files where all do
STARTING = {"qemu", "libvirt", "server", "chromium", "linux"}
SLOW = (
    "tests/qemu/",
    "tests/test_packaging.py",
    "tests/test_libvirtd.py",
    "tests/launch/test_backends_qemu.py",
    "tests/reconcile/test_properties.py",
)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--quick"):
        return

    def slow(item: pytest.Item) -> bool:
        asked = STARTING & set(getattr(item, "fixturenames", ()))
        drawn = getattr(getattr(item, "obj", None), "is_hypothesis_test", False)
        return bool(asked) or drawn or item.nodeid.startswith(SLOW)

    left_out = [item for item in items if slow(item)]
    config.hook.pytest_deselected(items=left_out)
    items[:] = [item for item in items if not slow(item)]


def pytest_configure() -> None:
    """Before there are workers: they, and what tests start, see the libvirt of the tests and not the machine's."""
    os.environ.update(libvirtd.isolate())


def pytest_unconfigure() -> None:
    libvirtd.stop()


def lacking(what: str, remedy: str) -> None:
    """Skip, and say what to install; fail where CI is true, since there everything has to be there."""
    message = f"{what} is missing: {remedy}"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)


def require(command: str) -> str:
    """The path of a command that a test needs."""
    path = shutil.which(command) or shutil.which(command, path="/usr/sbin:/sbin")
    if path is None:
        lacking(command, f"apt-get install {PACKAGES.get(command, command)}")
    assert path is not None
    return path


def other_root() -> Path:
    """The root folder of another QEMU; `make matrix` makes one, and only there these tests run."""
    root = os.environ.get("MDTOOL_QEMU_ROOT")
    if not root:
        pytest.skip(
            "another QEMU is for `make matrix`, which sets it up; or set MDTOOL_QEMU_ROOT to a root folder with one"
        )
    if not (Path(root) / "usr/bin/qemu-system-x86_64").exists():
        pytest.fail(f"MDTOOL_QEMU_ROOT={root} has no usr/bin/qemu-system-x86_64")
    return Path(root)


@pytest.fixture
def qemu() -> str:
    """The distribution's qemu-system-x86_64."""
    return require("qemu-system-x86_64")


@pytest.fixture
def older_libvirt(monkeypatch: pytest.MonkeyPatch) -> None:
    """What libvirt 9.0 chooses, whatever QEMU this machine has: a machine type without a version is of its time."""
    monkeypatch.setattr("mdtool.guest.choices.machine_of", lambda guest: SimpleNamespace(name=guest.machine))
    monkeypatch.setattr("mdtool.guest.choices.machines_of", lambda _path: SimpleNamespace(version="7.2"))


def own_libvirt() -> str:
    """The URI of a libvirtd of the tests' own, which runs; also what virsh and mdtool take where none is given."""
    require("libvirtd")
    require("virsh")
    if lacks := libvirtd.start():
        lacking("a libvirtd of the tests' own", lacks)
    return libvirtd.URI


@pytest.fixture(scope="session")
def libvirt() -> str:
    """A test that uses virsh says so with this."""
    return own_libvirt()


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What mdtool keeps per user: a cache of the test run's own, and a runtime directory of the test's own.

    The runtime directory is where a guest's launches exclude each other, and tests launch the same samples; its path is
    short, since sockets are in it.
    """
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp().parent / "mdtool-cache"))
    with tempfile.TemporaryDirectory(prefix="md", ignore_cleanup_errors=True) as runtime:
        monkeypatch.setenv("XDG_RUNTIME_DIR", runtime)
        yield
