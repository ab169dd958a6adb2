qemu-system-x86_64 -machine q35 -m 1G -nodefaults -display none \
 -object memory-backend-memfd,id=mem,size=1G,share=on -numa node,memdev=mem \
 -chardev socket,id=c0,path=/run/vpp/p0.sock,server=on -netdev vhost-user,id=n0,chardev=c0,queues=2 \
 -device virtio-net-pci,netdev=n0,mac=52:54:00:00:20:01,mq=on \
 -chardev socket,id=fs,path=/run/virtiofsd.sock -device vhost-user-fs-pci,chardev=fs,tag=home,queue-size=1024
