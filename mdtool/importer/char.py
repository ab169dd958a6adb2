"""Character devices: a -chardev as the type and the children of <serial>, <channel>, <console>, ..."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from mdtool.importer.markup import Keys, NoWords, on, tag, yes
from mdtool.machine.values import number

#: (type, children)
Character = tuple[str, str]


def character(bag: Mapping[str, Any]) -> Character:
    """Raises NoWords for what libvirt cannot say."""
    keys = Keys(bag)
    kind = str(keys.take("backend"))
    for word in ("id", "mux"):  # what shares it is the monitor, which goes its own way
        keys.take(word)
    make = _KINDS.get(kind)
    if make is None:
        raise NoWords(f"a chardev of kind {kind!r}")
    name, inner = make(keys)
    log = keys.take("logfile")
    appends = on(keys.switch("logappend"))
    keys.done()
    return name, inner + (tag("log", file=log, append=appends) if log else "")


def _simple(name: str) -> Callable[[Keys], Character]:
    return lambda _keys: (name, "")


def _path(name: str) -> Callable[[Keys], Character]:
    def make(keys: Keys) -> Character:
        path = keys.take("path")
        return name, tag("source", path=path, append=on(keys.switch("append")))

    return make


def _socket(keys: Keys) -> Character:
    server = keys.switch("server", False)
    keys.switch("wait")
    path, telnet = keys.take("path"), keys.switch("telnet", False)
    again = ""
    if (seconds := keys.take("reconnect")) is None and (ms := keys.take("reconnect-ms")) is not None:
        seconds, rest = divmod(number(ms, 1), 1000)
        if rest:
            raise NoWords("reconnect-ms")
    if seconds not in (None, "0", 0):
        again = tag("reconnect", enabled=yes(True), timeout=seconds)
    mode = "bind" if server else "connect"
    if path is not None:
        if telnet:
            raise NoWords("telnet on a unix socket")
        return "unix", tag("source", again, mode=mode, path=path)
    host, port = keys.take("host") or ("0.0.0.0" if server else "127.0.0.1"), keys.take("port")
    return "tcp", tag("source", again, mode=mode, host=host, service=port) + tag(
        "protocol", type_="telnet" if telnet else "raw"
    )


def _udp(keys: Keys) -> Character:
    host, port = keys.take("host"), keys.take("port")
    ours = keys.take("localaddr"), keys.take("localport")
    bind = tag("source", mode="bind", host=ours[0] or "0.0.0.0", service=ours[1]) if ours[1] else ""
    return "udp", bind + tag("source", mode="connect", host=host or "127.0.0.1", service=port)


def _spicevmc(keys: Keys) -> Character:
    keys.take("name")
    return "spicevmc", ""


def _channel(name: str) -> Callable[[Keys], Character]:
    return lambda keys: (name, tag("source", channel=keys.take("name")))


def _vdagent(keys: Keys) -> Character:
    keys.take("name")
    clipboard, mouse = yes(keys.switch("clipboard")), keys.switch("mouse")
    inner = tag("clipboard", copypaste=clipboard) if clipboard else ""
    inner += tag("mouse", mode="client" if mouse else "server") if mouse is not None else ""
    return "qemu-vdagent", tag("source", inner) if inner else ""


_KINDS: Mapping[str, Callable[[Keys], Character]] = {
    "null": _simple("null"),
    "vc": _simple("vc"),
    "pty": _simple("pty"),
    "stdio": _simple("stdio"),
    "file": _path("file"),
    "pipe": _path("pipe"),
    **dict.fromkeys(("serial", "tty", "parallel", "parport"), _path("dev")),
    "socket": _socket,
    "udp": _udp,
    "spicevmc": _spicevmc,
    "spiceport": _channel("spiceport"),
    "dbus": _channel("dbus"),
    "qemu-vdagent": _vdagent,
}
