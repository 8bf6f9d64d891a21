#!/usr/bin/env python3
"""A header with its comments as Doxygen reads them: docs/site/comments.py FILE, on standard output.

The comments are plain text: // before a declaration or behind it. Lines that are set in by two spaces are formulas and
stay as they are. The comment at a file's beginning is about the file. What has no comment of its own is documented, in
this order, by

- the comment that leads its group: no blank line and no other comment stands between the two;
- the sentences of its type's comment, or of a type around that, which have its name;
- for what is named as the file, the file's comment;
- the member that it returns, or the type that it is named after;
- the names that api.dox explains, which come first for functions;
- the sentences of the file's comment which have its name.

What is no public interface, by the rule that api.dox states, is left out. As many lines come out as go in, and what is
still without comment Doxygen reports.
"""
import fnmatch
import itertools
import pathlib
import re
import sys

from headers import Reader

HERE = pathlib.Path(__file__).resolve().parent
OVERRIDES = re.compile(r"\b(?:override|final)\b")  # Doxygen takes the comment of what it overrides
CONTRACT = re.compile(r"\b(?:run|supports)\((?:Cpu|Cuda)\b[^,]*,\s*const (\w+)&")


def escaped(text):
    return re.sub(r"([\\@<>&#%$\"~])|::", lambda m: "\\" + m.group(), text).replace("*/", "* /")


def is_formula(line):
    return line.startswith("  ")


def block(texts, first=""):
    """A comment of its own lines, `first` being what begins it."""
    for i, text in enumerate(texts):
        if is_formula(text):
            begin = "" if i > 0 and is_formula(texts[i - 1]) else "@verbatim "
            end = "" if i + 1 < len(texts) and is_formula(texts[i + 1]) else " @endverbatim"
            shown = begin + text.replace("*/", "* /") + end
        else:
            shown = escaped(text)
        begin, end = f"/** {first}" if i == 0 else "    ", " */" if i + 1 == len(texts) else ""
        yield begin + shown + end


def line_of(texts):
    """The same in one line."""
    shown = [f"@verbatim {text} @endverbatim" if is_formula(text) else escaped(text) for text in texts]
    return f"/** {' '.join(shown)} */ "


def notation():
    """The names that api.dox explains, of which some are patterns: {name: meaning}."""
    text = (HERE / "api.dox").read_text().split("@section notation")[1]
    explained = re.findall(r"^- (.+?): (.+)$", text, re.MULTILINE)
    return {name: meaning for names, meaning in explained for name in names.split(", ")}


def sentences_with(name, texts):
    """Those of a comment, or the lines of its formulas, that have a name in them."""
    parts = []
    for is_one, lines in itertools.groupby(texts, is_formula):
        parts += lines if is_one else re.split(r"(?<=[.;:])\s+", " ".join(lines))
    found = [part for part in parts if re.search(rf"\b{re.escape(name)}\b", part)]
    return ["In the formula", *found] if found and is_formula(found[0]) else found


def words(name):
    return re.sub(r"[^a-z0-9]", "", name.lower())


class Comments:
    """What each declaration of a header is documented by."""

    def __init__(self, lines, path):
        self.path, self.reader, self.names = path, Reader(lines), notation()
        comments, code = self.reader.comments, self.reader.code
        end = next((i for i, row in enumerate(code) if row or comments[i] is None), 0)
        self.about_file = comments[:end]
        self.contracts = set(CONTRACT.findall("\n".join(code)))
        while more := self.within_contracts() - self.contracts:
            self.contracts |= more

    def within_contracts(self):
        """The structs of pointers that contracts are made of."""
        found = self.reader.found
        pointers = {scope.name for each in found for scope in each.scope
                    if each.kind == "variable" and "*" in each.text and scope.kind == "type"}
        parts = [each for each in found if each.names[0][0] in self.contracts
                 or each.owner is not None and each.owner.names[0][0] in self.contracts]
        return {name for each in parts for name in re.findall(r"\w+", each.text) if name in pointers}

    def of(self, each):
        """The lines of a comment that is its own."""
        return self.reader.comments[slice(*each.above)] + ([each.behind] if each.behind else [])

    def left_out(self, each):
        """No public interface: see api.dox."""
        return (any(re.search(r"\b(FPRNN_ISA|detail|CLI)\b", scope.name) for scope in each.scope)
                or any(scope.name in self.contracts for scope in each.scope)
                or bool(CONTRACT.search(each.text))
                or each.kind == "type" and each.names[0][0] in self.contracts
                or "or kernel files" in " ".join(self.about_file))

    def accessed(self, each, name):
        """The comment of the member x_ that a function x returns."""
        members = (other for other in self.reader.found if other.owner is each.owner and each.owner)
        return next((self.of(other) for other in members if any(name + "_" == of for of, _, _ in other.names)), [])

    def found(self, each, name):
        """The comment of a name that has none of its own."""
        is_function = each.kind == "function"
        if explained := (is_function or not name.isidentifier()) and self.explained(name):
            return explained
        if each.leader is not None:
            return [f"Said of {each.leader.names[0][0]} and what follows it:", *self.of(each.leader)]
        for owner in [scope.declaration for scope in reversed(each.scope) if scope.declaration is not None]:
            if not is_function and (found := sentences_with(name, self.of(owner))):
                return found
        if each.owner and name == each.owner.names[0][0]:
            return self.explained("constructor")
        stem, folder = words(self.path.stem), words(self.path.parent.name)
        if words(name) in (stem, stem + folder.rstrip("s")):
            return self.about_file
        of_file = [] if is_function or len(name) <= 2 else sentences_with(name, self.about_file)
        if each.kind == "variable":
            return self.accessed(each, name) or self.type_of(each, name) or self.explained(name) or of_file
        return self.accessed(each, name) or of_file or self.explained(name)

    def type_of(self, each, name):
        """The type of a member that is named after it."""
        types = [word for word in re.findall(r"\b[A-Z]\w+", each.text) if words(name).rstrip("s") in words(word)]
        return [f"See {types[0]}."] if types and len(name) > 2 else []

    def explained(self, name):
        """What api.dox says; a pattern's star is the function that is called so, where the header has one."""
        for pattern, meaning in self.names.items():
            if fnmatch.fnmatchcase(name, pattern):
                star = name.removesuffix(pattern.strip("*"))
                calls = (of for each in self.reader.found if each.kind == "function" for of, _, _ in each.names)
                return [meaning.replace("*", next((f"{of}()" for of in calls if words(of) == words(star)), star))]
        return []


def filtered(lines, path):
    comments = Comments(lines, path)
    reader = comments.reader
    rows = [line if comment is None else line[:len(code)]
            for line, code, comment in zip(lines, reader.code, reader.comments)]
    put = []  # comments of one line: where each begins
    for each in reader.found:
        if comments.left_out(each):
            continue
        own, (begin, end) = comments.of(each), each.above
        for place, (name, line, column) in enumerate(each.names):
            if own and place == 0 and begin < end:  # it stays where it is; what is behind follows it
                texts = list(block(own))
                rows[begin:end] = [*texts[:end - begin - 1], " ".join(text.strip() for text in texts[end - begin - 1:])]
            elif texts := own or not OVERRIDES.search(each.text) and comments.found(each, name):
                put.append((line, column, line_of(texts)))
    for line, column, text in sorted(put, reverse=True):
        rows[line] = rows[line][:column] + text + rows[line][column:]
    head = list(block(comments.about_file or [""], f"@file {path.parent.name}/{path.name} "))
    rows[:len(head)] = head  # Doxygen warns of nothing in a file without one
    for each in reader.found:
        if each.kind != "enumerator" and comments.left_out(each):
            rows[each.first:each.last + 1] = [""] * (each.last + 1 - each.first)
    return ["" if directive and not row.startswith(("#include", "/**")) else row
            for row, directive in zip(rows, reader.directives)]


if __name__ == "__main__":
    header = pathlib.Path(sys.argv[1])
    text = header.read_text()
    print("\n".join(filtered(text.split("\n"), header)) if header.suffix == ".h" else text, end="")
