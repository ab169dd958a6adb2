"""The sidecar's image: built from the Containerfile by buildah without a registry, and its hook run in it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integrations.test_hooks import ANNOTATION, buses, domain, vmi

ROOT = Path(__file__).resolve().parents[2]
#: a debootstrapped Debian with Python; scripts/system fleet makes it
BASE = Path(os.environ.get("MDTOOL_CONTAINER_BASE", "/var/cache/mdtool/base"))
#: in place of KubeVirt's: calls the hook as that one does, and keeps its standard error to itself unless it fails
SHIM = """#!/bin/sh
[ "$1 $2" = "--version v1alpha3" ] || exit 1
out=$(onDefineDomain --vmi "$VMI" --domain "$DOMAIN" 2>/tmp/kept) || { cat /tmp/kept >&2; exit 1; }
printf '%s' "$out"
"""

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="run as root"),
    pytest.mark.skipif(shutil.which("buildah") is None, reason="apt-get install buildah"),
    pytest.mark.skipif(not (BASE / "usr/bin/python3").exists(), reason=f"scripts/system fleet {BASE}"),
]


class Buildah:
    def __init__(self, folder: Path) -> None:
        self.words = [
            "buildah",
            "--root",
            str(folder / "root"),
            "--runroot",
            str(folder / "run"),
            "--storage-driver",
            "vfs",
        ]

    def __call__(self, *words: str | Path, check: bool = True) -> subprocess.CompletedProcess[str]:
        done = subprocess.run([*self.words, *map(str, words)], capture_output=True, text=True, check=False)
        assert not check or done.returncode == 0, f"{words}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        return done


@pytest.fixture(scope="module")
def container(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Buildah, str]]:
    folder = tmp_path_factory.mktemp("container")
    buildah = Buildah(folder)
    wheels = folder / "wheels"
    version = subprocess.run(
        ["chroot", str(BASE), "python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.strip()
    pip = [sys.executable, "-m", "pip"]
    # wheels of all, for the Python of the base; what PyPI has the source alone of is pure Python
    subprocess.run([*pip, "wheel", "-q", "--no-deps", "-w", wheels, "argparse-manpage"], check=True)
    options = ["--find-links", wheels, "--python-version", version, "--only-binary=:all:"]
    subprocess.run([*pip, "download", "-q", "-d", wheels, *options, "hatchling>=1.21", *_dependencies()], check=True)
    (folder / "shim").write_text(SHIM)
    (folder / "shim").chmod(0o755)
    empty = buildah("from", "scratch").stdout.strip()
    buildah("copy", empty, folder / "shim", "/usr/bin/sidecar-shim")
    buildah("commit", "--rm", empty, "localhost/shim")
    base = buildah("from", "scratch").stdout.strip()
    with subprocess.Popen(
        [
            "tar",
            "-C",
            str(BASE),
            "--exclude=./proc/*",
            "--exclude=./sys/*",
            "--exclude=./dev/*",
            "-cf",
            str(folder / "base.tar"),
            ".",
        ]
    ) as tar:
        assert tar.wait() == 0
    buildah("add", base, folder / "base.tar", "/")
    (folder / "base.tar").unlink()
    buildah("commit", "--rm", base, "localhost/base")
    arguments = [
        *("--build-arg", "SHIM=localhost/shim", "--build-arg", "BASE=localhost/base"),
        *("--build-arg", "PIP_OPTIONS=--no-index --find-links /wheels", "--volume", f"{wheels}:/wheels:ro"),
    ]
    buildah("build", "--isolation", "chroot", "--pull-never", *arguments, "-t", "localhost/mdtool-hook", ROOT)
    made = buildah("from", "--pull-never", "localhost/mdtool-hook").stdout.strip()
    yield buildah, made
    buildah("rm", "--all", check=False)


def _dependencies() -> list[str]:
    import tomllib

    return list(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"])


def start(container: tuple[Buildah, str], instance: str, text: str) -> subprocess.CompletedProcess[str]:
    """The image's entry point as the image runs it, with the user that the image names."""
    buildah, made = container
    options = ["--isolation", "chroot", "--user", "1001", "--env", f"VMI={instance}", "--env", f"DOMAIN={text}"]
    shim = ["/usr/bin/sidecar-shim", "--version", "v1alpha3"]
    return buildah("run", *options, made, "--", *shim, check=False)


def test_the_sidecar_puts_disks_back(container: tuple[Buildah, str]) -> None:
    """The first start keeps KubeVirt's places; ports and NICs of later versions move no disk, by the annotation alone."""
    first = start(container, vmi(), domain())
    assert first.returncode == 0, first.stderr
    old = buses(first.stdout)
    words = [
        *container[0].words,
        "run",
        "--isolation",
        "chroot",
        "--user",
        "1001",
        container[1],
        "--",
        "/opt/mdtool/bin/mdtool",
    ]
    direct = subprocess.run(
        [*words, "hook", "kubevirt", "--vmi", vmi(), "--domain", domain()], capture_output=True, text=True, check=True
    )
    patch = json.loads(shlex.split(direct.stderr.strip().split("\n")[-1])[-1])
    hints = patch["spec"]["template"]["metadata"]["annotations"][ANNOTATION]
    for nics, ports in ((1, 12), (3, 12), (3, 16)):
        now = buses(start(container, vmi(**{ANNOTATION: hints}), domain(nics, ports)).stdout)
        assert {name: now[name] for name in old} == old
    broken = start(container, vmi(**{ANNOTATION: "{"}), domain())
    assert broken.returncode != 0 and not broken.stdout.strip()


def test_the_image_is_what_kubevirt_expects(container: tuple[Buildah, str]) -> None:
    buildah, made = container
    config = json.loads(buildah("inspect", made).stdout)["OCIv1"]["config"]
    assert config["Entrypoint"] == ["/usr/bin/sidecar-shim"] and config["User"] == "1001"
    run = ["run", "--isolation", "chroot", "--user", "1001", made, "--", "sh", "-c"]
    began = time.monotonic()
    assert buildah(*run, "command -v onDefineDomain; /opt/mdtool/bin/mdtool --version").returncode == 0
    assert time.monotonic() - began < 60
