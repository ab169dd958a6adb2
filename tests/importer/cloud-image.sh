#!/bin/bash
set -euo pipefail
cd "$(dirname "$0")"
PORT=2222
[ -f seed.img ] || cloud-localds seed.img user-data
qemu-system-x86_64 -machine type=q35,accel=kvm:tcg -cpu host -smp "${CPUS:-2}" -m 2048 -nographic \
  -nic user,model=virtio-net-pci,hostfwd=tcp::$PORT-:22,mac=52:54:00:aa:00:01 \
  -drive file=noble-server-cloudimg-amd64.img,if=virtio,format=qcow2,discard=unmap,aio=io_uring \
  -drive file=seed.img,if=virtio,format=raw "$@"
