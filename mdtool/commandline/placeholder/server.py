"""The other end of a socket, with nothing behind it: for rehearsals of devices that another process serves.

    python server.py tpm2 SOCKET          answers as swtpm does, of a TPM that refuses every command
    python server.py vhost-user SOCKET    answers as a vhost-user process does, and serves no queue

It listens on SOCKET, serves one client, and ends with it; it imports nothing of mdtool, so that it starts at once.  The
protocols are swtpm's control channel (its manual page swtpm_ioctls(3)) and QEMU's docs/interop/vhost-user.rst, as far as
QEMU speaks them before a guest runs.
"""

from __future__ import annotations

import array
import os
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

# --- TPM -------------------------------------------------------------------------------------------------------------

#: swtpm's commands: number -> (bytes that follow it, the answer)
_DONE = struct.pack(">I", 0)
_CAPABILITIES = struct.pack(">Q", 0x3FFF)  # the fourteen that QEMU knows of
_CONTROL: dict[int, tuple[int, bytes]] = {
    1: (0, _CAPABILITIES),
    2: (4, _DONE),  # INIT
    3: (0, _DONE),  # SHUTDOWN
    4: (0, struct.pack(">IB3x", 0, 0)),  # GET_TPMESTABLISHED
    5: (4, _DONE),  # SET_LOCALITY
    9: (0, _DONE),  # CANCEL_TPM_CMD
    10: (0, _DONE),  # STORE_VOLATILE
    11: (4, _DONE),  # RESET_TPMESTABLISHED
    12: (12, struct.pack(">IIII", 0, 0, 0, 0)),  # GET_STATEBLOB: there is none
    13: (12, _DONE),  # SET_STATEBLOB
    14: (0, _DONE),  # STOP
    15: (0, struct.pack(">II", 0, 0)),  # GET_CONFIG
    16: (0, _DONE),  # SET_DATAFD, with the descriptor beside it
    17: (4, struct.pack(">IIII", 0, 4096, 4096, 4096)),  # SET_BUFFERSIZE
}
_SET_DATAFD = 16
#: what a TPM that was not started answers to every command: TPM_RC_INITIALIZE, TPM_INVALID_POSTINIT
_REFUSALS = {"tpm2": struct.pack(">HII", 0x8001, 10, 0x100), "tpm1.2": struct.pack(">HII", 0x00C4, 10, 0x26)}


def serve_tpm(client: socket.socket, kind: str) -> None:
    """The control channel, and a thread for the data channel that QEMU hands over."""
    while True:
        command, _ancillary, *_ = client.recvmsg(4, socket.CMSG_SPACE(array.array("i").itemsize))
        if len(command) < 4:
            return
        number = struct.unpack(">I", command)[0]
        follows, answer = _CONTROL.get(number, (0, struct.pack(">I", 0xA)))  # TPM_BAD_ORDINAL
        _received(client, follows)
        if number == _SET_DATAFD:
            for _level, _type, data in _ancillary:
                channel = socket.socket(fileno=array.array("i", data[: array.array("i").itemsize])[0])
                threading.Thread(target=_refuse, args=(channel, _REFUSALS[kind]), daemon=True).start()
        client.sendall(answer)


def _refuse(channel: socket.socket, answer: bytes) -> None:
    while channel.recv(4096):
        channel.sendall(answer)


# --- vhost-user ------------------------------------------------------------------------------------------------------

_VERSION, _REPLY = 1, 4
_VIRTIO = 1 << 32 | 1 << 30 | 1 << 29 | 1 << 28  # VERSION_1, PROTOCOL_FEATURES, EVENT_IDX, INDIRECT_DESC
_MQ, _CONFIG = 1 << 0, 1 << 9
_QUEUES = 1024

#: requests that are answered: number -> payload of the answer, made of the payload of the request
_ANSWERS: dict[int, Callable[[bytes], bytes]] = {
    1: lambda _: struct.pack("=Q", _VIRTIO),  # GET_FEATURES
    11: lambda asked: asked,  # GET_VRING_BASE
    15: lambda _: struct.pack("=Q", _MQ | _CONFIG),  # GET_PROTOCOL_FEATURES
    17: lambda _: struct.pack("=Q", _QUEUES),  # GET_QUEUE_NUM
    24: lambda asked: asked[:12] + bytes(len(asked) - 12),  # GET_CONFIG: all of it is zero
}


def serve_vhost_user(client: socket.socket, _kind: str) -> None:
    while True:
        header, ancillary, *_ = client.recvmsg(12, socket.CMSG_SPACE(64 * array.array("i").itemsize))
        for _level, _type, data in ancillary:
            for descriptor in array.array("i", data[: len(data) // 4 * 4]):
                os.close(descriptor)
        if len(header) < 12:
            return
        request, _flags, size = struct.unpack("=III", header)
        payload = _received(client, size)
        if request in _ANSWERS:
            answer = _ANSWERS[request](payload)
            client.sendall(struct.pack("=III", request, _VERSION | _REPLY, len(answer)) + answer)


# --- both ------------------------------------------------------------------------------------------------------------


def _received(client: socket.socket, size: int) -> bytes:
    data = b""
    while len(data) < size:
        more = client.recv(size - len(data))
        if not more:
            break
        data += more
    return data


SERVED: dict[str, Callable[[socket.socket, str], None]] = {
    "tpm2": serve_tpm,
    "tpm1.2": serve_tpm,
    "vhost-user": serve_vhost_user,
}


def main(kind: str, path: str) -> None:
    """Listen, serve one client, end; the socket is gone as soon as it is connected."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(path)
        listener.listen(1)
        try:
            client, _ = listener.accept()
        finally:
            Path(path).unlink(missing_ok=True)
    with client, suppress(OSError):  # QEMU is gone, and so is the reason to be here
        SERVED[kind](client, kind)


if __name__ == "__main__":
    main(*sys.argv[1:3])
