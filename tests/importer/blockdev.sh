qemu-system-x86_64 -machine q35 -m 512 -nodefaults -display none -device virtio-scsi-pci,id=s \
 -blockdev '{"driver":"qcow2","node-name":"d0","file":{"driver":"file","filename":"/srv/d0.qcow2","aio":"native","cache":{"direct":true}}}' -device virtio-blk-pci,drive=d0,bootindex=1 \
 -blockdev driver=file,node-name=f1,filename=/srv/d1.raw,discard=unmap -blockdev driver=raw,node-name=d1,file=f1,read-only=on -device scsi-hd,drive=d1 \
 -blockdev raw,node-name=d2,file.driver=nbd,file.server.type=inet,file.server.host=nbd.example,file.server.port=10809,file.export=vol -device scsi-hd,drive=d2 \
 -drive file=iscsi://san.example/iqn.2001-04.com.example:t1/2,if=none,id=d3,format=raw -device scsi-hd,drive=d3 \
 -drive file=https://mirror.example/a.iso,if=none,id=d4,format=raw,readonly=on -device scsi-cd,drive=d4 \
 -drive file=rbd:pool/image:id=admin:conf=/etc/ceph/ceph.conf,if=none,id=d5,format=raw,cache=none -device virtio-blk-pci,drive=d5 \
 -object secret,id=k0,file=/etc/keys/k0 -blockdev '{"driver":"luks","node-name":"d6","key-secret":"k0","file":{"driver":"file","filename":"/srv/d6.luks"}}' -device virtio-blk-pci,drive=d6 \
 -drive file=nbd:localhost:10810,if=none,id=d7,format=raw -device virtio-blk-pci,drive=d7
