"""Faults by the hundred: what may differ between a described guest and the QEMU that runs, and where it is found.

A machine is a command line; a fault replaces one piece of it by another (nothing: it comes in addition).  ``node`` is the
node or section that the comparison must name; where it is HOST the guest cannot see it and the comparison must be silent,
and ``why`` says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from mdtool.compare import EFFECTIVE, Difference, guest_visible, noticed

HOST = "host"


class Fault(NamedTuple):
    old: str
    new: str
    node: str
    why: str = ""


class Machine(NamedTuple):
    words: str
    faults: tuple[Fault, ...]


def with_faults(words: str, faults: Sequence[Fault]) -> str:
    """The command line with these faults, none of which replaces what another one does."""
    for start, fault in sorted(((words.index(one.old), one) for one in faults if one.old), reverse=True):
        words = words[:start] + fault.new + words[start + len(fault.old) :]
    return " ".join([words, *(one.new for one in faults if not one.old)])


def batches(machine: Machine) -> list[list[Fault]]:
    """The faults in groups that one start shows: each of another node, and of another piece of the command line.

    >>> one, two, three = Fault("a", "b", "x"), Fault("c", "d", "x"), Fault("c", "e", "y")
    >>> [[fault.new for fault in batch] for batch in batches(Machine("a c", (one, two, three)))]
    [['b', 'e'], ['d']]
    """
    found: list[tuple[list[Fault], set[str | int]]] = []
    for fault in machine.faults:
        start = machine.words.index(fault.old)
        taken: set[str | int] = {*range(start, start + len(fault.old))}
        taken.add("" if fault.node == HOST else fault.node)
        for batch, others in found:
            if ("" in others) == (fault.node == HOST) and others & taken <= {""}:
                batch.append(fault)
                others |= taken
                break
        else:
            found.append(([fault], taken))
    return [batch for batch, _ in found]


def is_wrong(fault: Fault, found: Sequence[Difference]) -> bool:
    """Whether a comparison misses a fault, or reports one that is the host's.

    A launch stops for what is no host's doing; what two hosts make of one CPU or disk it reports.
    """
    if fault.node == HOST:
        return bool(noticed(found))
    named = [one for one in noticed(found) if one.node == fault.node]
    return not named or not (guest_visible(named) or all(one.severity == EFFECTIVE for one in named))


def rows(text: str) -> tuple[Fault, ...]:
    """``old => new : node : why`` a line; an empty ``old`` adds ``new``; FILE is some file that can be read."""
    found = []
    for line in text.strip().splitlines():
        change, _, rest = line.strip().partition(" : ")
        old, _, new = change.partition("=>")
        node, _, why = rest.partition(" : ")
        found.append(Fault(old.strip(), new.strip().replace("FILE", __file__), node.strip(), why.strip()))
    return tuple(found)


_BLOCKS = " ".join(f"-blockdev driver=null-co,node-name={name},size=16777216,read-zeroes=on" for name in "abcde")

Q35 = Machine(
    "qemu-system-x86_64 -nodefaults -name g -uuid 4dea22b3-1d52-4d8f-a2a8-6f0b5d9f1c01"
    " -machine pc-q35-7.2 -cpu Nehalem -m 256M,slots=4,maxmem=1G -smp 2,sockets=2,cores=1,threads=1"
    " -object memory-backend-ram,id=m0,size=128M -object memory-backend-ram,id=m1,size=128M"
    " -numa node,nodeid=0,cpus=0,memdev=m0 -numa node,nodeid=1,cpus=1,memdev=m1 -numa dist,src=0,dst=1,val=21"
    " -object memory-backend-ram,id=d0,size=64M -device pc-dimm,id=dimm0,memdev=d0,slot=0,node=0"
    " -smbios type=0,vendor=BV -smbios type=1,manufacturer=M,serial=S1 -smbios type=11,value=one"
    " -fw_cfg name=opt/a,string=x -rtc base=utc -boot order=cd,menu=off"
    f" {_BLOCKS}"
    " -device pcie-root-port,id=p1,bus=pcie.0,addr=2,chassis=1 -device pcie-root-port,id=p2,bus=pcie.0,addr=3,chassis=2"
    " -netdev hubport,hubid=1,id=n0 -device virtio-net-pci,id=net0,netdev=n0,mac=52:54:00:00:00:01,bus=p1,rombar=1"
    " -device virtio-scsi-pci,id=s,bus=pcie.0,addr=4 -device"
    " scsi-hd,id=d,bus=s.0,drive=a,serial=AAA,device_id=DID,wwn=5,product=PRO,vendor=VEN,ver=1.0,channel=0,scsi-id=0,lun=1"
    " -device virtio-blk-pci,id=vd,drive=b,serial=BBB,bus=pcie.0,addr=5,logical_block_size=512"
    " -device qemu-xhci,id=x,bus=pcie.0,addr=6,p2=8 -device usb-storage,id=u,drive=c,bus=x.0,port=1,serial=UUU"
    " -device usb-tablet,id=tab,bus=x.0,port=2 -device nvme,id=nv,drive=d,serial=NVME,bus=pcie.0,addr=7"
    " -device ide-hd,id=ide,drive=e,bus=ide.0,serial=IDE,model=MOD"
    " -device virtio-serial-pci,id=vs,bus=pcie.0,addr=8 -chardev null,id=ch"
    " -device virtserialport,id=port,bus=vs.0,chardev=ch,name=org.example.a,nr=1 -chardev null,id=se"
    " -chardev null,id=co -device virtconsole,id=con,bus=vs.0,chardev=co"
    " -device isa-serial,id=ser,chardev=se -device vmgenid,id=gen,guid=11111111-2222-3333-4444-555555555555"
    " -device VGA,id=vga,bus=pcie.0,addr=1,vgamem_mb=16 -device virtio-rng-pci,id=rng,bus=p2"
    " -object memory-backend-ram,id=m2,size=64M -device virtio-mem-pci,id=vm0,memdev=m2,bus=pcie.0,addr=0xc,block-size=2M"
    " -device nvme-subsys,id=subsystem",
    rows("""
    -machine pc-q35-7.2 => -machine pc-q35-7.1 : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,firmware=bios-256k.bin : firmware
    id=subsystem => id=other : subsystem
    id=subsystem => id=subsystem,nqn=other : subsystem
    id=subsystem => id=subsystem,nqn=subsystem : host : it is called so anyhow
    -machine pc-q35-7.2 => -machine pc-q35-7.2,nvdimm=on : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,x-oem-id=ABC : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,x-oem-table-id=ABC : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,smbios-entry-point-type=64 : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,max-ram-below-4g=1G : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,smm=off : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,hpet=off : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,vmport=off : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,i8042=off : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,pit=off : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,smbus=off : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,default-bus-bypass-iommu=on : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,graphics=off : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,cxl=on : machine
    -machine pc-q35-7.2 => -machine pc-q35-7.2,mem-merge=off : host : how the host keeps the memory
    -machine pc-q35-7.2 => -machine pc-q35-7.2,dump-guest-core=off : host : what a crash of QEMU leaves behind
    -cpu Nehalem => -cpu Westmere : cpu
    -cpu Nehalem => -cpu Nehalem,-aes : host : the model has no such flag, and takes none away
    -cpu Nehalem => -cpu Nehalem,family=7 : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,model=27 : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,stepping=9 : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,model-id=Foo : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,vendor=AuthenticAMD : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,level=13 : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,xlevel=0x80000007 : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,phys-bits=38 : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,l3-cache=off : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,cpuid-0xb=off : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,-sse4.2 : Nehalem-x86_64-cpu@0:0:0
    -cpu Nehalem => -cpu Nehalem,pmu=on : cpu
    -cpu Nehalem => -cpu Nehalem,vmx-ept=off : cpu
    -cpu Nehalem => -cpu Nehalem,mds-no=on : cpu
    -cpu Nehalem => -cpu Nehalem,lbr-fmt=0 : cpu
    -smp 2,sockets=2,cores=1,threads=1 => -smp 2,sockets=1,cores=2,threads=1 : cpu
    -smp 2,sockets=2,cores=1,threads=1 => -smp 2,sockets=2,cores=2,threads=1,maxcpus=4 : cpu
    -m 256M,slots=4,maxmem=1G => -m 256M,slots=6,maxmem=1G : memory
    -m 256M,slots=4,maxmem=1G => -m 256M,slots=4,maxmem=2G : memory
    cpus=0,memdev=m0 -numa node,nodeid=1,cpus=1 => cpus=1,memdev=m0 -numa node,nodeid=1,cpus=0 : numa
    -numa dist,src=0,dst=1,val=21 => -numa dist,src=0,dst=1,val=31 : numa
    -numa dist,src=0,dst=1,val=21 => : numa
    slot=0,node=0 => slot=0,node=1 : dimm0
    slot=0,node=0 => slot=1,node=0 : dimm0
    id=d0,size=64M => id=d0,size=32M : objects
    -uuid 4dea22b3-1d52-4d8f-a2a8-6f0b5d9f1c01 => -uuid 4dea22b3-1d52-4d8f-a2a8-6f0b5d9f1c02 : guest
    -uuid 4dea22b3-1d52-4d8f-a2a8-6f0b5d9f1c01 => : guest
    -name g => -name h : host : no guest reads its name
    manufacturer=M,serial=S1 => manufacturer=M,serial=S2 : smbios
    manufacturer=M,serial=S1 => manufacturer=M : smbios
    -smbios type=0,vendor=BV => : smbios
    -smbios type=11,value=one => -smbios type=11,value=two : smbios
    => -smbios type=3,asset=A : smbios
    => -smbios type=2,serial=B : smbios
    name=opt/a,string=x => name=opt/a,string=y : features
    name=opt/a,string=x => name=opt/b,string=x : features
    -fw_cfg name=opt/a,string=x => : features
    => -fw_cfg name=opt/c,string=z : features
    -rtc base=utc => -rtc base=localtime : clock
    -rtc base=utc => -rtc base=utc,driftfix=slew : clock
    -boot order=cd,menu=off => -boot order=n,menu=off : boot
    -boot order=cd,menu=off => -boot order=cd,menu=on : boot
    -boot order=cd,menu=off => -boot order=cd,menu=off,reboot-timeout=5 : boot
    -boot order=cd,menu=off => -boot order=cd,menu=off,splash-time=5 : boot
    -boot order=cd,menu=off => -boot order=cd,menu=off,once=n : boot
    => -global ICH9-LPC.disable_s3=1 : features
    => -acpitable sig=TEST,data=FILE : features
    => -option-rom FILE : features
    => -device intel-iommu : intel-iommu@main-system-bus
    => -device pxb-pcie,id=pxb,bus=pcie.0,addr=0xf,bus_nr=100 : pxb
    -cpu Nehalem => -cpu Nehalem,hv-relaxed=on : cpu
    -cpu Nehalem => -cpu Nehalem,kvm=off : cpu
    rombar=1 => rombar=1,speed=1000 : net0
    rombar=1 => rombar=1,tx=bh : host : when the host sends
    => -global ICH9-LPC.noreboot=off : ICH9-LPC@pcie.0/1f.0
    mac=52:54:00:00:00:01 => mac=52:54:00:00:00:02 : net0
    rombar=1 => rombar=0 : net0
    rombar=1 => rombar=1,romfile= : net0
    rombar=1 => rombar=1,mq=on,vectors=6 : net0
    rombar=1 => rombar=1,host_mtu=1400 : net0
    rombar=1 => rombar=1,csum=off : net0
    rombar=1 => rombar=1,rx_queue_size=512 : net0
    rombar=1 => rombar=1,bootindex=1 : net0
    rombar=1 => rombar=1,packed=on : net0
    rombar=1 => rombar=1,iommu_platform=on : net0
    rombar=1 => rombar=1,disable-legacy=on : host : what auto is behind a PCI Express port
    rombar=1 => rombar=1,failover_pair_id=fo : net0
    rombar=1 => rombar=1,acpi-index=3 : net0
    rombar=1 => rombar=1,x-pcie-flr-init=off : net0
    virtio-net-pci,id=net0,netdev=n0 => e1000e,id=net0,netdev=n0 : net0
    id=p1,bus=pcie.0,addr=2,chassis=1 => id=p1,bus=pcie.0,addr=9,chassis=1 : p1
    id=p1,bus=pcie.0,addr=2,chassis=1 => id=p1,bus=pcie.0,addr=2,chassis=7 : p1
    id=p1,bus=pcie.0,addr=2,chassis=1 => id=p1,bus=pcie.0,addr=2,chassis=1,hotplug=off : p1
    id=p1,bus=pcie.0,addr=2,chassis=1 => id=p1,bus=pcie.0,addr=2,chassis=1,port=9 : p1
    id=p1,bus=pcie.0,addr=2,chassis=1 => id=p1,bus=pcie.0,addr=2,chassis=1,x-speed=8 : p1
    id=p1,bus=pcie.0,addr=2,chassis=1 => id=p1,bus=pcie.0,addr=2,chassis=1,io-reserve=4096 : p1
    id=rng,bus=p2 => id=rng,bus=pcie.0,addr=0xd : rng
    serial=AAA, => serial=ZZZ, : d
    serial=AAA, => : d
    device_id=DID, => device_id=XXX, : d
    device_id=DID, => : d
    wwn=5, => wwn=6, : d
    wwn=5, => : d
    product=PRO, => product=OTHER, : d
    product=PRO, => : d
    vendor=VEN, => : d
    ver=1.0, => ver=2.0, : d
    lun=1 => lun=2 : d
    scsi-id=0,lun=1 => scsi-id=1,lun=1 : d
    lun=1 => lun=1,rotation_rate=1 : d
    lun=1 => lun=1,port_wwn=7 : d
    lun=1 => lun=1,dpofua=on : d
    lun=1 => lun=1,removable=on : d
    lun=1 => lun=1,physical_block_size=4096 : d
    lun=1 => lun=1,discard_granularity=8192 : d
    lun=1 => lun=1,scsi_version=6 : d
    lun=1 => lun=1,max_io_size=4096 : d
    serial=BBB => serial=B : vd
    serial=BBB, => : vd
    logical_block_size=512 => logical_block_size=4096,physical_block_size=4096 : vd
    logical_block_size=512 => logical_block_size=512,min_io_size=4096 : vd
    logical_block_size=512 => logical_block_size=512,opt_io_size=4096 : vd
    logical_block_size=512 => logical_block_size=512,num-queues=3 : vd
    logical_block_size=512 => logical_block_size=512,queue-size=64 : vd
    logical_block_size=512 => logical_block_size=512,config-wce=off : vd
    logical_block_size=512 => logical_block_size=512,seg-max-adjust=off : vd
    logical_block_size=512 => logical_block_size=512,discard=off : vd
    logical_block_size=512 => logical_block_size=512,write-zeroes=off : vd
    logical_block_size=512 => logical_block_size=512,cyls=100,heads=16,secs=63 : vd
    logical_block_size=512 => logical_block_size=512,werror=stop : host : what QEMU does about an error of the host
    logical_block_size=512 => logical_block_size=512,ioeventfd=off : host : how the host hears of the guest
    p2=8 => p2=9 : x
    p2=8 => p2=8,p3=8 : x
    p2=8 => p2=8,streams=off : x
    port=1,serial=UUU => port=1,serial=XYZ : u
    port=1,serial=UUU => port=1 : u
    port=1,serial=UUU => port=3,serial=UUU : u
    port=1,serial=UUU => port=1,serial=UUU,removable=on : u
    id=tab,bus=x.0,port=2 => id=tab,bus=x.0,port=4 : tab
    usb-tablet,id=tab => usb-mouse,id=tab : tab
    usb-tablet,id=tab,bus=x.0,port=2 => usb-tablet,id=tab,bus=x.0,port=2,serial=TAB : tab
    -device usb-tablet,id=tab,bus=x.0,port=2 => : tab
    serial=NVME => serial=OTHER : nv
    bus=pcie.0,addr=7 => bus=pcie.0,addr=0xa : nv
    serial=NVME => serial=NVME,max_ioqpairs=8 : nv
    serial=IDE => serial=EDI : ide
    serial=IDE, => : ide
    model=MOD => model=OTHER : ide
    ,model=MOD => : ide
    drive=e,bus=ide.0 => drive=e,bus=ide.1 : ide
    name=org.example.a => name=org.example.b : port
    name=org.example.a,nr=1 => name=org.example.a,nr=2 : port
    ,name=org.example.a => : port
    virtconsole,id=con => virtconsole,id=con,name=org.example.c : con
    id=vs,bus=pcie.0,addr=8 => id=vs,bus=pcie.0,addr=8,max_ports=3 : vs
    id=ser,chardev=se => id=ser,chardev=se,index=1 : ser
    guid=11111111-2222-3333-4444-555555555555 => guid=11111111-2222-3333-4444-555555555556 : gen
    vgamem_mb=16 => vgamem_mb=32 : vga
    vgamem_mb=16 => vgamem_mb=16,edid=off : vga
    vgamem_mb=16 => vgamem_mb=16,xres=800 : vga
    vgamem_mb=16 => vgamem_mb=16,romfile= : vga
    id=rng,bus=p2 => id=rng,bus=p2,max-bytes=100,period=100 : host : how fast the host gives entropy
    -device virtio-rng-pci,id=rng,bus=p2 => : rng
    block-size=2M => block-size=4M : vm0
    block-size=2M => block-size=2M,memaddr=0x180000000 : vm0
    => -device virtio-balloon-pci,id=new,bus=pcie.0,addr=0xb : new
    => -device i6300esb,id=wd,bus=pcie.0,addr=0xe : wd
    => -device pvpanic,id=pp : pp
    """),
)

PC = Machine(
    "qemu-system-x86_64 -nodefaults -machine pc-i440fx-7.2 -cpu qemu64 -m 128M"
    f" {_BLOCKS}"
    " -netdev hubport,hubid=1,id=n0 -device e1000,id=net0,netdev=n0,mac=52:54:00:00:00:01,addr=3"
    " -device pci-bridge,id=br,chassis_nr=1,addr=4 -device rtl8139,id=net1,bus=br,addr=1"
    " -device lsi53c895a,id=lsi,addr=5 -device scsi-hd,id=d,bus=lsi.0,drive=a,serial=AAA,scsi-id=1"
    " -device ide-hd,id=ide,bus=ide.0,unit=0,drive=b,serial=IDE -device isa-fdc,id=fdc"
    " -device piix3-usb-uhci,id=usb,addr=6 -device usb-kbd,id=kbd,bus=usb.0,port=1"
    " -audiodev none,id=snd -device intel-hda,id=hda,addr=7 -device hda-duplex,id=codec,bus=hda.0,cad=0,audiodev=snd"
    " -device ib700,id=wdt -device cirrus-vga,id=vga,addr=2",
    rows("""
    -machine pc-i440fx-7.2 => -machine pc-i440fx-6.2 : machine
    -machine pc-i440fx-7.2 => -machine pc-i440fx-7.2,acpi=off : machine
    -machine pc-i440fx-7.2 => -machine pc-i440fx-7.2,hpet=off : machine
    -machine pc-i440fx-7.2 => -machine pc-i440fx-7.2,max-ram-below-4g=2G : machine
    -machine pc-i440fx-7.2 => -machine pc-i440fx-7.2,x-oem-id=XY : machine
    -machine pc-i440fx-7.2 => -machine pc-i440fx-7.2,nvdimm=on : machine
    -m 128M => -m 129M : memory
    -cpu qemu64 => -cpu qemu64,+sse4.1 : qemu64-x86_64-cpu@0:0:0
    -cpu qemu64 => -cpu kvm64 : cpu
    -cpu qemu64 => -cpu qemu64,hv-vendor-id=Foo : qemu64-x86_64-cpu@0:0:0
    => -global PIIX4_PM.disable_s3=1 : features
    => -global PIIX4_PM.acpi-pci-hotplug-with-bridge-support=off : features
    addr=3 => addr=8 : net0
    e1000,id=net0 => e1000-82544gc,id=net0 : net0
    mac=52:54:00:00:00:01 => mac=52:54:00:00:00:09 : net0
    addr=3 => addr=3,extra_mac_registers=off : net0
    chassis_nr=1 => chassis_nr=2 : br
    chassis_nr=1 => chassis_nr=1,shpc=off : br
    bus=br,addr=1 => bus=br,addr=2 : net1
    bus=br,addr=1 => bus=pci.0,addr=9 : net1
    lsi53c895a,id=lsi => lsi53c810,id=lsi : lsi
    serial=AAA, => : d
    scsi-id=1 => scsi-id=2 : d
    unit=0,drive=b => unit=1,drive=b : ide
    ide-hd,id=ide => ide-cd,id=ide : ide
    serial=IDE => serial=IDE,wwn=4 : ide
    serial=IDE => serial=IDE,rotation_rate=7200 : ide
    -device isa-fdc,id=fdc => : fdc
    piix3-usb-uhci,id=usb => piix4-usb-uhci,id=usb : usb
    bus=usb.0,port=1 => bus=usb.0,port=2 : kbd
    hda-duplex,id=codec => hda-micro,id=codec : codec
    bus=hda.0,cad=0 => bus=hda.0,cad=1 : codec
    intel-hda,id=hda,addr=7 => intel-hda,id=hda,addr=7,msi=off : hda
    -device ib700,id=wdt => -device i6300esb,id=wdt,addr=10 : wdt
    cirrus-vga,id=vga,addr=2 => cirrus-vga,id=vga,addr=2,vgamem_mb=8 : vga
    cirrus-vga,id=vga,addr=2 => VGA,id=vga,addr=2 : vga
    """),
)

VIRT = Machine(
    "qemu-system-aarch64 -nodefaults -machine virt-7.2,gic-version=3 -cpu cortex-a57 -m 128M -smp 2"
    " -blockdev driver=null-co,node-name=a,size=16777216 -device pcie-root-port,id=p1,chassis=1,addr=1"
    " -device virtio-blk-pci,id=vd,drive=a,serial=AAA,bus=p1 -device virtio-rng-pci,id=rng,addr=2",
    rows("""
    gic-version=3 => gic-version=2 : machine
    gic-version=3 => gic-version=3,acpi=off : machine
    gic-version=3 => gic-version=3,kernel-irqchip=on : host : what it is where KVM can
    gic-version=3 => gic-version=3,highmem=off : machine
    gic-version=3 => gic-version=3,secure=on : machine
    gic-version=3 => gic-version=3,virtualization=on : machine
    gic-version=3 => gic-version=3,iommu=smmuv3 : machine
    gic-version=3 => gic-version=3,x-oem-id=QQ : machine
    -machine virt-7.2 => -machine virt-7.1 : machine
    -cpu cortex-a57 => -cpu cortex-a72 : cpu
    -cpu cortex-a57 => -cpu cortex-a57,pmu=off : cortex-a57-arm-cpu@0:0:0:0
    -cpu cortex-a57 => -cpu cortex-a57,cntfrq=1000000 : cortex-a57-arm-cpu@0:0:0:0
    -smp 2 => -smp 2,sockets=2,cores=1 : cpu
    -m 128M => -m 192M : memory
    serial=AAA, => : vd
    serial=AAA, => serial=B, : vd
    chassis=1,addr=1 => chassis=1,addr=3 : p1
    id=rng,addr=2 => id=rng,addr=4 : rng
    => -device virtio-net-pci,id=n,addr=5 : n
    => -boot menu=on : boot
    => -smbios type=1,serial=S : smbios
    """),
)

S390X = Machine(
    "qemu-system-s390x -nodefaults -machine s390-ccw-virtio-7.2 -m 128M -smp 1"
    " -blockdev driver=null-co,node-name=a,size=16777216"
    " -device virtio-blk-ccw,id=vd,drive=a,serial=AAA,devno=fe.0.0001,bootindex=1"
    " -netdev hubport,hubid=1,id=n0 -device virtio-net-ccw,id=net0,netdev=n0,mac=52:54:00:00:00:01,devno=fe.0.0002",
    rows("""
    -machine s390-ccw-virtio-7.2 => -machine s390-ccw-virtio-7.1 : machine
    -machine s390-ccw-virtio-7.2 => -machine s390-ccw-virtio-7.2,loadparm=2 : machine
    -machine s390-ccw-virtio-7.2 => -machine s390-ccw-virtio-7.2,aes-key-wrap=off : machine
    -machine s390-ccw-virtio-7.2 => -machine s390-ccw-virtio-7.2,dea-key-wrap=off : machine
    -m 128M => -m 256M : memory
    -smp 1 => -smp 1,maxcpus=2 : cpu
    devno=fe.0.0001 => devno=fe.0.0005 : vd
    serial=AAA, => : vd
    bootindex=1 => bootindex=2 : vd
    mac=52:54:00:00:00:01 => mac=52:54:00:00:00:02 : net0
    devno=fe.0.0002 => devno=fe.0.0003 : net0
    => -device virtio-rng-ccw,id=rng,devno=fe.0.0009 : rng
    """),
)

PSERIES = Machine(
    "qemu-system-ppc64 -nodefaults -machine pseries-7.2 -m 256M"
    " -blockdev driver=null-co,node-name=a,size=16777216 -device spapr-vscsi,id=v,reg=0x2000"
    " -device scsi-hd,id=d,bus=v.0,drive=a,serial=AAA -device virtio-rng-pci,id=rng,addr=3",
    rows("""
    -machine pseries-7.2 => -machine pseries-7.1 : machine
    -machine pseries-7.2 => -machine pseries-7.2,cap-cfpc=broken : machine
    -machine pseries-7.2 => -machine pseries-7.2,cap-vsx=off : machine
    -machine pseries-7.2 => -machine pseries-7.2,cap-ibs=broken : machine
    -machine pseries-7.2 => -machine pseries-7.2,cap-large-decr=off : machine
    -machine pseries-7.2 => -machine pseries-7.2,cap-ccf-assist=off : machine
    -machine pseries-7.2 => -machine pseries-7.2,cap-fwnmi=off : machine
    => -prom-env auto-boot?=false : features
    -machine pseries-7.2 => -machine pseries-7.2,ic-mode=xics : machine
    -machine pseries-7.2 => -machine pseries-7.2,host-serial=H : machine
    -m 256M => -m 512M : memory
    reg=0x2000 => reg=0x3000 : v
    serial=AAA => serial=B : d
    ,serial=AAA => : d
    id=rng,addr=3 => id=rng,addr=4 : rng
    """),
)

MACHINES = {"q35": Q35, "pc": PC, "virt": VIRT, "s390x": S390X, "pseries": PSERIES}
