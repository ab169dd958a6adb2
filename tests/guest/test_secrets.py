"""Secrets of libvirt's XML put back into XML without them: at the same element, and at no other."""

from __future__ import annotations

import pytest

from mdtool.guest.secrets import with_secrets

SOURCE = "<source protocol='https' name='a.iso'{index}><host name='{host}' port='443'/>{cookies}</source>"
COOKIES = "<cookies><cookie name='c'>a&lt;b</cookie></cookies>"


def disk(*, host: str = "one.example", cookies: str = "", index: str = "", dev: str = "sda") -> str:
    source = SOURCE.format(host=host, cookies=cookies, index=index)
    return f"<disk type='network'>{source}<target dev='{dev}'/></disk>"


def domain(*devices: str) -> bytes:
    return f"<domain><devices>{''.join(devices)}</devices></domain>".encode()


def restored(source: bytes) -> tuple[str, list[str]]:
    return with_secrets(source, domain(disk(index=" index='1'")), domain(disk(index=" index='1'", cookies=COOKIES)))


@pytest.mark.parametrize("before", ["", disk(dev="sdb")])
def test_a_secret_with_text_is_put_back_at_its_own_device(before: str) -> None:
    text, lost = restored(domain(before, disk()))
    assert text.encode() == domain(before, disk(cookies=COOKIES))
    assert lost == []


def test_a_secret_is_not_for_another_server() -> None:
    other = domain(disk(host="two.example"))
    text, lost = restored(other)
    assert text.encode() == other
    assert lost == ["<cookies>, a secret of a <source> that is another one now"]


def test_a_device_that_is_gone_takes_its_secret_with_it() -> None:
    assert restored(domain(disk(dev="sdb"))) == (domain(disk(dev="sdb")).decode(), [])


def test_a_secret_of_the_xml_itself_stays() -> None:
    graphics = "<graphics type='vnc'{}/>"
    public, full = domain(graphics.format("")), domain(graphics.format(" passwd='old'"))
    own = domain(graphics.format(" passwd='new'"))
    assert with_secrets(own, public, full) == (own.decode(), [])
    spice = domain("<graphics type='spice'/>")
    assert with_secrets(spice, public, full) == (spice.decode(), [])
