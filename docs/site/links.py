#!/usr/bin/env python3
"""Finds links of the documents that lead nowhere.

    docs/site/links.py [ROOT]

A document is any Markdown file of the repository. Every relative link must name a file or folder that is there and,
after a #, a heading of it. Prints a line for each that does not, and exits with 1 then.
"""
import pathlib
import re
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
LINK = re.compile(r"\[(?:[^\[\]]|\[[^\]]*\])*\]\(([^()\s]*)\)")


def documents(root):
    """The Markdown files under a folder, without what is built there."""
    found = [path.relative_to(root) for path in root.rglob("*.md")]
    return sorted(path for path in found if not any(part == "build" or part.startswith(".") for part in path.parts))


def prose(text):
    """A document without its code, in which a bracket is no link."""
    text = re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE)
    return re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)


def links(text):
    """Where the relative links of a document lead: (path, anchor), one of which may be empty."""
    targets = [target for target in LINK.findall(prose(text)) if not re.match(r"\w+:", target)]
    return [tuple((target + "#").split("#")[:2]) for target in targets]


def anchors(text):
    """The names by which links reach a document's headings, as GitHub and pandoc make them."""
    found = {}
    names = []
    for heading in re.findall(r"^#+ +(.*?) *#*$", re.sub(r"^ *```.*?^ *```", "", text, flags=re.DOTALL | re.MULTILINE), re.MULTILINE):
        words = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading).lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.append(name if name not in found else f"{name}-{found[name]}")
        found[name] = found.get(name, 0) + 1
    return names


def dead_links(root):
    """A sentence for each link that leads nowhere."""
    texts = {path: (root / path).read_text() for path in documents(root)}
    for page, text in texts.items():
        for target, anchor in links(text):
            path = (root / page).parent / target if target else root / page
            if not path.exists():
                yield f"{page}: there is no {target}"
            elif anchor and path.suffix == ".md" and anchor not in anchors(path.read_text()):
                yield f"{page}: {target or page} has no heading for #{anchor}"
            elif anchor and path.suffix != ".md":
                yield f"{page}: {target} is no document that #{anchor} could be in"


if __name__ == "__main__":
    dead = list(dead_links(pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT))
    print("\n".join(dead) or "every link leads somewhere")
    sys.exit(1 if dead else 0)
