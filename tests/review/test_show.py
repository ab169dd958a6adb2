"""``mdtool show``: the tree in the terminal, the picture, and the page in a real browser."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from html import unescape
from pathlib import Path
from xml.etree import ElementTree

import pytest

from mdtool.machine.document import document_from_text
from mdtool.machine.tree import Tree
from mdtool.review.diff import diff
from mdtool.review.html import html
from mdtool.review.names import names
from mdtool.review.show import Filter, headline, lines_of_diff, pruned, text, view
from mdtool.review.svg import svg
from tests.conftest import lacking
from tests.support import SAMPLES, run_mdtool
from tests.support_waiting import PATIENCE

TEXT = """\
mdtool: machine/1
guest: {name: web01}
machine: {type: pc-q35-7.2, arch: x86_64}
cpu: {model: qemu64, vcpus: 2}
memory: {size: 536870912}
buses:
  pcie.0:
    type: PCIE
    host: q35-pcihost
    devices:
    - {driver: mch, address: '00.0', origin: builtin}
    - id: rp1
      driver: pcie-root-port
      address: '02.0'
      properties: {chassis: 1}
      buses:
        rp1:
          type: PCIE
          devices:
          - {id: net0, driver: virtio-net-pci, address: '00.0', properties: {mac: '52:54:00:00:00:01', rombar: 0}}
    - {id: video0, driver: VGA, address: '03.0'}
"""
NEW = (
    TEXT.replace("'03.0'", "'04.0'").replace("rombar: 0", "rombar: 1")
    + "    - {id: sound0, driver: AC97, address: '05.0'}\n"
)
WHOLE = """\
pcie.0  PCIE of q35-pcihost
├─ 00.0  mch
├─ 02.0  rp1  pcie-root-port  chassis 1
│  └─ 00.0  net0  virtio-net-pci  mac 52:54:00:00:00:01, rombar 0
└─ 03.0  video0  VGA"""


def tree(words: str = TEXT) -> Tree:
    return document_from_text(words, "guest.yaml").tree


def drawn(wish: Filter, old: str | None = None, new: str = TEXT) -> str:
    return text(pruned(view(tree(new), tree(old) if old else None), wish))


def test_the_whole_tree() -> None:
    assert drawn(Filter()) == WHOLE
    assert headline(tree()) == "web01 · pc-q35-7.2 · x86_64 · 2 CPUs qemu64 · 512 MiB"


def test_filters_keep_what_is_above() -> None:
    assert drawn(Filter(driver="virtio-*")).splitlines() == [
        WHOLE.splitlines()[0],
        "└─ 02.0  rp1  pcie-root-port  chassis 1",
        "   └─ 00.0  net0  virtio-net-pci  mac 52:54:00:00:00:01, rombar 0",
    ]
    assert drawn(Filter(id="video?")).splitlines()[1:] == ["└─ 03.0  video0  VGA"]
    assert drawn(Filter(bus="rp*")).splitlines()[0] == "rp1  PCIE"
    assert "mch" not in drawn(Filter(builtins=False))
    assert "net0" not in drawn(Filter(depth=1))
    assert "rp1" in drawn(Filter(depth=1))
    assert drawn(Filter(driver="absent")) == ""


def test_what_changed() -> None:
    assert drawn(Filter(changed=True), TEXT, NEW).splitlines() == [
        "pcie.0  PCIE of q35-pcihost",
        "├─ 02.0  rp1  pcie-root-port  chassis 1",
        "│  └─ ~ 00.0  net0  virtio-net-pci  rombar: 0 -> 1",
        "├─ > 04.0  video0  VGA  was at pcie.0 03.0",
        "└─ + 05.0  sound0  AC97",
    ]
    assert "- 05.0  sound0  AC97  was at pcie.0 05.0" in drawn(Filter(changed=True), NEW, TEXT)


def test_what_went_takes_along_what_was_behind_it() -> None:
    start = TEXT.index("    - id: rp1")
    gone = TEXT[:start] + TEXT[TEXT.index("    - {id: video0") :]
    assert [line.split()[1:4] for line in drawn(Filter(changed=True), TEXT, gone).splitlines()[1:]] == [
        ["-", "02.0", "rp1"],
        ["-", "00.0", "net0"],
    ]


def test_long_lines_are_cut() -> None:
    assert max(len(line) for line in text(view(tree()), width=50).splitlines()) <= 50


def test_the_picture_is_well_formed_and_complete() -> None:
    root = ElementTree.fromstring(svg(view(tree(NEW), tree()), "a < b & c"))
    space = "{http://www.w3.org/2000/svg}"
    said = {"".join(element.itertext()) for element in root.iter(f"{space}text")}
    assert {"net0", "rp1", "video0", "sound0", "mch", "pcie.0", "02.0", "a < b & c"} <= said
    classes = {
        group.get("data-name"): str(group.get("class")) for group in root.iter(f"{space}g") if group.get("data-name")
    }
    assert classes["sound0"] == "card sound marked added"
    assert classes["mch@pcie.0/00.0"] == "card other builtin"


def test_cards_do_not_overlap() -> None:
    found = re.findall(r'translate\((\d+\.?\d*) (\d+\.?\d*)\)"><(?:title|rect)', svg(view(tree(NEW)), "x"))
    assert len(found) == len(set(found)) == 6


def test_many_builtins_are_one_card() -> None:
    many = "".join(f"    - {{driver: x{count}, address: '1{count}.0', origin: builtin}}\n" for count in range(5))
    assert "6 built-ins" in svg(view(tree(TEXT + many)), "x")


PORTS = "".join(f"    - {{id: rp{n}, driver: pcie-root-port, address: '1{n}.0'}}\n" for n in range(2, 6))


def test_a_picture_of_a_change_begins_with_it_and_folds_the_rest() -> None:
    new = NEW.replace("driver: virtio-net-pci", "driver: e1000e")
    before, after = tree(TEXT + PORTS), tree(new + PORTS)
    lines = lines_of_diff(before, after)
    assert [(line.node, line.mark) for line in lines] == [
        (change.node, change.kind) for change in diff(before, after).changes
    ]
    root = ElementTree.fromstring(svg(view(after, before), "x", lines))
    said = ["".join(element.itertext()) for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert said[1 : 1 + len(lines)] == [line.text for line in lines]
    assert "virtio-net-pci → e1000e · 52:54:00:00:00:01" in said
    assert "5 unchanged" in said and "rp2" not in said
    page = html(view(after, before), "x", lines)
    assert '<section id="changes"' in page
    assert page.count('aria-expanded="true"') < html(view(after), "x").count('aria-expanded="true"') + 1
    assert '<section id="changes"' not in html(view(after), "x")


def test_empty_ports_are_one_card_and_cards_say_what_the_guest_calls_a_device() -> None:
    picture = svg(view(tree(TEXT + PORTS)), "x")
    assert ">4 empty ports<" in picture and ">rp3<" not in picture
    assert names(tree())[0].name in picture


def test_important_buses_come_first() -> None:
    text = TEXT.replace("buses:\n  pcie.0", "buses:\n  a:\n    type: System\n  pcie.0", 1)
    assert [item.name for item in view(tree(text))] == ["pcie.0", "a"]


def test_a_plan_is_drawn_with_its_reasons(tmp_path: Path) -> None:
    xml = (SAMPLES / "web01" / "guest.xml").read_text()
    (tmp_path / "a.xml").write_text(xml)
    (tmp_path / "b.xml").write_text(re.sub(r"<rng .*?</rng>", "", xml, flags=re.S))
    assert run_mdtool("reconcile", tmp_path / "a.xml", tmp_path / "a.yaml").returncode == 0
    words = ("show", tmp_path / "a.yaml", "--plan", tmp_path / "b.xml", "--html", tmp_path / "a.html")
    assert run_mdtool(*words).returncode == 0
    assert "no longer in the XML; can be hot-unplugged" in (tmp_path / "a.html").read_text()


EVIL = TEXT.replace("chassis: 1", "name: '</script><script>document.title=1</script><b>\"'")


def test_names_and_values_are_escaped() -> None:
    page = html(view(tree(EVIL)), "<i>x</i>")
    assert "<script>document" not in page
    assert "<i>" not in page
    assert ElementTree.fromstring(svg(view(tree(EVIL)), "<i>x</i>")) is not None


def test_the_page_refers_to_nothing() -> None:
    page = html(view(tree()), "x")
    assert not re.search(r"(src|href)=|url\(|@import|https?://(?!www\.w3\.org)", page)


@pytest.fixture
def chromium() -> str:
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        ask = ["apt-cache", "policy", "chromium"]
        if shutil.which(ask[0]) and "Candidate: (none)" in subprocess.run(ask, capture_output=True, text=True).stdout:
            pytest.skip("this distribution has no package chromium (Ubuntu: snap install chromium)")
        lacking("chromium", "apt-get install chromium")
    assert path is not None
    return path


def run_in_browser(chromium: str, page: str, script: str, folder: Path, *options: str) -> dict[str, object]:
    """What ``script`` returns after the page has loaded; it runs in a real browser."""
    tail = f"<script>document.documentElement.dataset.said=JSON.stringify((()=>{{{script}}})())</script></body>"
    path = folder / "page.html"
    path.write_text(page.replace("</body>", tail))
    quiet = [
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--disable-quic",
    ]
    words = [chromium, "--headless", "--no-sandbox", "--disable-gpu", *quiet, f"--user-data-dir={folder}/profile", *options]
    done = subprocess.run([*words, "--dump-dom", path.as_uri()], capture_output=True, text=True, timeout=PATIENCE)
    said = re.search(r'data-said="([^"]*)"', done.stdout)
    assert said, done.stderr[-2000:]
    found: dict[str, object] = json.loads(unescape(said[1]))
    return found


KEYS = """
const key=(t,k)=>t.dispatchEvent(new KeyboardEvent('keydown',{key:k,bubbles:true,cancelable:true}));
const at=()=>document.activeElement.dataset.name;const seen=[];
key(document,'/');const focused=document.activeElement.id;
search.value='virtio';search.dispatchEvent(new Event('input'));
const rows2=shown().map(r=>r.dataset.name),dim=cards.filter(c=>c.classList.contains('dim')).length;
key(search,'Enter');seen.push(at());
key(search,'Escape');rows[0].focus();
for(const k of ['ArrowDown','ArrowDown','ArrowRight','ArrowLeft','ArrowLeft','ArrowDown','End','Home']){
 key(document.activeElement,k);seen.push(at())}
const net=rows.find(r=>r.dataset.name==='net0');
cards.find(c=>c.dataset.name==='net0').dispatchEvent(new MouseEvent('click',{bubbles:true}));
const ground=getComputedStyle(document.body).backgroundColor;document.getElementById('theme').click();
return {focused,rows2,dim,seen,chosen:details.querySelector('h2').textContent,said:details.textContent,
 ground,other:getComputedStyle(document.body).backgroundColor,title:document.title,
 wide:document.documentElement.scrollWidth<=innerWidth,face:getComputedStyle(document.querySelector('.card rect')).fill}
"""


def test_the_page_in_a_browser(chromium: str, tmp_path: Path) -> None:
    said = run_in_browser(chromium, html(view(tree(EVIL)), "web01"), KEYS, tmp_path)
    assert said["title"] == "web01", "a value of the description ran as a script"
    assert said["focused"] == "search"
    assert said["rows2"] == ["pcie.0", "rp1", "net0"]
    assert said["dim"] == 3
    #       Enter,  down, down, right (its child), left (back), left (closes), down (past it), end, home
    assert said["seen"] == ["net0", "mch@pcie.0/00.0", "rp1", "net0", "rp1", "rp1", "video0", "video0", "pcie.0"]
    assert said["chosen"] == "net0"
    assert "52:54:00:00:00:01" in str(said["said"])
    assert {said["ground"], said["other"]} == {"rgb(248, 250, 252)", "rgb(11, 17, 32)"}
    assert said["face"] not in ("none", "rgb(0, 0, 0)")
    assert said["wide"] is True


def test_the_command(tmp_path: Path) -> None:
    path, new = tmp_path / "guest.yaml", tmp_path / "new.yaml"
    path.write_text(TEXT)
    new.write_text(NEW)
    done = run_mdtool("show", path)
    assert (done.returncode, done.stdout) == (0, headline(tree()) + "\n" + WHOLE + "\n")
    done = run_mdtool("show", new, "--against", path, "--svg", tmp_path / "a.svg", "--html", tmp_path / "a.html")
    assert (done.returncode, done.stdout) == (0, "")
    assert ">+</text>" in (tmp_path / "a.svg").read_text()
    assert "marked added" in (tmp_path / "a.html").read_text()
