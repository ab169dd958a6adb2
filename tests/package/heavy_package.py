"""What people install: wheel, sdist and Debian package, on each Python that there is.  ``make package`` runs it."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Sequence
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PYTHONS = ("3.11", "3.12", "3.13", "3.14")
#: a debootstrapped folder with what debian/control builds with; scripts/system package makes it
DEBIAN = Path(os.environ.get("MDTOOL_PACKAGE_ROOT", "/var/cache/mdtool/package"))
EPOCH = {"SOURCE_DATE_EPOCH": "1790000000"}
SAMPLE = ROOT / "samples" / "legacy" / "guest.xml"


def run(words: Sequence[str | Path], **more: object) -> str:
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "PYENV_VERSION"))}
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, env=environment | EPOCH, check=False, **more)  # type: ignore[call-overload]
    assert done.returncode == 0, f"{words}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}"
    return str(done.stdout)


def checkout(to: Path) -> Path:
    """The tree as git has it, uncommitted changes included, without what lies around."""
    files = run(["git", "-C", ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]).split("\0")
    for name in filter(None, files):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, to / name)
    return to


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in folder.iterdir() if path.is_file()}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Wheel and sdist, built twice, of two copies, to the byte the same."""
    folders = []
    first = checkout(tmp_path_factory.mktemp("source"))
    for number in range(2):
        source = first if number == 0 else shutil.copytree(first, tmp_path_factory.mktemp("copy") / "source")
        folders.append(tmp_path_factory.mktemp(f"built{number}"))
        run([sys.executable, "-m", "build", "--outdir", folders[-1], source])
    assert digests(folders[0]) == digests(folders[1]) and len(digests(folders[0])) == 2
    return folders[0]


def python(version: str) -> Path | None:
    """A Python of this version: on PATH, or where pyenv keeps it."""
    found = [Path(name)] if (name := shutil.which(f"python{version}")) else []
    found += sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python{version}"))
    for path in found:
        if subprocess.run([path, "-c", ""], capture_output=True, check=False).returncode == 0:
            return path
    return None


def works(mdtool: Sequence[str | Path], folder: Path) -> None:
    """A description made, checked, and reconciled again: the libraries, the grammar and the schemas are there."""
    shutil.copy2(SAMPLE, folder / "guest.xml")
    run([*mdtool, "reconcile", "guest.xml", "guest.yaml"], cwd=folder)
    run([*mdtool, "check", "guest.yaml"], cwd=folder)
    run([*mdtool, "reconcile", "guest.xml", "guest.yaml", "--dry-run"], cwd=folder)
    assert run([*mdtool, "completion", "man"]).startswith(".TH")


@pytest.mark.parametrize("version", PYTHONS)
@pytest.mark.parametrize("kind", ["*.whl", "*.tar.gz"])
def test_it_installs_on_each_python(version: str, kind: str, built: Path, tmp_path: Path) -> None:
    interpreter, into = python(version), tmp_path / "env"
    (package,) = built.glob(kind)
    if interpreter is None and version == "3.14" and (DEBIAN / "usr/bin/python3.14").exists():
        works(in_root(package), DEBIAN / "srv" / "unpacked")
        return
    if interpreter is None:
        pytest.skip(f"no Python {version}: pyenv install {version}")
    run([interpreter, "-m", "venv", into])
    run([into / "bin/pip", "install", "--quiet", package])
    works([into / "bin/mdtool"], tmp_path)


def in_root(package: Path) -> list[str | Path]:
    """The package unpacked for the Python of the debootstrapped folder, which has the libraries; run in place by a chroot."""
    inside = DEBIAN / "srv" / "unpacked"
    shutil.rmtree(inside, ignore_errors=True)
    inside.mkdir(parents=True)
    if package.suffix == ".whl":
        shutil.unpack_archive(package, inside, "zip")
    else:
        with tarfile.open(package) as archive:
            archive.extractall(inside, filter="data")
        (unpacked,) = inside.iterdir()
        unpacked.rename(inside / "sdist")
    script = inside / "run"
    at = "/srv/unpacked/sdist" if package.suffix != ".whl" else "/srv/unpacked"
    script.write_text(
        "import os, sys\n"
        f"os.chroot({str(DEBIAN)!r})\n"
        "os.chdir('/srv/unpacked')\n"
        f"os.execve('/usr/bin/python3.14', ['python3.14', '-m', 'mdtool', *sys.argv[1:]], {{'PYTHONPATH': {at!r}, 'HOME': '/root'}})\n"
    )
    return [sys.executable, script]


def test_the_lowest_versions_work(built: Path, tmp_path: Path) -> None:
    """With the lowest version of each dependency that pyproject.toml allows, the pure tests pass."""
    uv = shutil.which("uv") or pytest.skip("no uv: pip install uv")
    interpreter = python("3.11") or pytest.skip("no Python 3.11")
    run([uv, "venv", "--quiet", "--python", interpreter, tmp_path / "env"])
    environment = ["--python", tmp_path / "env" / "bin" / "python", "--quiet"]
    run([uv, "pip", "install", *environment, "--resolution", "lowest-direct", "-r", ROOT / "pyproject.toml"])
    run([uv, "pip", "install", *environment, "--no-deps", next(built.glob("*.whl"))])
    run([uv, "pip", "install", *environment, "pytest>=8", "hypothesis"])
    found = run([uv, "pip", "freeze", *environment[:2]])
    assert {"jsonschema==4.17.0", "lark==1.1.0"} <= set(found.split()), found
    source = checkout(tmp_path / "source")
    shutil.rmtree(source / "mdtool")
    shutil.rmtree(source / "grammar")
    words = ["tests/test_cases.py", "tests/test_document.py", "tests/test_qtree.py"]
    run([tmp_path / "env/bin/python", "-m", "pytest", "-q", "--quick", *words], cwd=source)
    works([tmp_path / "env/bin/mdtool"], tmp_path)


def test_pipx_installs_it(built: Path, tmp_path: Path) -> None:
    pipx = shutil.which("pipx") or pytest.skip("no pipx: apt-get install pipx")
    os.environ |= {"PIPX_HOME": str(tmp_path / "home"), "PIPX_BIN_DIR": str(tmp_path / "bin")}
    try:
        run([pipx, "install", "--python", python("3.11") or sys.executable, next(built.glob("*.whl"))])
        works([tmp_path / "bin" / "mdtool"], tmp_path)
    finally:
        del os.environ["PIPX_HOME"], os.environ["PIPX_BIN_DIR"]


def test_the_debian_package(tmp_path: Path) -> None:
    """Built twice in a debootstrapped folder, to the byte the same; installed there, with man page and completions."""
    if os.geteuid() or not (DEBIAN / "usr/bin/dh").exists():
        pytest.skip(f"as root: scripts/system package {DEBIAN}")
    packages = []
    for number in range(2):
        source = DEBIAN / "srv" / f"build{number}" / "mdtool"
        shutil.rmtree(source.parent, ignore_errors=True)
        shutil.copytree(packages[0].parent / "mdtool", source) if packages else checkout(source)
        # -d: Debian takes a C compiler for granted, and nothing here is compiled
        run(["chroot", DEBIAN, "sh", "-c", f"cd /srv/build{number}/mdtool && dpkg-buildpackage -b -d -us -uc"])
        (package,) = source.parent.glob("*.deb")
        packages.append(package)
    assert packages[0].read_bytes() == packages[1].read_bytes()
    inside = f"/srv/build0/{packages[0].name}"
    run(["chroot", DEBIAN, "dpkg", "-i", inside])
    listed = run(["chroot", DEBIAN, "dpkg", "-L", "mdtool"]).split()
    assert {
        "/usr/bin/mdtool",
        "/etc/bash_completion.d/mdtool",
        "/usr/share/fish/vendor_completions.d/mdtool.fish",
        "/usr/share/man/man1/mdtool.1.gz",
        "/usr/share/zsh/vendor-completions/_mdtool",
    } <= set(listed)
    (DEBIAN / "srv" / "guest.xml").write_bytes(SAMPLE.read_bytes())
    (DEBIAN / "srv" / "guest.yaml").unlink(missing_ok=True)
    for words in ("reconcile guest.xml guest.yaml", "check guest.yaml", "reconcile guest.xml guest.yaml --dry-run"):
        run(["chroot", DEBIAN, "sh", "-c", f"cd /srv && mdtool {words}"])
