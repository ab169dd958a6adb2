"""Scripts are read as bash runs them: the same words for QEMU, or an error or a warning at its place; never other words."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support import mdtool

from mdtool.commandline.recorded import command_by_running
from mdtool.commandline.resolved import options_from_command
from mdtool.commandline.script import command_from_script
from mdtool.errors import InputError, Position, Report
from tests.support_waiting import PATIENCE

END = 'qemu-system-x86_64 $A "${L[@]}"\n'
#: scripts that are followed: bash gives QEMU the same words
FOLLOWED = {
    "plain": 'A="-device a"\nA+=" -device b"\nL=(-device c)\nL+=(-device d)\n',
    "if-then-append": 'A="-device a"\nif true; then A+=" -device b"; fi\nA+=" -device c"\n',
    "else": 'U=yes\nif [ "$U" = no ]; then A=a\nelif [[ $U == y* && -n $U ]]; then A=b\nelse A=c\nfi\n',
    "and-or": '[ -n "$A" ] && A=a || A=b\ntrue || A=c\nfalse && { A+=" -device b"; A+=" -device c"; }\n',
    "group": '{ A="-device a"; L=(-device b); } > /dev/null\n',
    "case": 'F=/d/x.img\ncase "${F##*/}" in\n*.qcow2|*.qed) A=q ;;\n[wx].img) A=r ;;\n*) A=n\nesac\n',
    "case-on-arguments": 'while [ $# -gt 0 ]; do case $1 in -g) A="-s"; shift ;; *) L+=("$1") ;; esac; shift; done\n',
    "getopts": "while getopts nm: O; do case $O in n) A=n;; m) M=$OPTARG;; esac; done\nshift $((OPTIND-1))\nA=${M:-5}\n",
    "for": 'for d in x y; do\n [ $d = z ] && continue\n L+=(-device "$d")\ndone\n',
    "for-seq": 'for i in $(seq 2) {7..8}; do L+=("-device" "d$i"); done\n',
    "for-counted": 'for ((i = 0; i < 3; i++)); do L+=("$i" "$((i * 2 + 1))"); done\n',
    "for-break": "for i in 1 2 3 4; do [ $i -gt 2 ] && break; L+=($i); done\n",
    "while-counted": "i=0\nwhile [ $i -lt 3 ]; do L+=(r$i); i=$((i+1)); done\n",
    "while-in-a-pipe": 'printf "x\\ny\\n" | while read -r d; do L+=("$d"); done\n',
    "uncalled": 'f() {\n A+=" -device b"\n}\nA="-device a"\n',
    "called-with": 'add() { local id="$1"; shift; L+=(-device "$id" "$@"); }\nid=o\nadd a x y\nadd b\nA=$id\n',
    "function-word": "function add {\n L+=(-device x)\n}\nadd\nadd\n",
    "function-returns": "f() { if [ $1 = a ]; then return; fi; L+=($1); }\nf a; f b\n",
    "function-tells": "uefi() { [[ $FW = uefi ]]; }\nFW=bios\nif uefi; then A=u; else A=b; fi\n",
    "function-prints": 'mac() { echo "52:54:0$1"; }\nA=$(mac 1)-`mac 2`\n',
    "one-line": 'f() { A+=" -device b"; }; A="-device a"; f\n',
    "local": "f() { local A=inner; L=($A); }\nA=outer\nf\n",
    "subshell": 'A="-device a"\n(A="-device b"; exit 3)\n{ A=c; } &\nwait\n',
    "element": "L=(a b)\nL[1]=c\nL[3]=d\nA=${L[0]}${L[-1]}${#L[@]}\n",
    "keyed": "declare -A K=([mem]=5 [cpu]=max)\nk=cpu\nA=${K[mem]}${K[$k]}\n",
    "sliced": 'L=(a b c d)\nL=("${L[@]:1:2}")\nA=abc\nA=${A:1}\n',
    "joined": 'L=(x y)\nIFS=,\nL=("${L[*]}")\n',
    "eval": 'A="-device a"\neval \'A="-device b"\'\n',
    "unset": 'A="-device a"\nunset A\nL=(-device c)\n',
    "default": 'X=""\nA="-device ${X:-${Y:-a}} ${X:+n} ${X-s}${Z:=z}$Z"\n',
    "default-words": 'D=d\nE=("a b" c)\nL=(${D:+-drive "f $D" -S} "${E[@]+"${E[@]}"}" ${E[@]+"${E[@]}"} "${A:+y}" "${N:-"x y"}" ${N:+z} ${1+"$@"})\n',
    "stripped": "F=/a/b.tar.gz\nL=(${F##*/} ${F%.*} ${F%%.*} ${F#*/} ${F/a/c} ${#F})\n",
    "printed": 'F=/a/b.img\nL=("$(basename "$F" .img)" "$(dirname $F)" "$(cd /usr/.. && pwd)" "$(echo $(echo x))")\n',
    "braces": "L=(-device e,mac={1,2} {1..3})\n",
    "quotes": 'A="-append"\nL=($\'a\\tb\' "it\'s \\$x \\"q\\" \\z" \'a"b\' a\\ b "" x$)\n',
    "documents": "exec 3>&1 >/dev/null\ncat <<A; cat <<-'B' ; A=c\none (\nA\n\tit's\n\tB\nexec >&3\nL=(d)\n",
    "comments": 'A=5 # no\nL=(  # "\n -m 5 # it\'s\n # -device no\n "#yes"\n)\n',
    "left-or": "L=(a)\n[ -e / ] || { L=(b); exit 1; }\ncd / || exit\n",
    "prefix": "A=a\nA=b true\n",
    "accelerator": '[ -e / ] && A="-enable-kvm"\nA="$A -device a"\nif [ -d / ]; then L=(-accel kvm); else L=(-accel hvf); fi\n',
    "letters": "X=aBc\nA=${X^^}${X,,}${X^}$((1 << 3))\n",
    "reference": 'add() { local -n to=$1; shift; to+=("$@"); }\nadd L -device a\nadd L b\n',
    "indirect": "x_mem=5\nn=x_mem\nA=${!n}\n",
    "printf": "printf -v A '%02x-%s' 26 z\nL=($(printf '%s.%d ' a 1 b 0x2))\n",
    "document-printed": "A=$(cat <<E\n-device a\nE\n)\n",
    "read": 'read -r A <<< "-device b"\nread -ra L <<< "a b c"\n',
    "mapfile": "mapfile -t L <<E\na b\nc\nE\n",
    "expr": "A=$(expr 3 \\* 4)`expr 1 + 1`\n",
    "own": 'for i in 1 2; do N="$N -device d$i"; done\nA=$N\n',
    "added": 'A="-device a $MORE_ARGS"\n',
    "status": "f() { return 1; }\nif f; then A=a; else A=b; fi\n",
    "elements": 'for i in 0 1; do L[$i]=x$i; done\nL[${#L[@]}]=z\ndeclare -A V\nfor k in a b; do V["$k"]+=$k; done\nA=${V[b]}\n',
    "choice": "A=$((3 > 2 ? 5 : 6))\n[ a = a -a -n x ] && L=(y)\n",
    "array-and-text": 'L=(a b)\nL+="c"\nA="$L"\n',
    "home": 'D=~/a.img\nD+=~/b\nL=(~/c file=~/d ~"/e" "$D")\nA=${Q:-~/f}\n[[ ~/a == $D ]] || L+=(~)\n',
    "default-with-quotes": "A=${Q:-'a b'}\nL=(\"${Q:-'c d'}\" ${Q:-'e f'} \"${Q:-g\\\"h}\" ${Q:-{i,j}})\nW=${Q:='k l'}\n",
    "default-split": "L=(x${Q:='a b'} x${R:-'c d'})\n",
    "declared": 'declare A="-device a"\ndeclare -a L\nL=(b)\ndeclare -a L\nf() { local A="$A c" L+=d; echo "$A $L"; }\ndeclare A="$A $(f)"\n',
    "declared-twice": 'f() { local L+={a,b}; echo "$L"; }\nA=$(f)\n',
    "shaped": "declare -i N=2+3\nN+=4\ndeclare -u U=ab\ndeclare -l V=Cd\nU+=e\nA=$N$U$V\n",
    "elements-appended": "L=(a b)\nL[1]+=c\nL+=([5]=d e)\nL[-1]+=f\nA=${#L[@]}\n",
    "break-two": "for i in 1 2 3; do for j in a b; do [ $j = b ] && continue 2; [ $i = 3 ] && break 2; L+=($i$j); done; done\n",
    "letters-of-a-kind": "case 7 in [[:digit:]]) A=d ;; esac\n[[ x == [^a-c] ]] && L=(${B-x7y} y)\nL+=(${A#[[:alpha:]]})\n",
    "elements-in-order": "L=([2]=a [5]=b)\nL=c\nL+=([1]=d)\nlocal A=x\n",
    "timed": "time A=a\ntime -p L=(b)\n",
    "by-command": "command eval A=a\nbuiltin eval 'L=(b)'\n",
    "echo-options": "A=$(echo -n a; echo -- -b)\n",
    "printf-options": "A=$(printf -- '-m %s' 1)\n",
}
#: scripts of which only a run can tell what QEMU is told
RUN = {
    "and-append": 'A="-device a"\ntest -e / && A+=" -device b"\nA+=" -device c"\n',
    "if-file": "L=(a)\nif [ -f /etc/passwd ]; then L+=(b); fi\nL+=(c)\n",
    "case": 'case $(uname) in\nLinux) A="a" ;;\n*) A="b" ;;\nesac\n',
    "for": "for f in /etc/pass*; do L+=($f); done\n",
    "break": "for f in a b; do if [ -e /$f ]; then A=$f; break; fi; done\n",
    "return": "f() { [ -e / ] || return; A=x; }\nf\n",
    "called-perhaps": 'f() { A+=" -device b"; }\n[ -e / ] && f\n',
    "defined-perhaps": "if [ -e / ]; then f() { A=1; }; else f() { A=2; }; fi\nf\n",
    "sourced": "A=a\necho A=b > conf\n. ./conf\n",
    "sourced-default": "echo M=b > conf\n. ./conf\nA=${M:-5}\n",
    "eval": 'eval "A=$(uname)"\n',
    "read": 'A="-device a"\nread A\n',
    "element": "L=(a)\nL[$(uname)]=b\n",
    "referenced": "f() { local -n to=$1; to+=(a); }\nf $(uname)\n",
    "random": "A=$RANDOM\n",
    "glob": "A='*'\n",
    "integer-element": "declare -i A=(1 2)\n",
    "order": "declare -A K=([a]=1 [b]=2)\nA=${K[@]}\n",
    "sum": ": $((A = 5))\n",
    "odd": "L=(<(true))\n",
    "case-ending": "A=a\ncase $(uname) in\n*x) A=x ;;\nesac\n",
    "file-printed": "A=$(< /etc/passwd)\n",
    "list-then-text": "L=(a b)\nL=$(uname)\nL=c\n",
    "base": "A=$((2#101))\n",
    "test-without-a-word": '[ a = a -o "${L[@]}" = b ] && A=a\n',
    "number-zero": 'L=("${@: -1}")\n',
    "break-three": "for i in 1; do for j in 1; do for k in 1; do break 3; done; done; done\n",
    "replaced-by-itself": "A=abc\nA=${A/b/<&>}\n",
    "default-between": "IFS=,\nL=(${B:-a b})\n",
    "sourced-elsewhere": "A=a\necho A=b > conf\nif [ -e /etc/passwd ]; then . ./conf; fi\n",
    "keyed-by-nothing": "declare -A K\nK[$A]=a\nA=${K[*]}\n",
    "grows": "A=a\nfor i in {1..40}; do A+=$A; done\n",
    "element-printed": "L=(a b)\nprintf -v L[1] %s c\n",
    "home-of-an-element": "L[0]=a:~/b\n",
    "home-read": "read A <<< a:~/b\n",
    "index": 'L=(a b)\nA="${L[@\'b]}"\n',
}
#: whole scripts; what QEMU is told, None where only a run can tell
WHOLE = {
    "set": ("set -e -o pipefail\nset -- -device a\nset -- \"$@\" -device b\nqemu-system-x86_64 \"$@\"\n", True),
    "set-if": ('set -- a\nif [ -e / ]; then set -- "$@" b; fi\nqemu-system-x86_64 "$@"\n', False),
    "main": ('main() {\n qemu-system-x86_64 -device "$1" "$@"\n}\nmain a -device b\n', True),
    "shift": ("set -- a b c\nshift 2\nqemu-system-x86_64 -device $1 $#\n", True),
    "wrapped-perhaps": ("[ -e / ] && E=nice\n$E qemu-system-x86_64 a\n", True),
    "either-way": ("if [ -e / ]; then N=a; else N=b; fi\nqemu-system-x86_64 -name $N\n", False),
    "in-a-loop": ("for f in /etc/pass*; do A=\"$A -enable-kvm\"; done\nqemu-system-x86_64 $A\n", False),
    "never": ("start() { qemu-system-x86_64 -device a; }\n", False),
    "no-arguments": ("[ $# -gt 0 ] || exit 0\nqemu-system-x86_64 -device a\n", False),
    "one-of-two": ("if [ -e / ]; then exec qemu-system-x86_64 a; fi\nqemu-system-x86_64 b\n", False),
    "one-of-two-calls": ("f() { qemu-system-x86_64 $1; }\nif [ -e / ]; then f a; else f b; fi\n", False),
    "the-one-of-two": ("M=b\ncase $M in a) qemu-system-x86_64 a;; b) qemu-system-x86_64 b;; esac\n", True),
    "not": ("if ! qemu-system-x86_64 a; then echo; fi\n", True),
    "wrapped": ("E=\n$E nice -n 5 timeout --foreground -k 1 9 env X=1 qemu-system-x86_64 a\n", True),
    "not-wrapped": ("nice -n 5 test /usr/bin/qemu-system-x86_64 -ef /\nexec env qemu-system-x86_64 a\n", True),
    "text": ("M=5\nbash -c \"qemu-system-x86_64 $M\"\nC='qemu-system-x86_64 -name \"a b\"'\n", True),
    "text-of-a-variable": ("C='qemu-system-x86_64 -name \"a b\"'\neval $C\n", True),
    "exported": ("export M=5\nsh -c 'qemu-system-x86_64 ${M:-6}'\n", False),
    "asked": ("qemu-system-x86_64 -machine help > /dev/null\nM=$(qemu-system-x86_64 --version)\nqemu-system-x86_64 a\n", True),
    "home": ("D=~/a\nqemu-system-x86_64 -hda $D -drive file=~/b,if=ide -drive if=ide,file=~/c\n", True),
    "empty-body": ("if true; then\nfi\nqemu-system-x86_64 a\n", False),
    "unknown-program": ("watch-it qemu-system-x86_64 a\n", False),
}  # fmt: skip
ALL = {
    **{name: ("A=\nL=()\n" + text + END, True) for name, text in FOLLOWED.items()},
    **{f"run-{name}": ("A=\nL=()\n" + text + END, False) for name, text in RUN.items()},
    **WHOLE,
}


def test_a_sourced_file_is_followed_where_it_is_here(tmp_path: Path) -> None:
    """Its commands have its places, also when they run later; one that is not here may set anything."""
    conf, more = tmp_path / "conf", "[ -r ./conf ] && . ./conf\nadd -usb\n"
    conf.write_text('M=5\nadd() { L+=("$1"); }\nstart() {\n  qemu-system-x86_64 -m $(nproc)\n}\n')
    command = command_from_script(more + 'qemu-system-x86_64 -m $M "${L[@]}"\n', "s.sh", Report(), str(tmp_path))
    assert [word.text for word in command.words[1:]] == ["-m", "5", "-usb"]
    with pytest.raises(InputError) as caught:
        command_from_script(more + "start\n", "s.sh", Report(), str(tmp_path))
    assert caught.value.at == Position(str(conf), 4, 25)
    conf.unlink()
    with pytest.raises(InputError, match=r"may be set by \./conf"):
        command_from_script(". ./conf\nqemu-system-x86_64 -m $M\n", "s.sh", Report(), str(tmp_path))


def test_an_option_that_is_left_out_needs_no_value() -> None:
    """Where that is one word for sure."""
    script = 'qemu-system-x86_64 -D "q-$(date).log" -pidfile /run/$$.pid -m 1\n'
    command = command_from_script(script, "s.sh", Report())
    assert [word.text for word in command.words[1:]] == ["-D", "", "-pidfile", "", "-m", "1"]
    for words in ('-D "${A[@]}"', "-D $(date)", "-name $$"):
        with pytest.raises(InputError):
            command_from_script(f"qemu-system-x86_64 {words}\n", "s.sh", Report())


@pytest.fixture
def by_bash(tmp_path: Path) -> Path:
    stub = tmp_path / "bin" / "qemu-system-x86_64"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\n[ "$1" = -machine ] || for word; do echo "$word"; done\n')
    stub.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize("name", ALL)
def test_what_qemu_is_told(name: str, by_bash: Path) -> None:
    text, known = ALL[name]
    environment = {**os.environ, "PATH": f"{by_bash}/bin:{os.environ['PATH']}"}
    words = ["bash", "-c", text]
    done = subprocess.run(
        words, cwd=by_bash, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    report = Report()
    try:
        command = command_from_script(text, "s.sh", report)
    except InputError as error:
        assert not known, error
        assert error.at is not None
    else:
        assert known, command.words
        assert [word.text for word in command.words[1:]] == done.stdout.split("\n")[:-1]


LOOPING = """#!/bin/bash
cd "$(dirname "$0")"
args=(-m 128 -nodefaults)
for n in $(seq 2); do args+=(-device "virtio-rng-pci,id=r$n"); done
if [ "$(qemu-system-x86_64 -version | wc -l)" -gt 0 ] && qemu-system-x86_64 -machine help | grep -q q35; then args+=(-device virtio-balloon-pci,id=b); fi
sudo -u nobody A=1 qemu-system-x86_64 "${args[@]}" -readconfig /dev/stdin <<EOF2
[device "k"]
  driver = "virtio-keyboard-pci"
EOF2
"""


def test_a_script_is_run_with_a_qemu_that_starts_nothing(tmp_path: Path) -> None:
    (tmp_path / "vm.sh").write_text(LOOPING)
    report, said = Report(), list[str]()
    command = command_by_running(str(tmp_path / "vm.sh"), report, said.append)
    assert [word.text for word in command.words] == [
        *("qemu-system-x86_64", "-m", "128", "-nodefaults", "-device", "virtio-rng-pci,id=r1", "-device"),
        *("virtio-rng-pci,id=r2", "-device", "virtio-balloon-pci,id=b", "-readconfig", "/dev/stdin"),
    ]
    assert command.folder == str(tmp_path)
    assert len(said) == 1
    assert {option.id for option in options_from_command(command, report) if option.name == "device"} == {
        "r1",
        "r2",
        "b",
        "k",
    }


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("[ -w /dev/kvm ]\n", "script-qemu"),
        (f"true\n{shutil.which('qemu-system-x86_64')} -S\n", "script-run"),
        ("export PATH=$HOME/bin:$PATH\nqemu-system-x86_64 -S\n", "script-run"),
        (f"PATH={os.path.dirname(shutil.which('qemu-system-x86_64') or '')}\nqemu-system-x86_64 -S\n", "script-run"),
        ("bash -lc 'qemu-system-x86_64 -S'\n", "script-run"),
    ],
)
def test_a_script_that_cannot_be_run_so(text: str, rule: str, tmp_path: Path) -> None:
    (tmp_path / "vm.sh").write_text(text)
    with pytest.raises(InputError) as caught:
        command_by_running(str(tmp_path / "vm.sh"), Report(), lambda _: None)
    assert caught.value.rule == rule


def test_a_script_is_run_only_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = tmp_path / "vm.sh"
    script.write_text(f"touch {tmp_path}/ran\nqemu-system-x86_64 -nodefaults\n")
    files = ["--xml", str(tmp_path / "vm.xml"), "-o", str(tmp_path / "vm.yaml")]
    assert mdtool("import", script, *files) == 0
    assert not (tmp_path / "ran").exists()
    assert mdtool("import", "--run", script, *files) == 0
    assert (tmp_path / "ran").exists()
    assert "running" in capsys.readouterr().err


@pytest.mark.parametrize(
    "line",
    ["(sleep 0.1; qemu-system-x86_64 -m 1) &", "systemd-run --user qemu-system-x86_64 -m 1", "su - vm -c 'qemu-system-x86_64 -m 1'",
     "PATH=$PATH:/opt numactl -N 0 qemu-system-x86_64 -m 1", 'qemu-system-x86_64 -m 1 -hda "$PWD/d"'],
)  # fmt: skip
def test_no_qemu_of_a_script_is_missed(line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vm.sh").write_text(f"#!/bin/bash\n{line}\n")
    command = command_by_running("vm.sh", Report(), lambda _: None)
    assert [word.text for word in command.words[1:]] in (["-m", "1"], ["-m", "1", "-hda", f"{tmp_path}/d"])


UNIT = (
    "[Service]\nExecStartPre=/bin/mkdir -p /run/a\nExecStart=-/usr/bin/qemu-system-x86_64 -m 5 \\\n  -name %s\nRestart=no\n"
)
WORDS = ["/usr/bin/qemu-system-x86_64", "-m", "5", "-name", "a%"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (UNIT % "a%%", WORDS),
        (UNIT % "a%% -S", [*WORDS, "-S"]),
        (UNIT % "%i", "4:9"),
        (UNIT % "$A", "4:9"),
        ("@echo off\r\nqemu-system-x86_64.exe -m 5 ^\r\n -S\r\n", "1:1"),
        ("$m = 5\n& 'C:/qemu/qemu-system-x86_64.exe' -m $m\n", "2:1"),
        ("# not qemu-system-x86_64.exe\n/usr/bin/qemu-system-x86_64 -m 5 -name a%\n", WORDS),
    ],
)
def test_what_is_no_shell_script(text: str, expected: list[str] | str) -> None:
    """A unit of systemd names its QEMU, and a script of Windows is an error that says so."""
    if isinstance(expected, list):
        assert [word.text for word in command_from_script(text, "s", Report()).words] == expected
        return
    with pytest.raises(InputError) as error:
        command_from_script(text, "s", Report())
    assert str(error.value.at) == f"s:{expected}"


def test_a_script_in_another_encoding_is_run(tmp_path: Path) -> None:
    script = tmp_path / "vm.sh"
    script.write_bytes(b"#!/bin/sh\n# gr\xfc\xdfe\nqemu-system-x86_64 -m 5\n")
    command = command_by_running(str(script), Report(), print)
    assert [word.text for word in command.words[1:]] == ["-m", "5"]


def test_a_qemu_in_a_namespace(tmp_path: Path) -> None:
    """Its own program needs a namespace that is there, and root."""
    script, text = tmp_path / "vm.sh", "#!/bin/sh\nip netns exec blue unshare -n qemu-system-x86_64 -m 5\n"
    script.write_text(text)
    for command in (command_from_script(text, "vm.sh", Report()), command_by_running(str(script), Report(), print)):
        assert [word.text for word in command.words[1:]] == ["-m", "5"]
