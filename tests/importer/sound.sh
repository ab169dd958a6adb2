qemu-system-x86_64 -M q35,pcspk-audiodev=snd1 -m 256 -nodefaults -vga qxl -spice port=5930,addr=127.0.0.1,disable-ticketing=on,image-compression=off,streaming-video=filter \
 -audiodev spice,id=snd0 -device ich9-intel-hda -device hda-duplex,audiodev=snd0 -audiodev pa,id=snd1,server=/run/pulse,out.frequency=48000 -device AC97,audiodev=snd1 \
 -device virtio-serial-pci -chardev spicevmc,id=vdagent,name=vdagent -device virtserialport,chardev=vdagent,name=com.redhat.spice.0 \
 -device qemu-xhci -chardev spicevmc,name=usbredir,id=ur1 -device usb-redir,chardev=ur1 -chardev spicevmc,name=usbredir,id=ur2 -device usb-redir,chardev=ur2 \
 -device usb-ccid -chardev spicevmc,id=ccid,name=smartcard -device ccid-card-passthru,chardev=ccid
