#!/bin/bash
args=(
  -machine q35,smm=on,accel=kvm,vmport=off  # as Windows likes it
  -cpu host,migratable=no,hv_relaxed,hv_vapic,hv_spinlocks=0x1fff,hv_time,+invtsc,kvm=off
  -smp 8,sockets=1,cores=4,threads=2
  -m 8192
  -global driver=cfi.pflash01,property=secure,value=on
  -global ICH9-LPC.disable_s3=1
  -drive if=pflash,format=raw,unit=0,file=/usr/share/OVMF/OVMF_CODE_4M.secboot.fd,readonly=on
  -drive if=pflash,format=raw,unit=1,file=/vm/win11/OVMF_VARS.fd
  -chardev socket,id=chrtpm,path=/run/swtpm/win11.sock
  -tpmdev emulator,id=tpm0,chardev=chrtpm
  -device tpm-tis,tpmdev=tpm0
  -device pcie-root-port,id=rp1,chassis=1,slot=1
  -device pcie-root-port,id=rp2,chassis=2,slot=2
  -device virtio-blk-pci,drive=c,bus=rp1,bootindex=1
  -drive if=none,id=c,file=/vm/win11/c.qcow2,format=qcow2,cache=none,aio=native,discard=unmap
  -nic user,model=e1000e,mac=52:54:00:77:00:01
  -device qemu-xhci -device usb-tablet
  -device intel-hda -device hda-output,audiodev=a -audiodev none,id=a
  -rtc base=localtime,driftfix=slew
  -uuid 2f5d1c3a-0c7e-4b0a-9a51-0d7f8a3b6c11
  -smbios type=1,manufacturer=Acme,product=Box,serial=42 -smbios type=11,value=one,value=two
)
args+=(-vga none -device virtio-vga -vnc :0,password=on)
exec qemu-system-x86_64 "${args[@]}"
