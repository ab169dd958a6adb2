"""The main job of mdtool on a sample guest, talking as it goes.

Everything runs on a real QEMU, rehearsed: the guest's disks and networks are replaced by null ones, so that the demo
needs no image, no bridge and no root.
"""

from __future__ import annotations

import difflib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SAMPLE = ROOT / "samples" / "web01"
PORTS = ("pcie-root-port", "pcie-pci-bridge")
MDTOOL = [sys.executable, "-m", "mdtool"]
BOLD, DIM, OFF = ("\x1b[1m", "\x1b[2m", "\x1b[0m") if sys.stdout.isatty() else ("", "", "")


def tell(text: str) -> None:
    print(f"\n{BOLD}{text}{OFF}", flush=True)


def run(*words: str, expect: int = 0) -> str:
    """Run mdtool as a person would, show what it says, and insist on its exit status."""
    print(f"{DIM}$ mdtool {' '.join(words)}{OFF}", flush=True)
    done = subprocess.run([*MDTOOL, *words], stdout=subprocess.PIPE, text=True, timeout=120)
    print(done.stdout, end="", flush=True)
    if done.returncode != expect:
        sys.exit(f"demo: mdtool {words[0]} ended with {done.returncode}, not {expect}")
    return done.stdout


def addresses(description: str) -> dict[str, str]:
    """{MAC or id: bus and address} of the NICs and disks of a description, by mdtool's own JSON."""
    from mdtool.machine.document import tree_from_file

    found = {}
    for place in tree_from_file(description).places:
        origin = place.node.origin or ""
        if origin.startswith(("interface/", "disk/v", "watchdog", "rng", "memballoon")) and place.bus:
            found[origin] = f"{place.bus.name} {place.node.address}"
    return found


def pci(qmp: str) -> dict[str, str]:
    """{id: path of slot.function from the root}, from query-pci after the firmware has numbered the buses."""
    from mdtool.qemu.session import session_from_source

    found: dict[str, str] = {}

    def walk(devices: list[dict[str, Any]], path: str) -> bool:
        numbered = True
        for device in devices:
            here = f"{path}{device['slot']:02x}.{device['function']}"
            found[device["qdev_id"]] = here
            if bridge := device.get("pci_bridge"):
                numbered &= bridge["bus"]["secondary"] > 0 and walk(bridge.get("devices", []), here + "/")
        return numbered

    with session_from_source(qmp) as session:
        session.execute("cont")
        for _ in range(200):
            found.clear()
            numbered = [walk(bus["devices"], "") for bus in session.execute("query-pci")]
            if all(numbered):
                break
            time.sleep(0.1)
    return found


def plainly(guest: str, description: str) -> dict[str, str]:
    """Where plain QEMU puts the same devices when nobody says: in the order of its command line, which is the XML's."""
    from mdtool.errors import Report
    from mdtool.guest.devices import guest_from_file, wanted_from_guest
    from mdtool.machine.document import tree_from_file

    shown = subprocess.run(
        [*MDTOOL, "launch", guest, description, "--via", "device", "--rehearse", "--print", "--json"],
        stdout=subprocess.PIPE, text=True, check=True, timeout=60,
    )  # fmt: skip
    words = json.loads(shown.stdout)
    devices = [json.loads(value) for flag, value in itertools.pairwise(words) if flag == "-device"]
    others = [
        word
        for before, word in itertools.pairwise(["", *words])
        if not {"-device", "-qmp", "-mon"} & {before, word}
    ]  # fmt: skip
    ids = {place.node.origin: place.node.id for place in tree_from_file(description).places}
    asked = sorted(wanted_from_guest(guest_from_file(guest), Report()), key=lambda wanted: wanted.kind != "controller")
    order = [ids.get(wanted.origin) for wanted in asked]
    controllers = [device for device in devices if device.get("id") not in order]
    rest = sorted((d for d in devices if d.get("id") in order), key=lambda d: order.index(d["id"]))
    buses = {device["id"] for device in devices if device["driver"] in PORTS}
    for device in [*controllers, *rest]:
        if device["driver"] in PORTS:
            continue  # nobody writes ports by hand: each device goes to the next free slot of the root
        if device.get("bus") in buses | {"pcie.0"}:
            device = {key: value for key, value in device.items() if key not in ("bus", "addr")}
        others += ["-device", json.dumps(device)]
    qmp = f"plain-{Path(guest).stem}.qmp"
    process = subprocess.Popen(
        [*others, "-qmp", f"unix:{qmp},server=on,wait=off"], stderr=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True
    )
    try:
        wait_for(qmp, process)
        return pci(qmp)
    finally:
        process.terminate()
        process.wait()


def wait_for(path: str, process: subprocess.Popen[str]) -> None:
    """Until a monitor listens; the demo ends where its QEMU ends first."""
    for _ in range(400):
        with socket.socket(socket.AF_UNIX) as probe, suppress(OSError):
            probe.connect(path)
            return
        if process.poll() is not None:
            sys.exit(f"demo: QEMU did not start: {process.stderr.read() if process.stderr else ''}")
        time.sleep(0.05)
    sys.exit("demo: QEMU did not open its monitor within 20 s")


def main() -> int:
    folder = Path(tempfile.mkdtemp(prefix="mdtool-demo-"))
    os.chdir(folder)
    try:
        return show()
    finally:
        os.chdir(ROOT)
        shutil.rmtree(folder)


def show() -> int:
    guest, description = "web01.xml", "web01.yaml"
    before_xml, before_yaml = "before.xml", "before.yaml"
    shutil.copy(SAMPLE / "guest.xml", guest)
    shutil.copy(SAMPLE / "guest.xml", before_xml)

    tell("1. A guest XML, and no description yet: start its QEMU paused and write down what the guest sees.")
    run("dump", guest, "--xml", guest, "-o", description)
    text = Path(description).read_text()
    lines = text.split("---\n")[0].splitlines()
    print("\n".join(lines[:12]) + f"\n... {len(lines)} lines of tree, {len(text.splitlines()) - len(lines)} of pins")
    before = addresses(description)
    shutil.copy(description, before_yaml)

    tell("2. Somebody edits the XML: one NIC goes, a disk comes, another NIC becomes virtio.")
    old, new = ((SAMPLE / name).read_text().splitlines(keepends=True) for name in ("guest.xml", "edited.xml"))
    sys.stdout.writelines(line for line in difflib.unified_diff(old, new, "web01.xml", "web01.xml (edited)", n=1))
    shutil.copy(SAMPLE / "edited.xml", guest)

    tell("3. What would that do to the guest?  The plan:")
    run("reconcile", guest, description, "--dry-run", expect=1)

    tell("4. Carry it out; a second time there is nothing left to do.")
    run("reconcile", guest, description)
    run("reconcile", guest, description)

    tell("5. The survivors kept their places.  Beside it, what plain QEMU does without a description:")
    after = addresses(description)
    was, now = plainly(before_xml, before_yaml), plainly(guest, description)
    from mdtool.machine.document import tree_from_file

    tree = tree_from_file(description)
    ids = {place.node.origin: place.node.id for place in tree.places}
    print(f"{'':34}{'with mdtool':^28}{'plain QEMU':^20}")
    moved = 0
    for origin in sorted(before.keys() & after.keys()):
        name = str(ids[origin])
        if before[origin] != after[origin]:
            sys.exit(f"demo: {origin} moved from {before[origin]} to {after[origin]}")
        plain = f"{was.get(name, '-')} -> {now.get(name, '-')}"
        moved += was.get(name) != now.get(name)
        sign = "moved!" if was.get(name) != now.get(name) else ""
        print(f"{origin:34}{before[origin] + ' (same)':^28}{plain:^20} {sign}")
    if not moved:
        sys.exit("demo: plain QEMU moved nothing; the sample shows nothing")

    tell("6. Relaunch with the description and let the machine prove itself before the guest runs.")
    qmp = "web01.qmp"
    process = subprocess.Popen(
        [*MDTOOL, "launch", guest, description, "--rehearse", "--paused", "--qmp", qmp], stdin=subprocess.DEVNULL, text=True
    )
    print(f"{DIM}$ mdtool launch {guest} {description} --rehearse --paused --qmp {qmp} &{OFF}", flush=True)
    try:
        wait_for(qmp, process)
        run("verify", description, qmp)
    finally:
        process.terminate()
        process.wait()
    tell("Done: the guest sees what the description says.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
