"""What changes a guest that runs, or asks QEMU what a change does to its built-in devices."""
