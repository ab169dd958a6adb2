#!/bin/sh
# disks of every kind
D=/srv/disks
qemu-system-x86_64 -M pc -m 512 -nodefaults -vga none -display none \
 -drive file=$D/a.qcow2,if=virtio,cache=writeback,discard=unmap,detect-zeroes=unmap,werror=stop,rerror=report \
 -drive file=$D/b.raw,if=ide,format=raw,index=0,aio=native,cache=none -drive if=ide,index=2,media=cdrom \
 -drive file=$D/c.img,if=floppy,format=raw \
 -device virtio-scsi-pci,id=scsi0,iothread=io1 -object iothread,id=io1 \
 -drive file=/dev/vg/d,if=none,id=d,format=raw,readonly=on -device scsi-hd,drive=d,bus=scsi0.0,serial=S-1 \
 -drive file=$D/e.iso,if=none,id=e,media=cdrom -device scsi-cd,drive=e,bus=scsi0.0,scsi-id=3 \
 -drive file=$D/f.vmdk,if=none,id=f -device ide-hd,drive=f,bus=ide.0,unit=1 \
 -drive file=$D/g.qcow2,if=none,id=g,snapshot=on -device virtio-blk-pci,drive=g,iothread=io1,num-queues=2,write-cache=on \
 -drive file=$D/h.raw,if=none,id=h,format=raw -device nvme,drive=h,serial=NVME0
