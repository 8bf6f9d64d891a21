#!/usr/bin/env python3
"""A header with its comments as Doxygen reads them: docs/site/comments.py FILE, on standard output.

The comments are plain text: // before a declaration or behind it. Lines that are set in by two spaces are formulas and
stay as they are. The comment at a file's beginning is about the file. As many lines come out as go in.
"""
import pathlib
import re
import sys

COMMENT = re.compile(r"^(\s*)//(?!/)( ?)(.*)$")
BEHIND = re.compile(r"^(.*?[;,{})\w])(\s+)// (.*)$")


def escaped(text):
    return re.sub(r"([\\@<>&#%$\"~])|::", lambda m: "\\" + m.group(), text)


def block(lines, first):
    """A comment of its own lines, `first` being what begins it."""
    parts = [COMMENT.match(line).groups() for line in lines]
    formula = [text.startswith("  ") for _, _, text in parts]
    for i, (space, _, text) in enumerate(parts):
        if formula[i]:
            begin = "" if i > 0 and formula[i - 1] else "@verbatim "
            end = "" if i + 1 < len(parts) and formula[i + 1] else " @endverbatim"
            shown = begin + text + end
        else:
            shown = escaped(text)
        begin, end = f"/** {first}" if i == 0 else "    ", " */" if i + 1 == len(parts) else ""
        yield space + begin + shown.replace("*/", "* /") + end


def filtered(lines, path):
    i = 0
    while i < len(lines):
        end = i
        while end < len(lines) and COMMENT.match(lines[end]):
            end += 1
        if end > i:
            about_declaration = end < len(lines) and lines[end].strip() and not lines[end].lstrip().startswith(("#", "}"))
            if i == 0:
                yield from block(lines[i:end], f"@file {path.parent.name}/{path.name} ")
            elif about_declaration:
                yield from block(lines[i:end], "")
            else:
                yield from lines[i:end]
            i = end
            continue
        behind = BEHIND.match(lines[i])
        yield f"{behind.group(1)}{behind.group(2)}///< {escaped(behind.group(3))}" if behind else lines[i]
        i += 1
        while behind and i < len(lines):
            more = COMMENT.match(lines[i])
            if more is None or len(more.group(1)) < len(behind.group(1)):
                break
            yield f"{more.group(1)}///< {escaped(more.group(3))}"
            i += 1


if __name__ == "__main__":
    header = pathlib.Path(sys.argv[1])
    print("\n".join(filtered(header.read_text().split("\n"), header)), end="")
