qemu-system-aarch64 -M virt-7.2 -cpu cortex-a57 -m 256 -nographic -device virtio-net-pci,netdev=n,mac=52:54:00:00:50:01 -netdev user,id=n -drive file=/a.img,format=raw,if=virtio
