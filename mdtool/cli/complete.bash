# What completes arguments of mdtool in bash; each function prints the candidates for $1.

_mdtool_sources() {
  if [[ $1 == libvirt:* ]]; then
    _mdtool_libvirt_guests "${1#libvirt:}" | sed 's/^/libvirt:/'
  else
    compgen -f -- "$1"
    compgen -W "libvirt: pid: tcp:" -- "$1"
  fi
}

_mdtool_libvirt_guests() {
  compgen -W "$(virsh -q -r list --all --name 2>/dev/null)" -- "$1"
}

# the guests of this folder, and of a folder that is named
_mdtool_guests() {
  local file
  for file in "$1"*.xml; do
    [[ -e $file ]] && printf '%s\n' "${file%.xml}"
  done
  compgen -d -S / -- "$1"
}

# the values of a key in the description on the command line
_mdtool_described() {
  local word
  for word in "${COMP_WORDS[@]}"; do
    [[ $word == *.y*ml && -r $word ]] && compgen -W "$(sed -n "$1" -- "$word")" -- "$2"
  done
}

_mdtool_devices() {
  _mdtool_described 's/^ *- {\{0,1\}id: *\([^ ,}]*\).*/\1/p' "$1"
}

_mdtool_buses() {
  _mdtool_described '/^buses:/,/^[a-z]/s/^ *\([^ :]*\): *\({.*\)\{0,1\}$/\1/p' "$1"
}

_mdtool_qemus() {
  compgen -c -- "${1:-qemu-system-}"
}

_mdtool_uris() {
  compgen -W "qemu:///system qemu:///session" -- "$1"
}

# bash splits libvirt:web01 and --via=file; shtab's function is given the words that were typed
_mdtool() {
  local at word cword=0 words=()
  for at in "${!COMP_WORDS[@]}"; do
    word=${COMP_WORDS[at]}
    if (( ${#words[@]} )) && [[ $word == : || ( $word != -* && ${words[-1]} == *: ) ]]; then
      words[-1]+=$word
    elif [[ $word != = ]]; then
      words+=("$word")
    elif (( at == COMP_CWORD )); then
      words+=("")
    fi
    (( at == COMP_CWORD )) && cword=$(( ${#words[@]} - 1 ))
  done
  local COMP_WORDS=("${words[@]}") COMP_CWORD=$cword
  _shtab_mdtool
  word=${COMP_WORDS[COMP_CWORD]}
  if [[ $word == *:* && $COMP_WORDBREAKS == *:* ]]; then
    COMPREPLY=("${COMPREPLY[@]#"${word%"${word##*:}"}"}")
  elif [[ ${#COMPREPLY[@]} == 1 && ${COMPREPLY[0]} == *[:/] ]]; then
    compopt -o nospace 2>/dev/null || :
  fi
}
