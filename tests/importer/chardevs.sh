qemu-system-x86_64 -m 128 -display none -net none -serial telnet:127.0.0.1:4001,server,nowait -serial unix:/run/s1.sock,server=on -serial pty -parallel file:/tmp/lp.txt \
 -chardev udp,id=u,host=10.0.0.9,port=514,localport=514 -device pci-serial,chardev=u -chardev pipe,id=p,path=/run/p -chardev socket,id=ga,path=/run/ga.sock,server=on,wait=off \
 -device virtio-serial -device virtserialport,chardev=ga,name=org.qemu.guest_agent.0 -device virtserialport,chardev=p,name=org.example.p -chardev stdio,id=con,mux=on,signal=off -mon con -device virtconsole,chardev=con \
 -chardev ringbuf,id=rb,size=65536 -device isa-debugcon,chardev=rb,iobase=0x402 -qmp tcp:localhost:4444,server,nowait -monitor stdio
