"""The declarations of a header, each with the comments that are about it. For headers as clang-format leaves them."""
import dataclasses
import re

TYPE = re.compile(r"^(?:template\s+)?(struct|class|union|enum(?:\s+class)?)\b\s*(\w*)[^(=]*$", re.DOTALL)
SKIPPED = re.compile(r"^(friend|static_assert|extern|using\s+(?:namespace\s+)?[\w:]+$|"
                     r"(?:template\s*<.*>\s*)?(?:class|struct|enum(?:\s+class)?)\s+\w+$)", re.DOTALL)


@dataclasses.dataclass
class Scope:
    """What a brace opened: a namespace, a type, an enumeration or a body, which has no declarations."""
    kind: str
    name: str = ""
    declaration: "Declaration" = None  # of a type
    goes_on: bool = False              # whether a declaration does behind a body, as behind = {}


@dataclasses.dataclass
class Declaration:
    kind: str                 # function, variable, alias, type, enum, enumerator
    text: str                 # without comments, as far as its first brace
    names: list               # (name, line, column): where its comment can stand
    first: int                # lines
    scope: list               # of Scopes, outermost first
    opened: int = None        # the line of a type's first brace
    last: int = 0
    above: tuple = (0, 0)     # lines of the comment above it
    behind: str = ""
    leader: "Declaration" = None  # the one whose comment above is about this one too

    @property
    def owner(self):
        return self.scope[-1].declaration if self.scope else None


def separated(lines):
    """Code and comments apart, each in its column."""
    code, comments = [], []
    for line in lines:
        at = re.match(r"(?:[^\"'/]|\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])+'|(?<=\d)'|/(?!/))*", line).end()
        found = line[at:].startswith("//")
        text = re.sub(r"\"(?:\\.|[^\"\\])*\"|'(?:\\.|[^'\\])'", lambda m: '"' * len(m.group()), line)
        code.append((text[:at] if found else text).rstrip())
        comments.append(re.sub("^// ?", "", line[at:]) if found else None)
    return code, comments


def directives(code):
    """Of each line, whether it is the preprocessor's."""
    continued = False
    for row in code:
        directive = continued or row.lstrip().startswith("#")
        continued = directive and row.endswith("\\")
        yield directive


def without(pattern, text):
    """The text with blanks in place of the pattern, as long as it is found."""
    while (less := re.sub(pattern, lambda m: " " * len(m.group()), text)) != text:
        text = less
    return text


def names_in(text, kind):
    """The names that a declaration declares, and where they stand in its text."""
    text = without(r"(?:__attribute__|requires)\s*\((?:[^()]|\([^()]*\))*\)|\[\[.*?\]\]", text)
    plain = without(r"<[^<>]*>", text) if "operator<" not in text and "operator>" not in text else text
    if kind == "alias":
        found = [re.search(r"using\s+(\w+)", plain)]
    elif kind == "function":
        operator = r"operator\s*(?:\(\)|[^\s(]+(?: [\w:]+)?)"
        found = [re.search(r"\(\*(\w+)\)\s*\(", plain) or re.search(rf"({operator}|~?\w+)\s*\(", plain)]
    else:
        plain = without(r"\{[^{}]*\}|\([^()]*\)", plain)
        found = [re.search(r"(\w+)\s*(?:\[.*)?(?:=.*)?$", part, re.DOTALL) for part in without_commas(plain)]
    return [(match.group(1), match.start(1)) for match in found if match]


def without_commas(plain):
    """The text up to each comma, with blanks in place of what came before."""
    parts, begin = [], 0
    for part in plain.split(","):
        parts.append(" " * begin + part)
        begin += len(part) + 1
    return parts


class Reader:
    """Goes through a header once, a character at a time: `found` has its declarations, in order."""

    def __init__(self, lines):
        self.lines = lines
        self.code, self.comments = separated(lines)
        self.found, self.stack = [], []
        self.start()
        self.directives = list(directives(self.code))
        for self.i, row in enumerate(self.code):
            for self.j, c in enumerate("" if self.directives[self.i] else row + "\n"):
                self.take(c)
        for each in self.found:
            self.comment(each)
        lead(self.found)

    def start(self):
        self.text, self.places, self.depth, self.open = "", [], 0, None  # open: a type whose `;` is to come

    def take(self, c):
        top = self.stack[-1].kind if self.stack else "namespace"
        if top == "body" and c not in "{}":
            return
        if c == "{":
            self.enter(top)
        elif c == "}":
            self.leave()
        elif top == "enum":
            self.enumerate(c)
        elif c == ";" and self.depth == 0:
            self.end()
        else:
            self.depth += (c == "(") - (c == ")")
            if self.text or not c.isspace():
                self.text += c
                self.places.append((self.i, self.j))
            if re.match(r"(public|private|protected)\s*:$", self.text):
                self.start()

    def enter(self, top):
        text = self.text.strip()
        if top == "body":
            self.stack.append(Scope("body"))
        elif re.match(r"(inline\s+)?namespace\b", text):
            self.stack.append(Scope("namespace", re.split(r"\s+", text)[-1]))
            self.start()
        elif (match := TYPE.match(without(r"<[^<>]*>", text))) and self.open is None:
            kind = "enum" if match.group(1).startswith("enum") else "type"
            made = self.declare(kind, [(match.group(2), 0)])
            made.opened = self.i
            self.stack.append(Scope(kind, match.group(2), made))
            self.start()
        else:
            plain = without(r"<[^<>]*>", text)
            head = without(r"\((?:[^()]|\([^()]*\))*\)|operator\s*\S+", plain)
            initialises = "=" in head or re.search(r"\)\s*(?:noexcept\s*)?:(?!:).*\w$", plain, re.DOTALL)
            ends = self.depth == 0 and self.is_function() and not initialises
            self.stack.append(Scope("body", goes_on=not ends))

    def leave(self):
        if self.stack[-1].kind == "enum":
            self.enumerate(",")
        scope = self.stack.pop()
        if scope.kind in ("type", "enum"):
            self.start()
            self.open = scope.declaration
        elif scope.kind == "namespace":
            self.start()
        elif not (self.stack and self.stack[-1].kind == "body") and not scope.goes_on:
            self.end()

    def is_function(self):
        plain = without(r"<[^<>]*>", self.text)
        plain = re.sub(r"__attribute__\s*\(\(.*?\)\)|requires\s*\(.*?\)", "", plain)
        return "(" in plain and ("operator" in plain or "=" not in plain.split("(")[0])

    def enumerate(self, c):
        if c == ",":
            if match := re.match(r"(\w+)", self.text):
                self.declare("enumerator", [(match.group(1), 0)])
                self.found[-1].last = self.i
            self.start()
        elif self.text or not c.isspace():
            self.text += c
            self.places.append((self.i, self.j))

    def end(self):
        text = self.text.strip()
        if self.open is not None:
            self.open.last = self.i
        elif text and not SKIPPED.match(text):
            is_alias = re.match(r"(?:template.*>\s*)?using\b", text)
            kind = "alias" if is_alias else "function" if self.is_function() else "variable"
            self.declare(kind, names_in(self.text, kind))
            self.found[-1].last = self.i
        self.start()

    def declare(self, kind, names):
        places = [(name, *self.places[at]) for name, at in names]
        if kind in ("function", "alias"):
            places = [(name, *self.places[0]) for name, _ in names]
        elif places:
            places[0] = (places[0][0], *self.places[0])
        made = Declaration(kind, self.text.strip(), places, self.places[0][0], list(self.stack))
        self.found.append(made)
        return made

    def comment(self, each):
        """Finds what stands above a declaration, and behind its lines or those that its comment goes on in."""
        begin = each.first
        if not self.code[each.first][:each.names[0][2] if each.names else 0].strip():
            while begin > 1 and self.comments[begin - 1] is not None and not self.code[begin - 1]:
                begin -= 1
            while begin < each.first and self.goes_on(begin):
                begin += 1
        each.above = (begin, each.first)
        lines = sorted({each.opened, each.last}) if each.opened is not None else range(each.first, each.last + 1)
        behind = [self.comments[i] for i in lines if self.comments[i] is not None and self.code[i]]
        after = each.last + 1
        while behind and after < len(self.lines) and self.goes_on(after):
            behind.append(self.comments[after])
            after += 1
        each.behind = " ".join(text.strip() for text in behind)

    def goes_on(self, i):
        """Whether a line of comment goes on with the one behind the code before: it is set in further."""
        if self.comments[i] is None or self.code[i]:
            return False
        begin = i
        while begin > 0 and self.comments[begin] is not None and not self.code[begin]:
            begin -= 1
        if self.comments[begin] is None or not self.code[begin]:
            return False
        indent = lambda line: len(line) - len(line.lstrip())
        return indent(self.lines[i]) > indent(self.lines[begin])


def lead(found):
    """A comment above leads those that follow it without a blank line or another comment above."""
    for i, each in enumerate(found):
        if each.above[0] < each.above[1]:
            continue
        peers = [other for other in found[:i] if other.scope == each.scope]
        if peers and peers[-1].last >= each.first - 1:
            before = peers[-1]
            each.leader = before if before.above[0] < before.above[1] else before.leader
