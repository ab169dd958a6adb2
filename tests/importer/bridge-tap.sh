#!/bin/sh
/usr/bin/qemu-system-x86_64 -M pc -m 1G -display none -nodefaults -serial file:/var/log/guest.log \
 -netdev bridge,id=lan,br=br0 -device e1000e,netdev=lan,mac=52:54:00:00:10:01,bootindex=1 \
 -netdev tap,id=dmz,ifname=tap3,script=no,downscript=no,vhost=on,queues=4 \
 -device virtio-net-pci,netdev=dmz,mac=52:54:00:00:10:02,mq=on,vectors=10 \
 -netdev socket,id=lab,mcast=230.0.0.1:1234 -device rtl8139,netdev=lab,mac=52:54:00:00:10:03 \
 -netdev socket,id=p2p,udp=10.0.0.2:5000,localaddr=0.0.0.0:5001 -device virtio-net-pci,netdev=p2p,mac=52:54:00:00:10:04 \
 -netdev l2tpv3,id=l2,src=10.0.0.1,dst=10.0.0.2,txsession=1 -device virtio-net-pci,netdev=l2,mac=52:54:00:00:10:05 \
 -monitor unix:/run/guest.mon,server,nowait 2>&1 &
