"""The fingerprint of a rehearsed guest XML, started in any of the ways of ``launch --via``."""

from __future__ import annotations

import os
import socket
import tempfile
from contextlib import closing
from pathlib import Path

from mdtool.launch.prepare import Prepared
from mdtool.launch.rehearse import rehearsal
from mdtool.proof.fingerprint import Fingerprint, fingerprint_from_probe
from mdtool.proof.probe import SECONDS, Probe
from mdtool.proof.qtest import QTest


def fingerprint_from_prepared(prepared: Prepared) -> Fingerprint:
    """Rehearse ``prepared`` (see ``launch.rehearse.prepared_rehearsal``) and read what a guest would see."""
    with tempfile.TemporaryDirectory(prefix="mdtool-") as folder, socket.socket(socket.AF_UNIX) as listener:
        path = Path(folder) / "qtest"
        listener.bind(str(path))
        listener.listen(1)  # QEMU connects when it starts, without waiting
        listener.settimeout(SECONDS)
        with rehearsal(prepared, more=["-qtest", f"unix:{path}", "-qtest-log", os.devnull]) as qemu:
            connection = listener.accept()[0]
            connection.settimeout(SECONDS)
            with closing(QTest(connection)) as qtest:
                return fingerprint_from_probe(Probe(qtest, qemu.session))
