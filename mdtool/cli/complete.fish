# What completes arguments of mdtool in fish; each function prints candidates.

function _mdtool_sources
    set -l word (commandline -ct)
    if string match -q 'libvirt:*' -- $word
        printf 'libvirt:%s\n' (_mdtool_libvirt_guests)
    else
        __fish_complete_path $word
        printf '%s\n' libvirt: pid: tcp:
    end
end

function _mdtool_libvirt_guests
    virsh -q -r list --all --name 2>/dev/null | string match -v ''
end

# the guests of this folder
function _mdtool_guests
    string replace -r '\.xml$' '' -- *.xml
end

# the values of a key in the description on the command line
function _mdtool_described
    for word in (commandline -opc)
        if string match -q '*.y*ml' -- $word; and test -r $word
            sed -n $argv[1] -- $word
        end
    end
end

function _mdtool_devices
    _mdtool_described 's/^ *- {\{0,1\}id: *\([^ ,}]*\).*/\1/p'
end

function _mdtool_buses
    _mdtool_described '/^buses:/,/^[a-z]/s/^ *\([^ :]*\): *\({.*\)\{0,1\}$/\1/p'
end

function _mdtool_qemus
    complete -C "qemu-system-" | string replace -r '\t.*' ''
end

function _mdtool_uris
    printf '%s\n' qemu:///system qemu:///session
end
