"""<sound> and its codecs."""

from __future__ import annotations

from collections.abc import Iterator

from mdtool.guest.choices import has_newest_qemu
from mdtool.guest.convert import number, switch
from mdtool.guest.engine import part_of
from mdtool.guest.host import carried
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop
from mdtool.machine.buses.providers import provider_of
from mdtool.records import replace

CODECS = {"duplex": "hda-duplex", "micro": "hda-micro", "output": "hda-output"}

CODEC = ElementRow(
    "codec",
    choose="@type",
    drivers=CODECS,
    alias="codec",
)

#: Sound cards that are buses: they play through codecs, by default one of this kind.
HDA = ("ich6", "ich9")
DEFAULT_CODEC = "duplex"


def default_codec(context: ElementContext, sound: Wanted) -> Iterator[Wanted]:
    """The codec that libvirt adds to an HDA card whose XML has none."""
    if sound.facts["choice"] in HDA and context.element.first("codec") is None:
        codec = Wanted("codec", CODECS[DEFAULT_CODEC], "", alias="codec", facts={"choice": DEFAULT_CODEC})
        yield part_of(sound, codec, "codec", 0)


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    """A SoundBlaster's port and interrupt are its address; the newest libvirt writes how many streams virtio has."""
    if (codec := context.element.first("codec")) is not None and not provider_of(wanted.driver).whole:
        what = f"sound: codec means nothing to {wanted.driver or wanted.facts['choice']} and is left out"
        context.report.warn(what, at=codec.position, rule="property-fits")
    if wanted.driver.startswith("virtio-sound") and has_newest_qemu(context.guest):
        return replace(wanted, facts={**wanted.facts, "made_up": {"streams": wanted.properties.get("streams", 2)}})
    if wanted.driver != "sb16" or wanted.address is None:
        return wanted
    place = {name: value for name, value in wanted.address.numbers.items() if name in ("iobase", "irq")}
    return replace(wanted, properties={**wanted.properties, **place})


SOUND = ElementRow(
    "sound",
    choose="@model",
    drivers={
        "ac97": "AC97",
        "es1370": "ES1370",
        "ich6": "intel-hda",
        "ich7": "ich9-intel-hda",
        "ich9": "ich9-intel-hda",
        "sb16": "sb16",
        "pcspk": "",
        "usb": "usb-audio",
        "virtio": "virtio-sound-pci",
    },
    props={
        "multi": Prop("@multichannel", switch, ("usb-audio",)),
        "streams": Prop("@streams", number, ("virtio-sound-*",)),
        **VIRTIO,
    },
    alias="sound",
    host={"audio/@id": carried("display", "the backend")},
    parts=(CODEC,),
    shape=_shape,
    also=default_codec,
)
