"""The firmware that a machine is looked at with: the described image, found on this host by its hash.

A rehearsal runs no firmware and has empty flash in its place, and a machine without one of its own has QEMU's.  Neither is
what a guest with described firmware sees, so the image is put there, or the fingerprint says that it was not looked at.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdtool.commandline.option import Option, options_from_words, text_from_bag, words_from_options
from mdtool.commandline.process import sha256_of
from mdtool.records import dataclass, replace

if TYPE_CHECKING:
    from mdtool.guest.model import Guest
    from mdtool.launch.prepare import Prepared
    from mdtool.proof.fingerprint import Fingerprint

#: where distributions put firmware images
FOLDERS = ("OVMF", "AAVMF", "qemu", "edk2", "edk2-ovmf", "qemu-efi-aarch64", "seabios", "edk2/ovmf", "edk2/aarch64")
_SUFFIXES = frozenset({".fd", ".bin", ".rom"})
_LARGEST = 64 << 20  # bytes; a bank of flash of arm's virt
SHARE = Path("/usr/share")


@dataclass(frozen=True, slots=True)
class FirmwareImage:
    """``kind`` is ``pflash`` or ``bios``; ``code`` its file; ``vars`` what the variables are read from, None for none."""

    kind: str
    code: str
    vars: str | None = None


def image_from_hash(firmware: Mapping[str, Any], share: Path = SHARE) -> FirmwareImage | None:
    """The image that a description's ``firmware`` names by its hash; None where this host has none such."""
    wanted = firmware.get("sha256")
    if not wanted:
        return None
    for path in _images(str(share)):
        if sha256_of(None, path) == wanted:
            kind = str(firmware.get("kind", "bios"))
            return FirmwareImage(kind, path, _variables(path) if kind == "pflash" else None)
    return None


@lru_cache(maxsize=4)
def _images(share: str) -> tuple[str, ...]:
    found = (path for folder in FOLDERS for path in sorted(Path(share, folder).glob("*")))
    return tuple(
        dict.fromkeys(
            str(path.resolve())
            for path in found
            if path.suffix in _SUFFIXES and path.is_file() and path.stat().st_size <= _LARGEST
        )
    )


def _variables(code: str) -> str | None:
    """The template of the variables beside an image: OVMF_VARS_4M.fd beside OVMF_CODE_4M.secboot.fd."""
    path = Path(code)
    whole = path.name.replace("CODE", "VARS").replace("-code", "-vars")
    plain = whole.replace(".secboot", "").replace(".strictnx", "")
    names = [name for name in dict.fromkeys((whole, plain)) if name != path.name]
    return next((str(path.with_name(name)) for name in names if path.with_name(name).is_file()), None)


def image_of_guest(guest: Guest, *, secure: bool) -> FirmwareImage | None:
    """The image that guest XML names or asks for; None for QEMU's own BIOS."""
    from mdtool.guest.platform.firmware import loader_of

    loader = loader_of(guest, secure=secure, rehearse=True)
    if loader is None:
        return None
    own = next((path for path in (loader.vars, loader.template) if path and Path(path).is_file()), None)
    return FirmwareImage(loader.kind, loader.code, own if loader.formats[1] == "raw" else None)


def with_image(options: Iterable[Option], image: FirmwareImage) -> Iterator[Option]:
    """A rehearsal's options with the image in place of its empty flash, or as -bios; nothing is written to the files."""
    if image.kind == "bios":
        yield from (*options, *options_from_words(["-bios", image.code]))
    else:
        yield from with_flash(options, {"pflash0": image.code, "pflash1": image.vars})


def with_flash(options: Iterable[Option], files: Mapping[str, str | None]) -> Iterator[Option]:
    """Options with files in place of empty flash, by the name of a block node or, of a -drive, ``pflash0``."""
    for option in options:
        bag = option.bag if option.name in ("blockdev", "drive") else {}
        name = bag.get("node-name") or (f"pflash{bag.get('unit')}" if bag.get("if") == "pflash" else None)
        path = files.get(str(name)) if bag.get("driver") == "null-co" else None
        if path is None:
            yield option
        elif option.name == "drive":
            facts = {"if": "pflash", "unit": bag["unit"], "driver": "raw", "readonly": "on", "file.driver": "file"}
            facts |= {"file.filename": path, "file.locking": "off"}
            yield replace(option, value=text_from_bag(facts))
        else:  # locked by the guest that runs with it
            inner = {"driver": "file", "filename": path, "read-only": True, "locking": "off"}
            facts = {"driver": "raw", "node-name": name, "read-only": True, "file": inner}
            yield from options_from_words(["-blockdev", json.dumps(facts)])


def is_empty(words: Sequence[str]) -> bool:
    """Whether a command line has empty flash where its firmware would be."""
    bags = [option.bag for option in options_from_words(words[1:]) if option.name in ("blockdev", "drive")]
    code = [bag for bag in bags if bag.get("node-name") == "pflash0" or (bag.get("if"), bag.get("unit")) == ("pflash", "0")]
    return any(bag.get("driver") == "null-co" for bag in code)


def words_with_image(words: Sequence[str], image: FirmwareImage) -> list[str]:
    """A whole command line with the image, see ``with_image``."""
    binary, *rest = words
    return [binary, *words_from_options(list(with_image(options_from_words(rest), image)))]


def prepared_with_image(prepared: Prepared, image: FirmwareImage) -> Prepared:
    from mdtool.launch.prepare import handed_over

    options = tuple(with_image(prepared.options, image))
    return replace(prepared, options=options, handover=handed_over(options, prepared.via, prepared.binary))


def is_readable(image: FirmwareImage) -> bool:
    """Whether the image itself can be looked at."""
    try:
        with open(image.code, "rb"):
            return True
    except OSError:
        return False


def why_missing(firmware: Mapping[str, Any]) -> str:
    """Why the firmware is not in a fingerprint, for ``Fingerprint.unread``."""
    if hash := firmware.get("sha256"):
        return f"firmware: no image with the described hash {str(hash)[:12]} is on this host"
    return f"firmware: the description names no image, only that it is {firmware.get('kind', 'its own')}"


def without_firmware(found: Fingerprint, why: str) -> Fingerprint:
    """A fingerprint of a machine whose firmware was not there: what was there instead is left out."""
    facts = {name: section for name, section in found.facts.items() if name != "firmware"}
    return replace(found, facts=facts, unread=(*found.unread, why))
