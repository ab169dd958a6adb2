qemu-system-x86_64 -M pc-i440fx-7.2 -m 256 -nodefaults -display none -usb -usbdevice tablet -device usb-kbd \
 -device usb-ehci,id=ehci -drive if=none,id=stick,file=/srv/stick.img,format=raw -device usb-storage,bus=ehci.0,drive=stick,removable=on \
 -device qemu-xhci,id=xhci,p2=8,p3=8 -device usb-hub,bus=xhci.0,port=1 -device usb-host,vendorid=0x046d,productid=0xc52b,bus=xhci.0,port=2 \
 -device usb-host,hostbus=1,hostaddr=4,bus=xhci.0 -device usb-host,hostdevice=/dev/bus/usb/014/006,bus=xhci.0 -device usb-host,hostbus=2,hostport=1.3,bus=xhci.0
