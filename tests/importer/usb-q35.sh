qemu-system-x86_64 -M q35 -m 256 -nodefaults -display none -usb -device usb-tablet -device usb-mouse,bus=usb-bus.0
