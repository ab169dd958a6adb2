qemu-system-arm -M vexpress-a9 -m 128 -sd /vm/sd.img -nic user -display none -serial pty
