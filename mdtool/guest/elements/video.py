"""<video>: graphics cards."""

from __future__ import annotations

from mdtool.errors import choices
from mdtool.guest.convert import number, switch
from mdtool.guest.host import by_libvirt, idle
from mdtool.guest.model import Wanted
from mdtool.guest.table import VIRTIO, ElementContext, ElementRow, Prop
from mdtool.records import replace

#: Where the first virtio card is ``virtio-vga``: libvirt asks QEMU whether it has that type, and these have.
VGA = ("x86_64", "i686", "riscv64")

#: Models -> QEMU types of the first card; ``virtio-vga`` only where the machine has VGA.
PRIMARY = {
    "vga": "VGA",
    "cirrus": "cirrus-vga",
    "vmvga": "vmware-svga",
    "qxl": "qxl-vga",
    "virtio": "virtio-vga",
    "bochs": "bochs-display",
    "ramfb": "ramfb",
    "none": "",
}
SECONDARY = {"qxl": "qxl", "virtio": "virtio-gpu-*"}

MIB = 1024  # libvirt counts video memory in KiB
DEFAULT_VRAM = 16 * MIB
QXL = 64 * MIB


def default_model(context: ElementContext) -> str:
    """The model that libvirt takes where the XML names none (``<video/>``); SPICE does not make it QXL."""
    guest = context.guest
    if guest.is_s390 or guest.is_virt:
        return "virtio"
    return "vga" if guest.is_ppc else "cirrus"


def _shape(context: ElementContext, wanted: Wanted) -> Wanted:
    model, primary = wanted.facts["choice"], bool(context.numbered.get("primary"))
    driver = wanted.driver
    transport = wanted.facts.get("transport", "pci")
    vhost_user = context.get("driver/@name") == "vhostuser"
    accelerated = context.get("model/acceleration/@accel3d") == "yes" and not vhost_user
    if model == "virtio":
        family = "vhost-user" if vhost_user else "virtio"
        gl = "-gl" if accelerated else ""
        name = f"{family}-vga{gl}" if primary and context.guest.arch in VGA and transport == "pci" else f"{family}-gpu{gl}"
        name = _front_end(context, primary=primary) or name
        driver = name if name.removesuffix("-gl").endswith("vga") else f"{name}-{_ENDINGS[transport]}"
    elif model in SECONDARY and not primary:
        driver = SECONDARY[model]
    properties = {**wanted.properties, **_memory(context, model, driver)}
    if "max_outputs" in properties and vhost_user:
        properties.pop("max_outputs")
    return replace(wanted, driver=driver, properties=properties, facts={**wanted.facts, "model": model, "primary": primary})


#: What libvirt 12.5 and later writes into <model device=>: which of the virtio cards it is.
_FRONT_ENDS = (
    "virtio-vga", "virtio-vga-gl", "virtio-gpu", "virtio-gpu-gl", "vhost-user-vga", "vhost-user-gpu",
)  # fmt: skip


def _front_end(context: ElementContext, *, primary: bool) -> str:
    """The card that the XML names, "" where it names none."""
    name = context.get("model/@device")
    if name and name not in _FRONT_ENDS:
        context.error("model/@device", f"unknown card '{name}'", expected=choices(_FRONT_ENDS), rule="driver-known")
        return ""
    if name.removesuffix("-gl").endswith("vga") and not primary:
        what, remedy = f"only the first card can be {name}", f"device='{name.replace('vga', 'gpu')}'"
        context.error("model/@device", what, remedy=remedy, rule="driver-known")
    return name


_ENDINGS = {"pci": "pci", "ccw": "ccw", "mmio": "device"}


def _memory(context: ElementContext, model: str, driver: str) -> dict[str, int]:
    """Video memory as QEMU's types take it, and libvirt's sizes where the XML has none; QEMU brings it within bounds."""

    def kib(name: str, absent: int) -> int:
        """libvirt takes 0 for absent, and rounds up to a power of two."""
        value = context.number(f"model/@{name}")
        return 1 << (value - 1).bit_length() if value > 0 else absent

    if model == "qxl":
        frame = min(max(kib("vgamem", DEFAULT_VRAM) // MIB, 8), 256)
        return {
            "max_outputs": context.number("model/@heads") or 1,
            "ram_size": max(kib("ram", QXL), 2 * frame * MIB) * 1024,  # two frames at least
            "vram_size": kib("vram", QXL) * 1024,
            "vram64_size_mb": context.number("model/@vram64") // MIB,
            "vgamem_mb": frame,
        }
    if model == "virtio":
        return {"max_outputs": context.number("model/@heads") or 1}
    if driver in ("VGA", "vmware-svga"):
        return {"vgamem_mb": min(max(kib("vram", DEFAULT_VRAM) // MIB, 1), 512)}
    if driver == "bochs-display":
        return {"vgamem": kib("vram", DEFAULT_VRAM) * 1024}
    return {}


_SIZED = ("VGA", "qxl*", "virtio-*", "vhost-user-*", "bochs-display")

VIDEO = ElementRow(
    "video",
    choose="model/@type",
    absent=default_model,
    drivers={model: "virtio-gpu-*" if model == "virtio" else driver for model, driver in PRIMARY.items()},
    props={
        "xres": Prop("model/resolution/@x", number, _SIZED),
        "yres": Prop("model/resolution/@y", number, _SIZED),
        "edid": Prop("model/@edid", switch, ("VGA", "bochs-display", "virtio-*", "vhost-user-*")),
        "blob": Prop("model/@blob", switch, ("virtio-*", "vhost-user-*")),
        **VIRTIO,
    },
    alias="video",
    reads=(
        *(f"model/@{name}" for name in ("primary", "heads", "ram", "vram", "vram64", "vgamem", "device")),
        "model/acceleration/@accel3d",
        "driver/@name",
    ),
    host={
        "model/acceleration/@rendernode": by_libvirt("a render node of the host"),
        "model/acceleration/@accel2d": idle("other hypervisors"),
        "driver/@vgaconf": idle("other hypervisors"),
        "model": idle("a text that libvirt does not read"),
    },
    shape=_shape,
)
