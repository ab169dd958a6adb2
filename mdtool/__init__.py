"""mdtool: machine descriptions for QEMU."""

__version__ = "0.1.0"
