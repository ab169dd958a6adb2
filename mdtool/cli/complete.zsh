# What completes arguments of mdtool in zsh.

_mdtool_sources() {
  if [[ $PREFIX == libvirt:* ]]; then
    compset -P libvirt:
    _mdtool_libvirt_guests
  else
    _files
    compadd -S '' -- libvirt: pid: tcp:
  fi
}

_mdtool_libvirt_guests() {
  compadd -- ${(f)"$(virsh -q -r list --all --name 2>/dev/null)"}
}

# the guests of this folder
_mdtool_guests() {
  compadd -- *.xml(N:r)
}

# the values of a key in the description on the command line
_mdtool_described() {
  local word
  for word in $words; do
    [[ $word == *.y*ml && -r $word ]] && compadd -- ${(f)"$(sed -n $1 -- $word)"}
  done
}

_mdtool_devices() {
  _mdtool_described 's/^ *- {\{0,1\}id: *\([^ ,}]*\).*/\1/p'
}

_mdtool_buses() {
  _mdtool_described '/^buses:/,/^[a-z]/s/^ *\([^ :]*\): *\({.*\)\{0,1\}$/\1/p'
}

_mdtool_qemus() {
  compadd -- ${(M)${(k)commands}:#qemu-system-*}
  _files
}

_mdtool_uris() {
  compadd -- qemu:///system qemu:///session
}
