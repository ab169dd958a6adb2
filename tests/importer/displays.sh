qemu-system-x86_64 -M q35 -m 256 -nodefaults -device virtio-vga,max_outputs=2 -display gtk,gl=on,show-cursor=on -vnc 0.0.0.0:5,share=force-shared,websocket=5701 -name retro,process=retro -full-screen
