"""QEMU's own notation: options and their values, scripts, ``-readconfig`` files, the arguments of a process."""
