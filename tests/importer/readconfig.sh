qemu-system-x86_64 -nodefaults -display none -m 256 -readconfig /dev/stdin -set device.net0.mac=52:54:00:00:40:01 <<'EOF'
# as QEMU's own -writeconfig has it
[machine]
  type = "q35"

[device "ich9-ehci-1"]
  driver = "ich9-usb-ehci1"
  addr = "1d.7"
  multifunction = "on"

[device "ich9-uhci-1"]
  driver = "ich9-usb-uhci1"
  addr = "1d.0"
  multifunction = "on"
  masterbus = "ich9-ehci-1.0"
  firstport = "0"

[netdev "n0"]
  type = "user"

[device "net0"]
  driver = "virtio-net-pci"
  netdev = "n0"
EOF
