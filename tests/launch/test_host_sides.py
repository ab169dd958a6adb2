"""What the table calls the host's is carried out: the module that a row names reads it, or a launch refuses it."""

from __future__ import annotations

import re
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest
from support_backends import guest_of, line_of, pairs
from support_paths import recorded_paths
from test_backends_qemu import answers

from mdtool.errors import Errors, InputError
from mdtool.guest.elements import ROWS
from mdtool.guest.host import HostRow
from mdtool.guest.platform.host import HOST
from mdtool.launch import backends

PACKAGE = Path(backends.__file__).parents[2]
ROWS_BY_TAG = sorted(ROWS)


@cache
def source_of(by: str) -> str:
    """The text of a module and of those beside it that it takes readers from."""
    path = PACKAGE / "launch" / "backends" / f"{by}.py" if "." not in by and by else PACKAGE / f"{by.replace('.', '/')}.py"
    if not path.is_file():
        path = PACKAGE / by.replace(".", "/") / "__init__.py"
    text = path.read_text()
    beside = re.findall(r"from mdtool\.(launch\.backends\.\w+|guest\.platform\.memory) import", text)
    return text + "".join((PACKAGE / f"{name.replace('.', '/')}.py").read_text() for name in beside)


def is_read(side: HostRow, path: str) -> bool:
    """Whether the name of an attribute or element occurs in the code as one that is asked for."""
    name = path.rpartition("/")[2].lstrip("@*") or path.rpartition("/")[0].rpartition("/")[2]
    if "." not in side.by and name in getattr(import_module(f"mdtool.launch.backends.{side.by}"), "READS", ()):
        return True
    mark = f'@{re.escape(name)}\\b|"{re.escape(name)}"' if "@" in path else f"[\"'/ ]{re.escape(name)}\\b"
    return re.search(mark, source_of(side.by)) is not None


@pytest.mark.parametrize("tag", ROWS_BY_TAG)
def test_a_row_names_who_carries_out_what_is_the_host_s(tag: str) -> None:
    """Every path of libvirt's schemas that the row calls carried out is read by the module that the row names."""
    row = ROWS[tag]
    assert all(isinstance(side, HostRow) for side in row.host.values())
    paths = {path for path in recorded_paths()[tag] | set(row.host) if "*" not in path}
    unread = {path for path in paths if (side := row.host_side(path)) and side.who == "launch" and not is_read(side, path)}
    assert not unread


def test_a_row_whose_host_side_a_launch_carries_out_has_a_back_end() -> None:
    """One without is a device that needs nothing of the host."""
    carried = {tag for tag, row in ROWS.items() if any(side.who == "launch" for side in row.host.values())}
    assert carried - {"emulator"} <= backends.BACKENDS.keys()


def test_a_row_that_nobody_reads_is_found() -> None:
    """The negative control of the test above."""
    assert not is_read(HostRow("an overlay", "launch", "net"), "transient/@shareBacking")
    assert is_read(HostRow("an overlay", "launch", "layers"), "transient/@shareBacking")


@pytest.mark.parametrize("tag", sorted(HOST))
def test_what_stands_under_domain_names_who_carries_it_out(tag: str) -> None:
    side = HOST[tag]
    assert side.who != "launch" or re.search(rf"[\"'/]{tag}\b", source_of(side.by))


NIC = "<mac address='52:54:00:00:00:01'/><model type='e1000'/>"


@pytest.mark.parametrize(
    ("devices", "path"),
    [
        ("<disk type='file' rawio='yes'><source file='/x'/><target dev='vda'/></disk>", "@rawio"),
        ("<disk type='file'><source file='/x'/><target dev='sda' bus='scsi' tray='open'/></disk>", "target/@tray"),
        (
            "<disk type='file'><driver><statistics><latency-histogram type='read'><bin start='0'/></latency-histogram>"
            "</statistics></driver><source file='/x'/><target dev='vda'/></disk>",
            "driver/statistics/latency-histogram/@type",
        ),
        (
            f"<interface type='user'>{NIC}<bandwidth><inbound average='1'/></bandwidth></interface>",
            "bandwidth/inbound/@average",
        ),
        (f"<interface type='user'>{NIC}<link state='down'/></interface>", "link/@state"),
        (
            "<hostdev mode='subsystem' type='pci'><driver iommufd='yes'/><source><address bus='6' slot='1'/></source></hostdev>",
            "driver/@iommufd",
        ),
        ("<lease><lockspace>a</lockspace><key>b</key><target path='/x'/></lease>", "lockspace"),
    ],
)
def test_what_libvirt_alone_carries_out_ends_a_launch(devices: str, path: str) -> None:
    """By its path and line, with the way out; a rehearsal has no host side and goes on."""
    with pytest.raises((InputError, Errors)) as caught:
        line_of(guest_of(devices))
    assert f"does not carry out {path} (" in str(caught.value)
    assert "--via libvirt" in str(caught.value)
    assert "guest.xml:1:" in str(caught.value)
    line_of(guest_of(devices), rehearse=True)


@pytest.mark.parametrize(
    "devices",
    [
        "<disk type='file' rawio='no'><source file='/x'/><target dev='sda' bus='scsi' tray='closed'/></disk>",
        f"<interface type='user'>{NIC}<link state='up'/></interface>",
    ],
)
def test_what_asks_for_nothing_is_nothing_to_carry_out(devices: str) -> None:
    assert not line_of(guest_of(devices)).warnings


def test_tuning_of_the_host_is_a_warning_where_libvirt_does_not_start_the_guest() -> None:
    line = line_of(guest_of(outside="<cputune><vcpupin vcpu='0' cpuset='1'/></cputune><seclabel type='none'/>"))
    assert ["<cputune>" in warning.what and "--via libvirt" in str(warning.remedy) for warning in line.warnings] == [True]
    balloon = "<currentMemory unit='MiB'>128</currentMemory>"
    assert len(line_of(guest_of(outside=balloon)).warnings) == 1
    assert not line_of(guest_of(outside=balloon.replace("128", "256"))).warnings
    numad = "<numatune><memory mode='strict' placement='auto'/></numatune>"
    for asked in (
        "<vcpu cpuset='0'>1</vcpu>",
        "<vcpu placement='auto'>1</vcpu>",
        numad,
        "<qemu:deprecation behavior='reject'/>",
    ):
        assert len(line_of(guest_of(outside=asked)).warnings) == 1
    assert not line_of(guest_of(outside="<vcpu placement='static'>1</vcpu>")).warnings
    with pytest.raises(InputError, match="<iommufd>"):
        line_of(guest_of(outside="<iommufd enabled='yes'/>"))


def test_a_disk_goes_through_the_filters_of_its_groups() -> None:
    group = "<throttlegroup><group_name>{}</group_name><total_bytes_sec>{}</total_bytes_sec></throttlegroup>"
    groups = f"<throttlegroups>{group.format('a', 5)}{group.format('b', 7)}</throttlegroups>"
    filters = "<throttlefilters><throttlefilter group='b'/><throttlefilter group='a'/></throttlefilters>"
    disk = f"<disk type='file'><source file='/x'/><target dev='vda'/>{filters}</disk>"
    said = pairs(line_of(guest_of(disk, groups)).backends)
    assert ("-object", {"qom-type": "throttle-group", "id": "throttle-b", "limits": {"bps-total": 7}}) in said
    nodes = {value["node-name"]: value for flag, value in said if flag == "-blockdev"}
    assert (nodes["vda-throttle"]["throttle-group"], nodes["vda-throttle"]["file"]) == ("throttle-b", "vda")
    assert (nodes["vda-throttle-2"]["throttle-group"], nodes["vda-throttle-2"]["file"]) == ("throttle-a", "vda-throttle")
    (device,) = (d.arguments for d in line_of(guest_of(disk, groups)).devices if d.arguments["driver"] == "virtio-blk-pci")
    assert device["drive"] == "vda-throttle-2"
    with pytest.raises(InputError, match="there is no group 'b'"):
        line_of(guest_of(disk))


def test_threads_are_tuned_as_the_xml_says() -> None:
    ids = "<iothreadids><iothread id='3' thread_pool_min='2' thread_pool_max='9'><poll max='7' grow='4' weight='3'/></iothread></iothreadids>"
    outside = f"<iothreads>2</iothreads>{ids}<defaultiothread thread_pool_max='8'/>"
    said = pairs(line_of(guest_of(outside=outside)).backends)
    tuned = {"thread-pool-min": 2, "thread-pool-max": 9, "poll-max-ns": 7, "poll-grow": 4, "poll-weight": 3}
    assert ("-object", {"qom-type": "iothread", "id": "iothread3", **tuned}) in said
    assert ("-object", {"qom-type": "iothread", "id": "iothread1"}) in said
    assert ("-object", {"qom-type": "main-loop", "id": "main-loop", "thread-pool-max": 8}) in said
    with pytest.raises(InputError, match="thread_pool_min 9 is more than thread_pool_max 2"):
        line_of(guest_of(outside=outside.replace("min='2' thread_pool_max='9'", "min='9' thread_pool_max='2'")))


def test_memory_outlives_the_guest_no_longer_than_it_must() -> None:
    features = "<features><async-teardown enabled='yes'/></features>"
    assert "async-teardown=on" in " ".join(line_of(guest_of(outside=features), rehearse=False).argv) or (
        "-async-teardown" in line_of(guest_of(outside=features)).argv
    )


@pytest.mark.parametrize("bus", ["virtio", "scsi", "sata", "usb"])
def test_a_transient_disk_leaves_its_image_as_it_was(bus: str, qemu: str, tmp_path: Path) -> None:
    """Real QEMU writes through the disk; whatever it wrote is not in the image."""
    image = tmp_path / "a,b.img"
    image.write_bytes(bytes(1 << 20))
    tune = "<iotune><total_bytes_sec>100000000</total_bytes_sec></iotune>"
    disk = f"<disk type='file'><source file='{image}'/><target dev='sda' bus='{bus}'/>{tune}<transient/></disk>"
    line = line_of(guest_of(disk), binary=qemu)
    (drive,) = (made.arguments["drive"] for made in line.devices if "drive" in made.arguments)
    write = {"command-line": f'qemu-io {drive} "write -P 0x5a 0 64k"'}
    read = {"command-line": f'qemu-io {drive} "read -P 0x5a 0 64k"'}
    commands = [{"execute": "human-monitor-command", "arguments": arguments} for arguments in (write, read)]
    wrote, found = answers(line, *commands)[-2:]
    assert "wrote 65536" in wrote or wrote == ""
    assert "verification failed" not in found
    assert image.read_bytes() == bytes(1 << 20)


def test_a_transient_disk_that_cannot_be_is_refused() -> None:
    lun = "<disk type='block' device='lun'><source dev='/dev/x'/><target dev='sda' bus='scsi'/><transient/></disk>"
    served = "<disk type='vhostuser'><source type='unix' path='/x'/><target dev='vda' bus='virtio'/><transient/></disk>"
    for disk in (lun, served, lun.replace("<transient/>", "<transient shareBacking='yes'/>")):
        with pytest.raises(InputError, match="transient"):
            line_of(guest_of(disk))
