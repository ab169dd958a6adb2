"""What the shell's own commands, and a few programs that only print, do to what is known of a script."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping, Sequence
from itertools import zip_longest

from mdtool.commandline.alternatives import Unknown
from mdtool.commandline.arithmetic import evaluated
from mdtool.commandline.braces import braced
from mdtool.commandline.flow import Builtin, Flow
from mdtool.commandline.program import QEMU
from mdtool.commandline.shell import ASSIGNMENT
from mdtool.commandline.syntax import NAME, Node, Part, ShellWord
from mdtool.text import pattern


def _texts(flow: Flow, words: Sequence[ShellWord]) -> list[str]:
    return [text for word in words for text in flow.expanded(word)]


def _known(flow: Flow, words: Sequence[ShellWord]) -> list[str] | None:
    try:
        return _texts(flow, words)
    except Unknown:
        return None


def _declare(flow: Flow, words: Sequence[ShellWord], *, local: bool) -> bool | None:
    """``local``, ``declare``, ``export``, ``readonly``: what they assign."""
    options = ""
    for word in words:
        said = word.parts[0].text
        name = re.match(NAME, said)
        if said[:1] in ("-", "+"):
            options += said
        elif name is None:
            return _elsewhere(flow, [])
        else:
            assigned = ASSIGNMENT.match(said)
            if local and flow.locals and "g" not in options and name[0] not in flow.locals[-1]:
                flow.locals[-1][name[0]] = flow.state.variables.get(name[0])
                if not assigned or assigned[3]:  # there is nothing yet to append to
                    flow.state.variables[name[0]] = {}
            if "A" in options:
                flow.shell.keyed.add(name[0])
            if shape := re.search("[iul]", options):
                flow.shell.shapes[name[0]] = shape[0]
            if "n" in options:
                _, _, target = "".join(_known(flow, [word]) or ()).partition("=")
                if not re.fullmatch(NAME, target):
                    return _elsewhere(flow, [])
                flow.shell.other_names[name[0]] = flow.shell.other_names.get(target, target)
            elif assigned:
                _declared(flow, word, name[0])
    return True


def _declared(flow: Flow, word: ShellWord, name: str) -> None:
    """An assignment that is an argument: what {a,b} makes of it is assigned one after the other."""
    try:
        ways = braced(word.parts) if flow.shell.is_bash and word.items is None else [word.parts]
    except Unknown as error:
        flow.shell.unclear(name, f"is {error.what}")
        return
    for parts in ways:
        flow.assign(word._replace(parts=parts))


def _read(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
    """``read`` and ``mapfile`` of a here-document or a here-string; from elsewhere only a run can tell."""
    texts, text = _known(flow, words), _stdin(flow, node)
    is_list = node.words[0].parts[0].text != "read"
    options, names, take = "", list(texts or ()), "dnOsuCc" if is_list else "dnpNtui"
    while names and names[0].startswith("-"):
        options += names[0][1:]
        names = names[2 if names[0][-1] in take else 1 :]
    is_plain = all(re.fullmatch(NAME, name) for name in names) and re.fullmatch("[rtad]*", options)
    if text is None or texts is None or not is_plain or ("r" not in options and "\\" in text):
        for word in words:
            if found := re.match(NAME, word.parts[0].text):
                flow.shell.unclear(found[0], "is read when the script runs")
        return flow.prints("")
    if is_list:
        flow.shell.set(names[0] if names else "MAPFILE", *text.splitlines(keepends="t" not in options))
        return flow.prints("")
    line = text if "d" in options else text.partition("\n")[0]
    if "a" in options:
        flow.shell.set(names[0], *line.split())
        return flow.prints("")
    values = line.split(None, len(names) - 1) if len(names) > 1 else [line.strip()]
    for name, value in zip_longest(names or ["REPLY"], values, fillvalue=""):
        flow.shell.set(name, value.strip())
    return flow.prints("")


def _stdin(flow: Flow, node: Node) -> str | None:
    """What a command reads, where that stands in the script, and is divided at blanks."""
    if not node.stdin or (node.words and node.words[0].parts[0].text.startswith("IFS=")):
        return None
    try:
        return flow.shell.text(node.stdin[-1].parts)
    except Unknown:
        return None


def _getopts(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
    if flow.state.positional is None:
        _known(flow, [ShellWord((Part("name", "#", True),), 0, 0)])
        return False
    return False if flow.state.positional == [] else _read(flow, words[1:], node)


def _printf(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
    texts = _known(flow, words)
    name = words[1].parts[0].text if len(words) > 1 and words[0].parts[0].text == "-v" else ""
    texts = texts[1:] if texts and texts[0] == "--" else texts
    text = formatted(texts[2:] if name else texts) if texts else None
    if name and (text is None or not re.fullmatch(NAME, name)):
        return _read(flow, words[1:2], node)
    if name:
        flow.shell.set(name, text or "")
    elif not node.elsewhere:
        flow.prints(text)
    return True


_FORMAT = pattern(r"%%|%(-?0?\d*)([sdxXio])|\\[nt]|[^%\\]+")


def formatted(texts: Sequence[str]) -> str | None:
    """What ``printf`` makes of a format and its arguments, over and over; None where that takes a shell.

    >>> formatted(["%s=%02x\\n", "a", "10", "b", "0x1f"]), formatted(["%b"])
    ('a=0a\\nb=1f\\n', None)
    """
    form, *rest = texts
    pieces = list(_FORMAT.finditer(form))
    if "".join(piece[0] for piece in pieces) != form:
        return None
    found = ""
    while True:
        before = len(rest)
        for piece in pieces:
            if piece[2]:
                value = rest.pop(0) if rest else ""
                if piece[2] != "s" and not re.fullmatch(r"-?(0x[0-9a-fA-F]+|0|[1-9]\d*|)", value):
                    return None
                found += f"%{piece[1]}{piece[2]}" % (value if piece[2] == "s" else int(value or "0", 0))
            else:
                found += {"%%": "%", "\\n": "\n", "\\t": "\t"}.get(piece[0], piece[0])
        if not rest or len(rest) == before:
            return found


def _echo(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
    texts = _known(flow, words)
    if not node.elsewhere:
        ends = "" if texts and texts[0] == "-n" else "\n"
        text = " ".join(texts[ends == "" :]) if texts is not None else "\\"
        flow.prints(None if "\\" in text or re.match(r"-[neE]+\b", text) else text + ends)
    return True


def _set(flow: Flow, words: Sequence[ShellWord], _node: Node) -> bool | None:
    """``set -- ...``: how a script without arrays keeps a list."""
    try:
        texts = _texts(flow, words)
    except Unknown as error:
        flow.state.positional = error.what
        return True
    while texts and re.match(r"[-+]", texts[0]):
        option = texts.pop(0)
        if option == "--":
            flow.state.positional = texts
            return True
        if option.endswith("o"):
            texts = texts[1:]
    if texts:
        flow.state.positional = texts
    return True


def _shift(flow: Flow, words: Sequence[ShellWord], _node: Node) -> bool | None:
    texts = _known(flow, words)
    if isinstance(flow.state.positional, list):
        count = texts[0] if texts else "1"
        known = texts is not None and count.isdigit()
        flow.state.positional = flow.state.positional[int(count) :] if known else "$@ is shifted when the script runs"
    return True


def _unset(flow: Flow, words: Sequence[ShellWord], _node: Node) -> bool | None:
    for text in _known(flow, words) or []:
        if re.fullmatch(NAME, text):
            flow.state.variables[text] = {}
        elif name := re.match(NAME, text):
            flow.shell.unclear(name[0], "is an array that is set element by element")
    return True


def _source(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
    """``source FILE``: a file that is here is followed."""
    path = flow.file_of(words[0]) if words else None
    return _elsewhere(flow, words, node) if path is None else flow.run_file(path, node.at)


def _cat(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
    """A here-document, printed."""
    if not node.elsewhere:
        flow.prints(_stdin(flow, node) if not words else None)
    return True


def _elsewhere(flow: Flow, words: Sequence[ShellWord], _node: Node | None = None) -> bool | None:
    """``source FILE`` and what cannot be followed: any variable may have another value after it."""
    texts = (_known(flow, words) if words else None) or ["what only a run can tell"]
    flow.state.sourced = texts[0][:40]
    for name in flow.state.variables:
        flow.shell.unclear(name, f"may be set by {flow.state.sourced}")
    flow.state.functions = dict.fromkeys(flow.state.functions)
    return flow.prints(None)


def _eval(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
    texts = _known(flow, words)
    return _elsewhere(flow, [], node) if texts is None else flow.run_text(" ".join(texts), node.at)


def _cd(flow: Flow, words: Sequence[ShellWord], _node: Node) -> bool | None:
    texts = _known(flow, words)
    texts = texts[1:] if texts and texts[0] in ("-P", "-L", "--") else texts
    if texts is None or len(texts) > 1 or texts[:1] == ["-"]:
        flow.state.folder = None
    else:
        where = os.path.join(flow.state.folder or "", texts[0] if texts else os.path.expanduser("~"))
        flow.state.folder = os.path.normpath(where) if where.startswith("/") else None
    return True


def _popd(flow: Flow, _words: Sequence[ShellWord], _node: Node) -> bool | None:
    flow.state.folder = None
    return True


def _pwd(flow: Flow, _words: Sequence[ShellWord], _node: Node) -> bool | None:
    flow.prints(f"{flow.state.folder}\n" if flow.state.folder is not None else None)
    return True


def _leave(where: str) -> Builtin:
    def leave(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
        texts = _known(flow, words)
        flow.ended = node.at if where == "exit" else flow.ended
        flow.returned = texts[0] == "0" if texts else None
        is_far = where in ("break", "continue") and texts != [] and texts != ["1"]
        return flow.leave(f"{where} {' '.join(texts or '?')}" if is_far else where, node)

    return leave


def _bracket(flow: Flow, words: Sequence[ShellWord], _node: Node) -> bool | None:
    with flow.shell.asking():
        texts = _known(flow, words)
    return tested(texts[:-1] if texts[-1:] == ["]"] else texts) if texts is not None else None


def _let(flow: Flow, words: Sequence[ShellWord], _node: Node) -> bool | None:
    status: bool | None = None
    for word in words:
        try:
            status = flow.shell.calculate(flow.shell.text(word.parts))
        except Unknown:
            return _elsewhere(flow, [])
    return status


def _printing(of: Callable[[Flow, list[str]], str | None]) -> Builtin:
    """A program that prints a text of its words, and does nothing else; None where that is not known."""

    def program(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
        if flow.output is None or node.elsewhere:
            return None
        texts = _known(flow, words)
        found = of(flow, texts) if texts is not None else None
        flow.prints(f"{found}\n" if found is not None else None)
        return True

    return program


def _folder_of(_flow: Flow, texts: list[str]) -> str | None:
    texts = texts[1:] if texts[:1] == ["--"] else texts
    if len(texts) != 1:
        return None
    text = texts[0].rstrip("/") or texts[0][:1]
    return os.path.dirname(text) or "."


def _name_of(_flow: Flow, texts: list[str]) -> str | None:
    texts = texts[1:] if texts[:1] == ["--"] else texts
    if not 1 <= len(texts) <= 2 or texts[0].startswith("-") or not texts[0].strip("/"):
        return None
    name = os.path.basename(texts[0].rstrip("/"))
    return name.removesuffix(texts[1]) if len(texts) == 2 and texts[1] != name else name


def _numbers(_flow: Flow, texts: list[str]) -> str | None:
    if not 1 <= len(texts) <= 3 or not all(re.fullmatch(r"-?\d{1,6}", text) for text in texts):
        return None
    first, step, last = map(int, [*texts[:-1], "1", texts[-1]] if len(texts) == 2 else ["1", "1", *texts][-3:])
    found = range(first, last + (1 if step > 0 else -1), step) if step else range(0)
    return "\n".join(map(str, found)) if 0 < len(found) <= 1000 else None


def _summed(_flow: Flow, texts: list[str]) -> str | None:
    try:
        return str(evaluated(" ".join(texts), int)) if len(texts) == 3 and texts[1] in ("+", "-", "*", "/", "%") else None
    except (SyntaxError, ValueError, ArithmeticError):
        return None


def _real(flow: Flow, texts: list[str]) -> str | None:
    texts = [text for text in texts if text not in ("-f", "-e", "-m", "--")]
    whole = os.path.join(flow.state.folder or "", texts[0]) if len(texts) == 1 else ""
    return os.path.realpath(whole) if whole.startswith("/") and os.path.exists(whole) else None


def _which(_flow: Flow, texts: list[str]) -> str | None:
    texts = [text for text in texts if text not in ("-v", "-p", "-P")]
    return texts[0] if len(texts) == 1 and QEMU.fullmatch(texts[0]) else None


def _command(flow: Flow, words: Sequence[ShellWord], node: Node) -> bool | None:
    if words and words[0].parts[0].text in ("-v", "-V"):
        return _printing(_which)(flow, words, node)
    if words and (builtin := flow.builtins.get(words[0].parts[0].text)):
        return builtin(flow, words[1:], node)
    return flow.program((), words, node)


def tested(texts: Sequence[str]) -> bool | None:
    """``[ ... ]``; None if only a run can decide it.

    >>> tested(["-n", "x"]), tested(["1", "-lt", "0"]), tested(["-f", "x"]), tested(["!", ""])
    (True, False, None, True)
    """
    if texts[:1] == ["!"] and len(texts) > 1:
        status = tested(texts[1:])
        return None if status is None else not status
    for sign, join in (("-o", _either), ("-a", _every)):
        if sign in texts[1:]:
            at = texts.index(sign, 1)
            parts = [texts[:at], texts[at + 1 :]]
            return join(list(map(tested, parts))) if all(map(_is_test, parts)) else None
    if len(texts) < 2:
        return bool(texts and texts[0])
    if len(texts) == 2:
        return {"-n": bool(texts[1]), "-z": not texts[1]}.get(texts[0])
    if len(texts) > 3:
        return None
    left, sign, right = texts
    if sign in ("=", "==", "!="):
        return (left == right) == (sign != "!=")
    if not (re.fullmatch(r"-?\d+", left) and re.fullmatch(r"-?\d+", right)):
        return None
    one, other = int(left), int(right)
    signs = {"-eq": one == other, "-ne": one != other, "-lt": one < other, "-le": one <= other, "-gt": one > other}
    return {**signs, "-ge": one >= other}.get(sign)


def _is_test(texts: Sequence[str]) -> bool:
    """Whether it is one test, or more of them, without a word that is empty or too much."""
    texts = texts[1:] if texts[:1] == ["!"] else texts
    if at := next((at for at, text in enumerate(texts) if at and text in ("-o", "-a")), 0):
        return _is_test(texts[:at]) and _is_test(texts[at + 1 :])
    return len(texts) in (1, 3) or (len(texts) == 2 and re.fullmatch("-[a-zA-Z]", texts[0]) is not None)


def _brackets(flow: Flow, words: Sequence[ShellWord], _node: Node) -> bool | None:
    """[[ ... ]]"""
    either: list[list[list[ShellWord]]] = [[[]]]
    for word in words:
        operator = word.parts[0].text if word.parts and word.parts[0].kind == "odd" else ""
        if operator == "||":
            either.append([[]])
        elif operator == "&&":
            either[-1].append([])
        elif operator:
            return None
        else:
            either[-1][-1].append(word)
    return _either([_every([_tested_words(flow, words) for words in every]) for every in either])


def _tested_words(flow: Flow, words: Sequence[ShellWord]) -> bool | None:
    try:
        with flow.shell.asking():
            texts = [flow.shell.text(word.parts) for word in words]
        if texts[:1] == ["!"]:
            status = _tested_words(flow, words[1:])
            return None if status is None else not status
        if len(words) == 3 and texts[1] in ("=", "==", "!="):
            return bool(re.match(flow.shell.pattern_of(words[2].parts), texts[0])) == (texts[1] != "!=")
        return tested(texts)
    except Unknown:
        return None


def _every(states: Sequence[bool | None]) -> bool | None:
    return False if False in states else None if None in states else True


def _either(states: Sequence[bool | None]) -> bool | None:
    return True if True in states else None if None in states else False


BUILTINS: Mapping[str, Builtin] = {
    **dict.fromkeys(("export", "readonly"), lambda flow, words, _node: _declare(flow, words, local=False)),
    "local": lambda flow, words, _node: _declare(flow, words, local=True) if flow.locals else False,
    **dict.fromkeys(("declare", "typeset"), lambda flow, words, _node: _declare(flow, words, local=True)),
    **dict.fromkeys(("read", "mapfile", "readarray"), _read),
    **dict.fromkeys(("source", "."), _source),
    "cat": _cat,
    "expr": _printing(_summed),
    **dict.fromkeys(("[", "test"), _bracket),
    "[[": _brackets,
    **dict.fromkeys((":", "true", "trap", "shopt", "umask", "ulimit"), lambda flow, words, _node: _expand_all(flow, words)),
    **{where: _leave(where) for where in ("exit", "return", "break", "continue")},
    "false": lambda _flow, _words, _node: False,
    "getopts": _getopts,
    "printf": _printf,
    "echo": _echo,
    "set": _set,
    "shift": _shift,
    "unset": _unset,
    "eval": _eval,
    **dict.fromkeys(("cd", "pushd"), _cd),
    "popd": _popd,
    "pwd": _pwd,
    "let": _let,
    **dict.fromkeys(("command", "builtin"), _command),
    "dirname": _printing(_folder_of),
    "basename": _printing(_name_of),
    "seq": _printing(_numbers),
    "readlink": _printing(_real),
    "realpath": _printing(_real),
    "which": _printing(_which),
}


def _expand_all(flow: Flow, words: Sequence[ShellWord]) -> bool:
    """``: ${NAME:=...}`` sets what it expands."""
    _known(flow, words)
    return True
