#!/usr/bin/env bash
VMNAME="ubuntu"; VMDIR="/home/me/vms/${VMNAME}"
QEMU=qemu-system-x86_64
NET="user,hostname=${VMNAME},hostfwd=tcp::22220-:22"
if [ -n "${1:-}" ]; then echo "usage"; exit 1; fi
${QEMU} -name ${VMNAME},process=${VMNAME} -pidfile ${VMDIR}/${VMNAME}.pid -enable-kvm -machine q35,smm=off,vmport=off,hpet=off -global kvm-pit.lost_tick_policy=discard \
  -cpu host -smp cores=2,threads=2,sockets=1 -m 8G -device virtio-balloon -vga none -device virtio-vga-gl,xres=1280,yres=800 -display sdl,gl=on \
  -device virtio-rng-pci,rng=rng0 -object rng-random,id=rng0,filename=/dev/urandom -device qemu-xhci,id=spicepass -chardev spicevmc,id=usbredirchardev1,name=usbredir -device usb-redir,chardev=usbredirchardev1,id=usbredirdev1 \
  -device pci-ohci,id=smartpass -device usb-ccid -device usb-ehci,id=input -device usb-kbd,bus=input.0 -k en-us -device usb-mouse,bus=input.0 -audiodev pa,id=audio0 -device intel-hda -device hda-micro,audiodev=audio0 \
  -device virtio-net,netdev=nic -netdev ${NET},id=nic -global ICH9-LPC.disable_s3=1 -drive media=cdrom,index=0,file=${VMDIR}/ubuntu.iso -device virtio-blk-pci,drive=SystemDisk -drive id=SystemDisk,if=none,format=qcow2,file=${VMDIR}/disk.qcow2 \
  -fsdev local,id=fsdev0,path=/home/me/Public,security_model=mapped-xattr -device virtio-9p-pci,fsdev=fsdev0,mount_tag=Public-me -monitor unix:${VMDIR}/monitor.sock,server,nowait -serial unix:${VMDIR}/serial.sock,server,nowait 2>/dev/null
