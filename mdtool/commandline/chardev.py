"""A chardev as ``-serial`` and its like spell it, in the words of ``-chardev``."""

from __future__ import annotations

from typing import Any

from mdtool.commandline.option import bag_from_text


def char_from_text(text: str) -> dict[str, Any]:
    """The chardev behind ``-serial``, in the words of -chardev.

    >>> char_from_text("mon:telnet:127.0.0.1:4444,server,nowait")["port"]
    '4444'
    """
    kind, _, rest = text.removeprefix("mon:").partition(":")
    if text.startswith("mon:"):
        return {**char_from_text(text[4:]), "mux": "on"}
    if text.startswith("/dev/"):
        return {"backend": "parallel" if text.startswith("/dev/parport") else "serial", "path": text}
    if kind in ("unix", "tcp", "telnet", "websocket"):
        bag = bag_from_text(rest, "path")
        address = str(bag.pop("path", ""))
        host, _, port = address.rpartition(":")
        place = {"path": address} if kind == "unix" else {"host": host.strip("[]"), "port": port}
        return {"backend": "socket", **place, **({kind: "on"} if kind in ("telnet", "websocket") else {}), **bag}
    if kind == "udp":
        remote, _, local = rest.partition("@")
        names = (("host", "port"), ("localaddr", "localport"))
        return {"backend": "udp"} | {
            name: value
            for (host_name, port_name), place in zip(names, (remote, local), strict=True)
            for name, value in zip((host_name, port_name), place.rpartition(":")[::2], strict=True)
            if value
        }
    if kind == "chardev":
        return {"backend": "chardev", "name": rest}
    if kind == "vc":
        return {"backend": "vc"}
    return {"backend": kind, **({"path": rest} if rest else {})}
