qemu-system-x86_64 -enable-kvm -M q35 -cpu host -m 1G -nodefaults -vga none -display none -device pcie-root-port,id=rp,chassis=1 \
 -device vfio-pci,host=01:00.0,bus=rp,multifunction=on,x-vga=on,romfile=/vm/gpu.rom -device vfio-pci,host=0000:01:00.1,bus=rp,addr=0.1 \
 -device ivshmem-plain,memdev=lg -object memory-backend-file,id=lg,share=on,mem-path=/dev/shm/looking-glass,size=32M -device vhost-vsock-pci,guest-cid=7 \
 -object input-linux,id=kbd,evdev=/dev/input/event3,grab_all=on,repeat=on -device virtio-keyboard-pci
