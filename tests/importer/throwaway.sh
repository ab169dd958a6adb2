qemu-system-x86_64 -snapshot -m 1500 -netdev user,id=net.0,hostfwd=tcp::8022-:22 -device rtl8139,netdev=net.0 -bios /usr/share/ovmf/OVMF.fd -drive file=/x/a.img,if=virtio -serial stdio
