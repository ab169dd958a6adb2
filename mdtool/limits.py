"""How much mdtool takes from a file or a peer that it does not trust: the one table of limits.

Each is far above what any guest of QEMU's needs, and low enough that whatever a hostile input holds is refused, with its
place, within two seconds and 200 MB.
"""

from __future__ import annotations

#: bytes of a guest XML, a description, a script or a file for -readconfig; 1,000 devices are 500 kB
MAX_BYTES = 4 << 20
#: bytes of a description that is read by the slow parser, where libyaml does not read it
MAX_SLOW_BYTES = 150_000
#: bytes of one answer of a monitor; 1,000 devices are 2 MB
MAX_ANSWER = 6 << 20
#: XML elements inside of each other; libvirt's own nest less than 10 deep
MAX_ELEMENTS_DEEP = 200
#: collections of YAML or JSON inside of each other; a bus behind a port takes four
MAX_COLLECTIONS_DEEP = 200
#: buses behind each other, each behind a device of the one before
MAX_BUSES_DEEP = 45
#: values of a description without its pins, those that aliases repeat counted each time; 1,000 devices have 15,000
MAX_VALUES = 60_000
#: digits of a number; the largest that QEMU takes has 20
MAX_DIGITS = 40
#: an index in an origin (controller/pci/N); libvirt and mdtool refuse larger ones in a guest XML as well
MAX_INDEX = 1023
#: I/O threads of a guest, each a thread of the host
MAX_THREADS = 1024
#: characters of a value that an error quotes
MAX_QUOTED = 120
