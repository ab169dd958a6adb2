"""Displays and sound: -vnc, -spice, -display, -audiodev."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mdtool.commandline.placeholder.drivers import names_behind
from mdtool.errors import InputError
from mdtool.guest.xml import Element
from mdtool.launch.backends.base import (
    NOTHING,
    Backend,
    Host,
    Secret,
    given,
    listed,
    option,
    refused,
    secret_object,
    switch,
    whole,
)
from mdtool.machine.machines import needs_audiodev
from mdtool.machine.tree import Node

_VNC_BASE = 5900


def graphics(element: Element, _node: Node | None, host: Host) -> Backend:
    """A <graphics> element: no device, only options."""
    kind = element.get("@type") or ""
    make = KINDS.get(kind)
    if make is None:
        raise refused(element, f"graphics of type {kind!r}")
    return make(element, host)


def _listen(element: Element) -> tuple[str, str | None]:
    """("address", where), ("socket", path) or ("none", None); the loopback by default."""
    listen = element.first("listen")
    if listen is None:
        path = element.get("@socket")
        return ("socket", path) if path else ("address", element.get("@listen") or "127.0.0.1")
    kind = listen.get("@type") or "address"
    if kind == "socket":
        return "socket", listen.get("@socket")
    if kind == "network":
        return "address", listen.get("@address") or element.get("@listen") or "127.0.0.1"
    return kind, listen.get("@address") or element.get("@listen") or "127.0.0.1"


def _port(element: Element, name: str, host: Host, start: int) -> int | None:
    """A port that the XML names, or a free one from ``start`` up where it leaves it to us."""
    port = whole(element, f"@{name}")
    auto = element.get("@autoport") == "yes"
    if port is None or port == -1 or (auto and port == 0):
        return host.port(start) if auto or port == -1 else None
    return port


def _bracketed(address: str) -> str:
    return f"[{address}]" if ":" in address else address


def _vnc(element: Element, host: Host) -> Backend:
    kind, where = _listen(element)
    if kind == "socket":
        display = f"unix:{where or host.runtime / 'vnc.sock'}"
    elif kind == "none":
        display = "none"
    else:
        port = _port(element, "port", host, _VNC_BASE)
        display = f"{_bracketed(where or '')}:{(port if port is not None else host.port(_VNC_BASE)) - _VNC_BASE}"
    secrets = _password(element, "vnc-password")
    websocket = whole(element, "@websocket")
    words = listed(
        "-vnc",
        display,
        websocket=("on" if websocket == -1 else websocket) if websocket is not None else None,
        share={"allow-exclusive": "allow-exclusive", "force-shared": "force-shared", "ignore": "ignore"}.get(
            element.get("@sharePolicy") or ""
        ),
        password_secret=secrets[0].name if secrets else None,
        power_control=switch(element, "@powerControl"),
        audiodev=_audio_id(host, element),
    )
    keymap = element.get("@keymap")
    keys = ("-k", keymap) if keymap else ()
    return Backend((*(w for s in secrets for w in secret_object(s)), *words, *keys), secrets=secrets)


def _spice(element: Element, host: Host) -> Backend:
    kind, where = _listen(element)
    facts: dict[str, Any] = {}
    if kind == "socket":
        facts = {"unix": True, "addr": where or str(host.runtime / "spice.sock")}
    elif kind == "none":
        facts = {"port": 0}
    else:
        port, tls = _port(element, "port", host, 5900), whole(element, "@tlsPort")
        if tls is not None and tls > 0:
            raise ref_tls(element)
        facts = {"port": port or 0, "addr": where}
    secrets = _password(element, "spice-password")
    gl = element.first("gl")
    facts |= {
        "password-secret": secrets[0].name if secrets else None,
        "disable-ticketing": None if secrets else True,
        "image-compression": element.get("image/@compression"),
        "jpeg-wan-compression": element.get("jpeg/@compression"),
        "zlib-glz-wan-compression": element.get("zlib/@compression"),
        "playback-compression": element.get("playback/@compression"),
        "streaming-video": element.get("streaming/@mode"),
        "agent-mouse": {"server": False, "client": True}.get(element.get("mouse/@mode") or ""),
        "disable-copy-paste": True if element.get("clipboard/@copypaste") == "no" else None,
        "disable-agent-file-xfer": True if element.get("filetransfer/@enable") == "no" else None,
        "gl": switch(gl, "@enable") if gl is not None else None,
        "rendernode": gl.get("@rendernode") if gl is not None else None,
        "seamless-migration": True,
    }
    return Backend((*(w for s in secrets for w in secret_object(s)), *listed("-spice", **facts)), secrets=secrets)


def _password(element: Element, name: str) -> tuple[Secret, ...]:
    """The password as a secret; raises InputError for an empty one, with which libvirt refuses every client."""
    password = element.get("@passwd")
    if password == "":
        what = "the password is empty: libvirt has it, or lets nobody in; without one, QEMU would let in everybody"
        remedy = "write it into this XML, or start the guest with --via libvirt"
        raise InputError(what, at=element.position, remedy=remedy, rule="empty-password")
    return (Secret(name, value=password),) if password else ()


def ref_tls(element: Element) -> Exception:
    return refused(element, "SPICE with TLS", path="@tlsPort")


def _sdl(element: Element, _host: Host) -> Backend:
    environment = {"DISPLAY": element.get("@display"), "XAUTHORITY": element.get("@xauth")}
    words = listed("-display", "sdl", gl=switch(element, "gl/@enable"), full_screen=switch(element, "@fullscreen") or None)
    return Backend(words, environment={name: value for name, value in environment.items() if value})


def _egl_headless(element: Element, _host: Host) -> Backend:
    return Backend(listed("-display", "egl-headless", rendernode=element.get("gl/@rendernode")))


def _dbus(element: Element, host: Host) -> Backend:
    facts = {
        "p2p": True if element.get("@p2p") == "yes" else None,
        "addr": element.get("@address"),
        "gl": switch(element, "gl/@enable"),
        "rendernode": element.get("gl/@rendernode"),
        "audiodev": _audio_id(host, element),
    }
    return Backend(listed("-display", "dbus", **facts))


#: desktop and rdp are not QEMU's
KINDS: dict[str, Callable[[Element, Host], Backend]] = {
    "vnc": _vnc,
    "spice": _spice,
    "sdl": _sdl,
    "egl-headless": _egl_headless,
    "dbus": _dbus,
}


# --- sound ---------------------------------------------------------------------------------------------------------

#: the libvirt options of each side of a backend: XML attribute -> QEMU's key
_SIDES: Mapping[str, Mapping[str, str]] = {
    "alsa": {"@dev": "dev", "@bufferCount": "", "@bufferLength": "buffer-length"},
    "oss": {"@dev": "dev", "@bufferCount": "buffer-count", "@tryPoll": "try-poll"},
    "pulseaudio": {"@name": "name", "@streamName": "stream-name", "@latency": "latency"},
    "jack": {
        "@serverName": "server-name",
        "@clientName": "client-name",
        "@connectPorts": "connect-ports",
        "@exactName": "exact-name",
    },
    "sdl": {"@bufferCount": "buffer-count"},
    "coreaudio": {"@bufferCount": "buffer-count"},
    "pipewire": {"@name": "name", "@streamName": "stream-name", "@latency": "latency"},
}
_DRIVERS = {
    "none": "none",
    "alsa": "alsa",
    "coreaudio": "coreaudio",
    "jack": "jack",
    "oss": "oss",
    "pulseaudio": "pa",
    "sdl": "sdl",
    "spice": "spice",
    "file": "wav",
    "dbus": "dbus",
    "pipewire": "pipewire",
}
_COMMON = {
    "@mixingEngine": "mixing-engine",
    "@fixedSettings": "fixed-settings",
    "@voices": "voices",
    "@bufferLength": "buffer-length",
}
_SETTINGS = {"settings/@frequency": "frequency", "settings/@channels": "channels", "settings/@format": "format"}
_NUMBERS = frozenset({"voices", "buffer-length", "buffer-count", "frequency", "channels", "latency"})
_SWITCHES = frozenset({"mixing-engine", "fixed-settings", "try-poll", "exact-name", "exclusive"})


def audio(element: Element, _node: Node | None, _host: Host) -> Backend:
    """An <audio> backend: -audiodev."""
    kind = element.get("@type") or "none"
    if kind not in _DRIVERS:
        raise refused(element, f"audio of type {kind!r}")
    facts: dict[str, Any] = {"id": f"audio{given(element, '@id')}", "driver": _DRIVERS[kind]}
    period = whole(element, "@timerPeriod")
    facts["timer-period"] = period
    for side, key in (("input", "in"), ("output", "out")):
        holder = element.first(side)
        if holder is not None:
            made = _side(holder, {**_COMMON, **_SETTINGS, **_SIDES.get(kind, {})})
            if made:
                facts[key] = made
    if kind == "pulseaudio" and element.get("@serverName"):
        facts["server"] = element.get("@serverName")
    if kind == "file" and element.get("@path"):
        facts["path"] = element.get("@path")
    return Backend(option("-audiodev", **facts))


def _side(holder: Element, names: Mapping[str, str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path, key in names.items():
        text = holder.get(path)
        if text is None or not key:
            continue
        found[key] = whole(holder, path) if key in _NUMBERS else text in ("yes", "on") if key in _SWITCHES else text
    return found


def audio_ids(host: Host) -> list[str]:
    return [f"audio{given(device, '@id')}" for device in host.guest.devices if device.tag == "audio"]


def board_audio(host: Host, id: str) -> Backend:
    """The backend of a board's own sound, where the board needs one."""
    return Backend(machine={"audiodev": id}) if needs_audiodev(host.guest.machine, lambda: host.version) else NOTHING


def implied_audio(host: Host) -> Backend:
    """libvirt gives a guest without <audio> one that suits its graphics: SPICE, SDL, or none."""
    if ids := audio_ids(host):
        return board_audio(host, ids[0])
    board = board_audio(host, "audio1")
    if board is NOTHING and not any(device.tag == "sound" for device in host.guest.devices):
        return NOTHING
    kinds = [device.get("@type") for device in host.guest.devices if device.tag == "graphics"]
    driver = next((kind for kind in kinds if kind in ("spice", "sdl")), "none")
    return Backend(option("-audiodev", id="audio1", driver=driver)) + board


def _audio_id(host: Host, element: Element) -> str | None:
    named = element.get("audio/@id")
    return f"audio{named}" if named else next(iter(audio_ids(host)), None)


def sound(element: Element, node: Node | None, host: Host) -> Backend:
    """The audio backend of a card or of its codec; the PC speaker's is the machine's."""
    id = _audio_id(host, element) or "audio1"
    if node is None:
        return Backend(machine={"pcspk-audiodev": id}) if element.get("@model") == "pcspk" else NOTHING
    return Backend(properties={"audiodev": id}) if names_behind(node.driver) == "audiodev" else NOTHING
