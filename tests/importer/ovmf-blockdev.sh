qemu-system-x86_64 -machine q35,pflash0=code,pflash1=vars -m 1024 -nodefaults -display none \
 -blockdev node-name=code,driver=file,filename=/usr/share/OVMF/OVMF_CODE_4M.fd,read-only=on \
 -blockdev '{"driver":"raw","node-name":"vars","file":{"driver":"file","filename":"/vm/VARS.fd"}}' \
 -drive file=/vm/d.raw,format=raw,if=virtio -bios /unused
