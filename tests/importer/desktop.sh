#!/bin/sh
# a desktop system, installed from a CD
qemu-system-x86_64 -enable-kvm -m 4G -smp 4 -hda desktop.img -cdrom /srv/iso/debian-12.iso -boot d -vga std -display sdl
