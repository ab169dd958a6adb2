"""git with descriptions: diff, merge, rebase, conflicts, hooks, all with the real git."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from mdtool.cli import main
from mdtool.machine.document import document_from_text, tree_with
from mdtool.machine.edit import rewritten
from mdtool.machine.tree import Tree
from mdtool.machine.writer import canonical, yaml_from_tree
from mdtool.review.check import checked
from mdtool.review.diff import diff
from mdtool.review.merge3 import MergedText, merged_text
from tests.conftest import require
from tests.support import run_mdtool

PORT = """\
    - id: pci.%(n)d
      driver: pcie-root-port
      address: '02.%(f)d'
      origin: controller/pci/%(n)d
      properties: {chassis: %(n)d, port: %(p)d%(m)s}
      buses:
        pci.%(n)d:
          type: PCIE
"""


def nic(name: str, mac: str, address: str = "00.0") -> str:
    return (
        f"          - id: {name}\n            driver: virtio-net-pci\n            address: '{address}'\n"
        f"            origin: interface/52:54:00:00:00:{mac}\n            properties: {{mac: '52:54:00:00:00:{mac}'}}\n"
    )


def port(number: int, *behind: str) -> str:
    multi = ", multifunction: true" if number == 1 else ""
    text = PORT % {"n": number, "f": number - 1, "p": 15 + number, "m": multi}
    return text + ("          devices:\n" + "".join(behind) if behind else "")


HEAD = """\
# the web server; ask Ada before touching it
mdtool: machine/1
guest: {name: web01}
machine: {type: pc-q35-7.2, arch: x86_64}
cpu: {model: qemu64, vcpus: 2}
memory: {size: 536870912}
buses:
  pcie.0:
    type: PCIE
    devices:
    - {driver: mch, address: '00.0', origin: builtin}
"""
PINS = '---\n{"mdtool": "pins/1",\n "net0": {"vectors": 3}}\n'
VGA = "    - {id: video0, driver: VGA, address: '01.0'}   # needed by the installer\n"


def text(*parts: str, pins: str = PINS) -> str:
    return HEAD + "".join(parts) + pins


BASE = text(VGA, port(1, nic("net0", "01")), port(2), port(3))


def tree(words: str) -> Tree:
    return document_from_text(words, "web01.yaml").tree


def merged(ours: str, theirs: str, base: str = BASE) -> MergedText:
    found = merged_text(base, ours, theirs, "web01.yaml")
    if not found.conflicts:
        again = merged_text(base, theirs, ours, "web01.yaml")
        assert not again.conflicts, "a merge without conflicts has none the other way round"
        assert not checked(document_from_text(found.text, "web01.yaml")).errors
    return found


def where(words: str) -> dict[str, str]:
    return {p.name: f"{p.bus.name if p.bus else ''} {p.node.address}" for p in tree(words).places}


def test_one_side_changed() -> None:
    ours = BASE.replace("vcpus: 2", "vcpus: 4")
    assert merged(ours, BASE).text == ours
    assert merged(BASE, ours).text == ours
    assert merged(BASE, BASE).text == BASE


def test_both_added_a_nic_at_one_address_with_one_id() -> None:
    """libvirt's ids are numbers: two branches give the same ones to different NICs."""
    ours = text(VGA, port(1, nic("net0", "01")), port(2, nic("net1", "0a")), port(3))
    theirs = text(VGA, port(1, nic("net0", "01")), port(2, nic("net1", "0b")), port(3))
    found = merged(ours, theirs)
    assert not found.conflicts
    places = where(found.text)
    assert (places["net0"], places["net1"], places["net2"]) == ("pci.1 00.0", "pci.2 00.0", "pci.3 00.0")
    macs = {p.name: p.node.properties["mac"] for p in tree(found.text).places if "mac" in p.node.properties}
    assert macs == {f"net{n}": f"52:54:00:00:00:{mac}" for n, mac in ((0, "01"), (1, "0a"), (2, "0b"))}
    assert [note.split(":")[0] for note in found.notes] == [
        "net1 of theirs (virtio-net-pci) is now net2",
        "net2 (virtio-net-pci) is now at pci.3 00.0",
    ]
    assert "# needed by the installer" in found.text


def test_a_new_port_where_none_is_empty() -> None:
    ours = text(VGA, port(1, nic("net0", "01")), port(2, nic("net1", "0a")), port(3, nic("net3", "0c")))
    theirs = text(VGA, port(1, nic("net0", "01")), port(2, nic("net2", "0b")), port(3))
    places = where(merged(ours, theirs).text)
    assert places["net1"] == "pci.2 00.0"
    assert places["net2"] == "pci.4 00.0"
    assert places["pci.4"] == "pcie.0 03.0"


def test_an_address_that_is_kept_is_not_given_away() -> None:
    kept = "retired:\n- {origin: x, bus: pci.3, address: '00.0'}\n"
    base = text(VGA, port(1, nic("net0", "01")), port(2), port(3), kept)
    ours = text(VGA, port(1, nic("net0", "01")), port(2, nic("net1", "0a")), port(3), kept)
    theirs = text(VGA, port(1, nic("net0", "01")), port(2, nic("net2", "0b")), port(3), kept)
    assert where(merged(ours, theirs, base).text)["net2"] == "pci.4 00.0"


def test_a_kept_slot_is_not_given_away() -> None:
    kept = "retired:\n- {origin: x, bus: pcie.0, address: '03.0'}\n"
    one, two = (f"    - {{id: {name}, driver: e1000, address: '04.0'}}\n" for name in ("a", "b"))
    first, base = port(1, nic("net0", "01")), text(VGA, port(1, nic("net0", "01")), kept)
    places = where(merged(text(VGA, first, one, kept), text(VGA, first, two, kept), base).text)
    assert (places["a"], places["b"]) == ("pcie.0 04.0", "pcie.0 05.0")  # 01 and 02 are in use, 03 is kept


def test_both_added_the_same_device() -> None:
    ours = text(VGA, port(1, nic("net0", "01")), port(2, nic("net1", "0a")), port(3))
    theirs = ours.replace("mac: '52:54:00:00:00:0a'", "mac: '52:54:00:00:00:0a', rombar: 0")
    found = merged(ours, theirs)
    assert where(found.text)["net1"] == "pci.2 00.0"
    assert "net2" not in where(found.text)
    assert tree(found.text).by_name["net1"].node.properties["rombar"] == 0


def test_one_renames_nothing_that_both_had() -> None:
    ours = BASE.replace("mac: '52:54:00:00:00:01'", "mac: '52:54:00:00:00:01', rombar: 0")
    theirs = BASE.replace("mac: '52:54:00:00:00:01'", "mac: '52:54:00:00:00:01', acpi-index: 1")
    found = merged(ours, theirs)
    assert tree(found.text).by_name["net0"].node.properties == {"mac": "52:54:00:00:00:01", "rombar": 0, "acpi-index": 1}


def test_a_real_conflict_has_both_sides() -> None:
    ours, theirs = (BASE.replace("chassis: 2, port: 17", f"chassis: 2, port: {n}") for n in (40, 41))
    found = merged(ours, theirs)
    assert found.conflicts == ("pci.2.port: ours 40, theirs 41, before 17",)
    assert "<<<<<<< ours\n      properties: {chassis: 2, port: 40}\n=======\n" in found.text
    assert "=======\n      properties: {chassis: 2, port: 41}\n>>>>>>> theirs\n" in found.text
    assert found.text.count("<<<<<<<") == 1


def test_a_conflict_does_not_hide_what_merges() -> None:
    ours = BASE.replace("vcpus: 2", "vcpus: 4").replace("size: 536870912", "size: 1073741824")
    theirs = BASE.replace("vcpus: 2", "vcpus: 8").replace("name: web01", "name: web02")
    found = merged(ours, theirs)
    assert found.conflicts == ("cpu.vcpus: ours 4, theirs 8, before 2",)
    assert "name: web02" in found.text
    assert "size: 1073741824" in found.text


def test_removed_here_changed_there() -> None:
    ours = BASE.replace(VGA, "")
    assert merged(ours, BASE).text == ours
    theirs = BASE.replace("'01.0'}", "'01.0', properties: {vgamem_mb: 32}}")
    found = merged(ours, theirs)
    assert found.conflicts == ("video0: removed on one side, changed on the other (theirs)",)
    assert "<<<<<<< ours\n=======\n    - " in found.text


def test_a_port_stays_when_the_other_side_uses_it() -> None:
    ours = text(VGA, port(1, nic("net0", "01")), port(2))
    theirs = text(VGA, port(1, nic("net0", "01")), port(2), port(3, nic("net1", "0a")))
    found = merged(ours, theirs)
    assert not found.conflicts
    assert where(found.text)["net1"] == "pci.3 00.0"
    assert found.notes == ("pci.3 stays: net1 is behind it",)


def test_two_that_moved_to_one_place() -> None:
    other = "    - {id: sound0, driver: AC97, address: '05.0'}\n"
    base = text(VGA, other, port(1, nic("net0", "01")))
    found = merged(base.replace("'01.0'", "'07.0'"), base.replace("'05.0'", "'07.0'"), base)
    assert found.conflicts == ("sound0 and video0: both were moved to pcie.0 07.0",)
    assert found.text.count("<<<<<<<") >= 1


def test_what_is_wrong_only_together() -> None:
    ours = BASE.replace("'52:54:00:00:00:01'}", "'52:54:00:00:00:01', bootindex: 1}")
    theirs = text(
        VGA, port(1, nic("net0", "01")), port(2), port(3, nic("net1", "0a").replace("0a'}", "0a', bootindex: 1}"))
    )
    (conflict,) = merged(ours, theirs).conflicts
    assert "bootindex" in conflict


def test_what_is_no_description_is_merged_by_lines() -> None:
    assert merged_text("a\nb\nc\n", "A\nb\nc\n", "a\nb\nC\n").text == "A\nb\nC\n"
    assert merged_text("a\n", "b\n", "c\n").conflicts


def test_what_was_recorded_of_the_machine_stays() -> None:
    """Who was asked, and the machine's own properties, though both sides changed something."""
    recorded = {"source": ("monitor",), "machine_pins": {"nvdimm": False, "vmport": "on"}}
    base = replace(tree(BASE), **recorded)
    ours = replace(base, machine_pins={"nvdimm": True, "vmport": "on"})
    theirs = replace(base, memory={"size": 1 << 30})
    found = tree(merged(*map(yaml_from_tree, (ours, theirs)), base=yaml_from_tree(base)).text)
    assert (found.source, found.machine_pins) == (("monitor",), {"nvdimm": True, "vmport": "on"})


def test_pins_follow_their_devices() -> None:
    ours = text(
        VGA,
        port(1, nic("net0", "01")),
        port(2, nic("net1", "0a")),
        port(3),
        pins=PINS.replace("3}}", '3},\n "net1": {"vectors": 7}}'),
    )
    theirs = text(
        VGA,
        port(1, nic("net0", "01")),
        port(2, nic("net1", "0b")),
        port(3),
        pins=PINS.replace("3}}", '3},\n "net1": {"vectors": 9}}'),
    )
    found = tree(merged(ours, theirs).text)
    assert [found.by_name[f"net{n}"].node.pins["vectors"] for n in range(3)] == [3, 7, 9]


# --- git -------------------------------------------------------------------------------------------------------------


class Repository:
    def __init__(self, folder: Path) -> None:
        require("git")
        self.folder = folder
        self.file = folder / "web01.yaml"
        self("init", "-q", "-b", "main")
        self("config", "user.name", "t")
        self("config", "user.email", "t@example.org")
        done = run_mdtool("git-setup", cwd=folder)
        assert done.returncode == 0, done.stderr

    def __call__(self, *words: str, status: int | None = 0) -> str:
        done = subprocess.run(["git", *words], cwd=self.folder, capture_output=True, text=True)
        assert status is None or done.returncode == status, done.stdout + done.stderr
        return done.stdout + done.stderr

    def commit(self, words: str, message: str = "x") -> None:
        self.file.write_text(words)
        self("add", "-A")
        self("commit", "-qm", message)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Repository:
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "none"))
    found = Repository(tmp_path)
    found.commit(BASE)
    return found


OURS = text(VGA, port(1, nic("net0", "01")), port(2, nic("net1", "0a")), port(3))
THEIRS = text(VGA, port(1, nic("net0", "01")), port(2, nic("net1", "0b")), port(3))


def test_branches_merge(repository: Repository) -> None:
    repository("checkout", "-qb", "theirs")
    repository.commit(THEIRS)
    repository("checkout", "-q", "main")
    repository.commit(OURS)
    said = repository("merge", "-q", "--no-edit", "theirs")
    assert "net1 of theirs (virtio-net-pci) is now net2" in said
    assert where(repository.file.read_text())["net2"] == "pci.3 00.0"
    assert not repository("status", "--porcelain")


def test_a_rebase(repository: Repository) -> None:
    repository("checkout", "-qb", "topic")
    repository.commit(THEIRS, "a NIC")
    repository.commit(THEIRS.replace("0b'}", "0b', rombar: 0}"), "without its ROM")
    repository("checkout", "-q", "main")
    repository.commit(BASE.replace("size: 536870912", "size: 1073741824"))
    repository("rebase", "-q", "main", "topic")
    found = tree(repository.file.read_text())
    assert found.by_name["net1"].node.properties["rombar"] == 0
    assert found.memory["size"] == 1073741824


def test_a_conflict_stops_the_merge(repository: Repository) -> None:
    repository("checkout", "-qb", "theirs")
    repository.commit(BASE.replace("vcpus: 2", "vcpus: 8"))
    repository("checkout", "-q", "main")
    repository.commit(BASE.replace("vcpus: 2", "vcpus: 4"))
    said = repository("merge", "theirs", status=1)
    assert "conflict: cpu.vcpus: ours 4, theirs 8, before 2" in said
    assert "UU web01.yaml" in repository("status", "--porcelain")
    assert repository.file.read_text().count("<<<<<<<") == 1
    shown = [line for line in repository("diff").splitlines()[5:] if line[:2].strip()]
    assert shown == ["++<<<<<<< ours", " +cpu.vcpus=4", "++=======", "+ cpu.vcpus=8", "++>>>>>>> theirs"]
    repository.commit(BASE.replace("vcpus: 2", "vcpus: 6"))
    assert not repository("status", "--porcelain")


def test_git_diff_shows_devices(repository: Repository) -> None:
    """And sizes in bytes, however they are written."""
    repository.file.write_text(OURS.replace("machine: {type", "machine:   {type").replace("536870912", "1G"))
    changed = [line for line in repository("diff").splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == [
        "-memory.size=536870912",
        "+memory.size=1073741824",
        "+pci.2 00.0: net1 virtio-net-pci mac=52:54:00:00:00:0a (interface/52:54:00:00:00:0a)",
    ]


PINNED = {f"x-pin-{n}": n for n in range(60)}


@pytest.mark.parametrize("count", [1, 2, 3])
def test_a_nic_removed_is_few_short_lines(repository: Repository, count: int) -> None:
    """The last one of its driver takes the driver's pins along; plain git shows short lines as well."""
    nics = [port(n + 1, nic(f"net{n}", f"0{n}")) for n in range(count)]
    before = tree(text(VGA, *nics, port(count + 1), pins=""))
    before = tree_with(
        before, {f"net{n}": {"pins": PINNED} for n in range(count)} | {"video0": {"pins": {**PINNED, "x": 1}}}
    )
    repository.commit(yaml_from_tree(before))
    whole = document_from_text(repository.file.read_text(), "web01.yaml")
    after = tree(text(VGA, port(1), *nics[1:], port(count + 1), pins=""))
    after = tree_with(after, {name: {"pins": place.node.pins} for name, place in before.by_name.items() if name != "net0"})
    repository.file.write_text(rewritten(whole, after))
    for words, most in ((("diff",), 1), (("diff", "--no-textconv"), 7)):
        shown = repository(*words).splitlines()
        changed = [line for line in shown if line[:1] in "+-" and line[:3] not in ("+++", "---")]
        assert len(changed) <= most + (15 if count == 1 else 0)
        assert any("net0" in line for line in changed)
        assert max(map(len, shown)) <= 120


def test_a_pin_of_one_device_among_many_shows(repository: Repository) -> None:
    """A value chosen for one device, which its pins then lack, and a pin that is another: each is a line."""
    nics = [port(n + 1, nic(f"net{n}", f"0{n}")) for n in range(3)]
    before = tree_with(tree(text(VGA, *nics, pins="")), {f"net{n}": {"pins": PINNED} for n in range(3)})
    repository.commit(yaml_from_tree(before))
    pins = {key: value for key, value in PINNED.items() if key != "x-pin-7"}
    after = tree_with(before, {"net0": {"pins": pins}, "net2": {"pins": {**PINNED, "x-pin-8": True}}})
    assert tree(yaml_from_tree(after)) == canonical(after)
    repository.file.write_text(yaml_from_tree(after))
    changed = [line for line in repository("diff").splitlines() if line[:1] in "+-" and line[:3] not in ("+++", "---")]
    assert changed == ["+net0 ~ x-pin-7", "+net2 ~ x-pin-8=true"]


def test_other_files_are_left_alone(repository: Repository) -> None:
    other = repository.folder / "other.yaml"
    other.write_text("a: 1\n\n\nb: 1\n")
    repository("add", "-A")
    repository("commit", "-qm", "x")
    repository("checkout", "-qb", "theirs")
    other.write_text("a: 2\n\n\nb: 1\n")
    repository("commit", "-qam", "x")
    assert "+a: 2" in repository("show")
    repository("checkout", "-q", "main")
    other.write_text("a: 1\n\n\nb: 2\n")
    repository("commit", "-qam", "x")
    repository("merge", "-q", "--no-edit", "theirs")
    assert other.read_text() == "a: 2\n\n\nb: 2\n"


def test_both_added_the_file(repository: Repository) -> None:
    new = repository.folder / "new.yaml"
    repository("checkout", "-qb", "theirs")
    new.write_text(OURS)
    repository("add", "-A")
    repository("commit", "-qm", "x")
    repository("checkout", "-q", "main")
    new.write_text(THEIRS)
    repository("add", "-A")
    repository("commit", "-qm", "x")
    repository("merge", "--no-edit", "theirs")
    assert {"net1", "net2"} <= set(where(new.read_text()))


def test_setup_is_idempotent_and_goes_away(repository: Repository) -> None:
    attributes = repository.folder / ".gitattributes"
    attributes.write_text("*.png binary\n*.yaml diff=mdtool merge=mdtool\n")
    for _ in range(2):
        assert run_mdtool("git-setup", cwd=repository.folder).returncode == 0
        assert attributes.read_text() == "*.png binary\n*.yaml diff=mdtool merge=mdtool\n"
    assert run_mdtool("git-setup", "--remove", cwd=repository.folder).returncode == 0
    assert attributes.read_text() == "*.png binary\n"
    assert "mdtool" not in repository("config", "--list")
    done = run_mdtool("git-setup", cwd="/")
    assert (done.returncode, "git repository" in done.stderr) == (2, True)


def test_the_hook_is_a_command_that_works(tmp_path: Path) -> None:
    from ruamel.yaml import YAML

    hooks = Path(__file__).resolve().parents[2] / ".pre-commit-hooks.yaml"
    (hook,) = YAML(typ="safe").load(hooks.read_text())
    program, *words = hook["entry"].split()
    assert program == "mdtool"
    other, bad = tmp_path / "other.yaml", tmp_path / "bad.yaml"
    other.write_text("a: 1\n")
    bad.write_text(BASE.replace("'01.0'", "'02.0'"))
    done = run_mdtool(*words, other)
    assert done.returncode == 0, done.stdout
    done = run_mdtool(*words, other, bad)
    assert (done.returncode, "[address-taken]" in done.stdout) == (2, True)


def test_a_merge_is_what_both_sides_say() -> None:
    """What merges without collisions differs from each side by exactly what the other one did."""
    ours = BASE.replace("vcpus: 2", "vcpus: 4")
    theirs = OURS
    both = tree(merged(ours, theirs).text)
    assert [str(c) for c in diff(tree(ours), both).changes] == [str(c) for c in diff(tree(BASE), tree(theirs)).changes]
    assert [str(c) for c in diff(tree(theirs), both).changes] == [str(c) for c in diff(tree(BASE), tree(ours)).changes]


# --- whatever happens: nothing is lost, and git goes on ----------------------------------------------------------------


def test_a_file_name_with_a_dash_in_front(repository: Repository) -> None:
    dashed = repository.folder / "-z.yaml"
    dashed.write_text(BASE)
    repository.commit(BASE)
    for path in (dashed, repository.file):
        path.write_text(BASE.replace("qemu64", "max"))
    assert repository("diff").count("+cpu.model=max") == 2


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text.replace("vcpus: 2", f"vcpus: {'9' * 5000}").encode(),
        lambda text: text.replace("the web server", "caf\xe9").encode("latin-1"),
        lambda text: text.replace("the web server", "a\0b").encode(),
    ],
    ids=["a number without end", "Latin-1", "NUL"],
)
def test_a_merge_that_mdtool_cannot_do_leaves_both_sides(damage: Callable[[str], bytes], repository: Repository) -> None:
    def commit(text: str) -> None:
        repository.file.write_bytes(damage(text))
        repository("commit", "-qam", "x")

    commit(BASE)
    repository("checkout", "-qb", "theirs")
    commit(BASE.replace("qemu64", "max"))
    repository("checkout", "-q", "main")
    commit(BASE.replace("needed by the installer", "not needed"))
    repository("merge", "-q", "theirs", "-m", "both", status=None)
    after = repository.file.read_bytes()
    assert b"model: max" in after and b"not needed" in after


def test_a_merge_that_fails_unexpectedly_exits_with_2_and_leaves_both_sides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object) -> None:
        raise RecursionError("deep")

    monkeypatch.setattr("mdtool.review.merge3.merged_text", fails)
    for name, words in (
        ("base", BASE),
        ("ours", BASE.replace("qemu64", "max")),
        ("theirs", BASE.replace("qemu64", "host")),
    ):
        (tmp_path / name).write_text(words)
    paths = [str(tmp_path / name) for name in ("base", "ours", "theirs")]
    assert main(["merge", *paths, "-o", paths[1]]) == 2
    after = (tmp_path / "ours").read_text()
    assert "model: max" in after and "model: host" in after and "<<<<<<< ours" in after
    assert "mdtool failed: RecursionError" in capsys.readouterr().err
