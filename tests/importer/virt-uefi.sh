qemu-system-aarch64 -machine virt,gic-version=3,virtualization=on -cpu max -smp 2 -m 1G -display none -nodefaults -serial stdio \
 -drive if=pflash,format=raw,file=/usr/share/AAVMF/AAVMF_CODE.fd,readonly=on -drive if=pflash,format=raw,file=/vm/vars.fd \
 -device virtio-gpu-pci -device qemu-xhci -device usb-kbd -device usb-tablet -drive if=none,id=d,file=/vm/d.qcow2 -device virtio-blk-device,drive=d -netdev user,id=n -device virtio-net-device,netdev=n,mac=52:54:00:00:50:02
