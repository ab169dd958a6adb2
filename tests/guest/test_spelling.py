"""What no libvirt knows is said at its place, wherever in the XML it stands."""

from __future__ import annotations

import json

import pytest
from conftest import lacking
from support_relaxng import SCHEMAS, spelling

from mdtool.errors import InputError, Report
from mdtool.guest.spelling import check_spelling
from mdtool.guest.xml import element_from_bytes
from mdtool.resources import resource

DOMAIN = """<domain type='kvm'>
  <name>web01</name>
  {top}
  <os><type>hvm</type>{os}</os>
  <devices>{devices}</devices>
</domain>"""


def said(*, top: str = "", os: str = "", devices: str = "") -> list[str]:
    report = Report()
    check_spelling(element_from_bytes(DOMAIN.format(top=top, os=os, devices=devices).encode(), "web01.xml"), report)
    return [str(warning) for warning in report.warnings]


@pytest.mark.parametrize(
    ("part", "text", "what"),
    [
        (
            "top",
            "<memoryBacking><source type='disc'/></memoryBacking>",
            "unknown value 'disc'; expected one of anonymous, file",
        ),
        ("top", "<on_poweroff>explode</on_poweroff>", "<on_poweroff>: unknown value 'explode'"),
        ("top", "<clock offset='utc'><timer name='tsc' mode='fast'/></clock>", "clock/timer/@mode: unknown value 'fast'"),
        ("top", "<iothreads>two</iothreads>", "<iothreads>: unknown value 'two'; expected a number"),
        ("top", "<cpu mode='host-pasthrough'/>", "cpu/@mode: unknown value 'host-pasthrough'"),
        ("top", "<cpu><topology socket='1'/></cpu>", "cpu/topology/@socket is not known"),
        ("top", "<features><warp/></features>", "<features/warp> is not known"),
        ("top", "<pm><suspend-to-memory enabled='no'/></pm>", "<pm/suspend-to-memory> is not known"),
        ("os", "<bootmenu enabel='yes'/>", "os/bootmenu/@enabel is not known"),
        ("os", "<boot dev='harddisk'/>", "os/boot/@dev: unknown value 'harddisk'; expected one of cdrom, fd, hd, network"),
        ("devices", "<disk><driver cache='writeback '/></disk>", "devices/disk/driver/@cache: unknown value 'writeback '"),
        (
            "devices",
            "<disk><backingStore type='file'><format type='cow2'/></backingStore></disk>",
            "devices/disk/backingStore/format/@type: unknown value 'cow2'",
        ),
    ],
)
def test_a_slip_is_said_at_its_place(part: str, text: str, what: str) -> None:
    (warning,) = said(**{part: text})
    assert what in warning and warning.startswith(f"web01.xml:{3 if part == 'top' else 4 if part == 'os' else 5}:")


def test_what_libvirt_knows_is_not_said() -> None:
    """Free text, foreign namespaces, metadata of any kind, and names of devices, which their rows know."""
    top = "<metadata><x:app xmlns:x='http://example.org/x' any='1'><x:b/></x:app></metadata><on_crash>restart</on_crash>"
    assert not said(
        top=top, os="<loader type='pflash' readonly='yes'>/usr/share/x.fd</loader>", devices="<disk shape='round'/>"
    )


def test_what_is_an_error_already_is_not_said_twice() -> None:
    domain = element_from_bytes(DOMAIN.format(top="<clock offset='soon'/>", os="", devices="").encode(), "web01.xml")
    report = Report()
    report.error(InputError("unknown clock offset", at=domain.at("clock")))
    check_spelling(domain, report)
    assert not report.warnings


def test_all_of_the_installed_libvirt_is_known() -> None:
    """Each name and value; the table may have more, of other libvirts."""
    if not (SCHEMAS / "domain.rng").is_file():
        lacking("libvirt's schemas", "apt-get install libvirt0")
    known = json.loads(resource("schemas", "guest-xml.json").read_text())
    assert not _missing(spelling([SCHEMAS]), known, "")
    assert _missing({"clock": {"@offset": "utc soon", "@warp": ""}}, known, "") == ["clock/@offset", "clock/@warp"]


def _missing(here: dict[str, object], known: dict[str, object], path: str) -> list[str]:
    found: list[str] = []
    for name, below in here.items():
        have = known.get(name)
        if isinstance(below, dict):
            if name in known or not path.startswith("devices"):
                found += (
                    _missing(below, have, f"{path}/{name}".strip("/")) if isinstance(have, dict) else [f"{path}/{name}"]
                )
        elif have is None:
            found += [] if path.startswith("devices") else [f"{path}/{name}"]  # a newer libvirt takes any value there
        elif have and isinstance(below, str) and (not below or set(below.split()) - set(str(have).split())):
            found.append(f"{path}/{name}")
    return found
