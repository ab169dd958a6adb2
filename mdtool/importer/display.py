"""Displays and sound: -display, -vnc, -spice, -audiodev as <graphics> and <audio>."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mdtool.commandline.option import Option
from mdtool.importer.markup import Keys, NoWords, tag, yes
from mdtool.machine.values import decimal

_VNC = 5900
_AUDIO = {
    "none": "none", "alsa": "alsa", "coreaudio": "coreaudio", "jack": "jack", "oss": "oss", "pa": "pulseaudio",
    "sdl": "sdl", "spice": "spice", "wav": "file", "dbus": "dbus", "pipewire": "pipewire",
}  # fmt: skip
#: image-compression and its like: QEMU's key -> (element, attribute)
_SPICE = {
    "image-compression": ("image", "compression"),
    "jpeg-wan-compression": ("jpeg", "compression"),
    "zlib-glz-wan-compression": ("zlib", "compression"),
    "playback-compression": ("playback", "compression"),
    "streaming-video": ("streaming", "mode"),
}


def graphics(option: Option, keymap: str | None) -> str:
    """The <graphics> of a display; "" for none at all.  Raises NoWords."""
    if option.name == "display":
        keys = Keys(option.bag)
        kind = str(keys.take("type"))
        if kind.startswith("vnc="):
            raise NoWords("vnc=")
        made = _DISPLAYS.get(kind)
        if made is None:
            raise NoWords(kind)
        found = made(keys)
        keys.done()
        return found
    return (_vnc if option.name == "vnc" else _spice)(option, keymap)


def _listens(keys: Keys, where: str) -> str:
    """Nowhere until a password is set, where the script had one."""
    password = keys.take("password")
    if password is None and keys.take("password-secret") is None:
        return where
    return tag("listen", type_="none")


def _vnc(option: Option, keymap: str | None) -> str:
    bag = option.bag
    keys = Keys(bag)
    address = str(keys.take("vnc", ""))
    facts: dict[str, Any] = {
        "sharePolicy": keys.take("share"),
        "websocket": {"on": "-1"}.get(bag.get("websocket", ""), keys.take("websocket")),
        "powerControl": yes(keys.switch("power-control")),
        "keymap": keymap,
    }
    keys.take("websocket")
    if address == "none":
        return ""
    protected = _listens(keys, "")
    keys.done()
    host, _, display = address.rpartition(":")
    if protected:
        return tag("graphics", protected, type_="vnc", **facts)
    if address.startswith("unix:"):
        return tag("graphics", tag("listen", type_="socket", socket=address[5:]), type_="vnc", **facts)
    if (number := decimal(display)) is None:
        raise NoWords(address)
    where = tag("listen", type_="address", address=host.strip("[]") or "0.0.0.0")
    return tag("graphics", where, type_="vnc", port=_VNC + number, autoport="no", **facts)


def _spice(option: Option, keymap: str | None) -> str:
    keys = Keys(option.bag)
    port, address = keys.take("port"), keys.take("addr")
    unix, open_ = keys.switch("unix", False), keys.switch("disable-ticketing", False)
    inner = "".join(
        tag(element, **{attribute: value})
        for key, (element, attribute) in _SPICE.items()
        if (value := keys.take(key)) is not None
    )
    if keys.switch("disable-copy-paste", False):
        inner += tag("clipboard", copypaste="no")
    if keys.switch("disable-agent-file-xfer", False):
        inner += tag("filetransfer", enable="no")
    if (mouse := keys.switch("agent-mouse")) is not None:
        inner += tag("mouse", mode="client" if mouse else "server")
    gl, node = keys.switch("gl"), keys.take("rendernode")
    if gl is not None:
        inner += tag("gl", enable=yes(gl), rendernode=node)
    keys.switch("seamless-migration")
    protected = _listens(keys, "")
    keys.done()
    facts: dict[str, Any] = {"type_": "spice", "keymap": keymap}
    if protected or not open_:  # SPICE without disable-ticketing refuses every client before a password is set
        return tag("graphics", tag("listen", type_="none"), inner, **facts)
    if unix:
        return tag("graphics", tag("listen", type_="socket", socket=address), inner, **facts)
    if port in (None, "0"):
        return tag("graphics", tag("listen", type_="none"), inner, **facts)
    where = tag("listen", type_="address", address=address or "0.0.0.0")
    return tag("graphics", where, inner, port=port, autoport="no", **facts)


def _sdl(keys: Keys) -> str:
    gl, full = keys.switch("gl"), keys.switch("full-screen")
    return tag("graphics", tag("gl", enable=yes(gl)) if gl is not None else "", type_="sdl", fullscreen=yes(full or None))


def _egl(keys: Keys) -> str:
    node = keys.take("rendernode")
    return tag("graphics", tag("gl", rendernode=node) if node else "", type_="egl-headless")


def _dbus(keys: Keys) -> str:
    gl, node = keys.switch("gl"), keys.take("rendernode")
    inner = tag("gl", enable=yes(gl), rendernode=node) if gl is not None else ""
    return tag("graphics", inner, type_="dbus", p2p=yes(keys.switch("p2p")), address=keys.take("addr"))


_DISPLAYS = {"none": lambda _keys: "", "sdl": _sdl, "egl-headless": _egl, "dbus": _dbus}


def audio(bag: Mapping[str, Any], number: int) -> tuple[str, list[str]]:
    """(<audio>, the keys that it does not say)."""
    keys = Keys(bag)
    keys.take("id")
    kind = _AUDIO.get(str(keys.take("driver")))
    if kind is None:
        return tag("audio", id=number, type_="none"), ["driver"]
    facts = {
        "timerPeriod": keys.take("timer-period"),
        "serverName": keys.take("server") if kind == "pulseaudio" else None,
        "path": keys.take("path") if kind == "file" else None,
    }
    inner = ""
    for side, element in (("in", "input"), ("out", "output")):
        mixing = keys.switch(f"{side}.mixing-engine")
        inner += tag(element, mixingEngine=yes(mixing)) if mixing is not None else ""
    return tag("audio", inner, id=number, type_=kind, **facts), list(keys.left)
