qemu-system-x86_64 -M q35,memory-backend=ram -m 1G -nodefaults -display none -object memory-backend-file,id=ram,size=1G,mem-path=/dev/hugepages,share=on,prealloc=on \
 -virtfs local,path=/home/me/share,mount_tag=host0,security_model=mapped-xattr,id=host0 -fsdev local,id=f1,path=shared,security_model=none,readonly=on -device virtio-9p-pci,fsdev=f1,mount_tag=ro
