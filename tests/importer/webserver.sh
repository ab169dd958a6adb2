#!/bin/sh
# an old friend
IMG=/srv/images
NAME=web
exec qemu-system-x86_64 -enable-kvm -m 512 -smp 2 -name "$NAME" \
    -hda $IMG/web.qcow2 -cdrom "/srv/iso/debian 12.iso" \
    -drive file=${IMG}/data,,1.img,if=virtio,format=raw,cache=none \
    -device virtio-net-pci,netdev=n0,mac=52:54:00:01:02:03 -netdev user,id=n0 \
    -nic tap,model=e1000,ifname=tap7,script=no,downscript=no \
    -usb -device usb-tablet \
    -serial mon:stdio -vga std -vnc :3     # remote
