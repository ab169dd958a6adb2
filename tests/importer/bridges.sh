qemu-system-x86_64 -M q35 -m 256 -nodefaults -display none -device pcie-root-port,id=rp1,chassis=1,addr=3.0,multifunction=on -device pcie-root-port,id=rp2,chassis=2,addr=3.1 \
 -device x3130-upstream,id=up,bus=rp1 -device xio3130-downstream,id=down,bus=up,chassis=3,slot=3 -device e1000e,netdev=n,bus=down,mac=52:54:00:00:30:01 -netdev user,id=n \
 -device pcie-pci-bridge,id=pb,bus=rp2 -device pci-bridge,id=br,bus=pb,chassis_nr=4,addr=1 -device ne2k_pci,netdev=m,bus=br,addr=2,mac=52:54:00:00:30:02 -netdev user,id=m \
 -device pxb-pcie,id=pxb,bus_nr=100 -device ioh3420,id=io,bus=pxb,chassis=9 -device virtio-rng-pci,bus=io -device edu,bus=pcie.0 -device intel-iommu,intremap=on -device pvpanic -device vmcoreinfo 
