qemu-system-x86_64 -M q35 -nodefaults -display none -m size=1G,slots=4,maxmem=8G -smp 4,maxcpus=8,sockets=2,cores=2,threads=2 -cpu qemu64,+x2apic,svm=off \
 -object memory-backend-ram,id=ram-node0,size=512M -numa node,nodeid=0,cpus=0-3,memdev=ram-node0 -object memory-backend-ram,id=ram-node1,size=512M -numa node,nodeid=1,cpus=4-7,memdev=ram-node1 \
 -numa dist,src=0,dst=1,val=20 -numa dist,src=1,dst=0,val=20 -object memory-backend-ram,id=m0,size=256M -device pc-dimm,id=dimm0,memdev=m0,node=1 -device virtio-balloon-pci -device i6300esb -watchdog-action poweroff -action panic=pause
