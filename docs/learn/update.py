#!/usr/bin/env python3
"""Puts the programs' code and output into the text of the course, and draws its figures.

    docs/learn/update.py [--check] [--programs FOLDER] [CHAPTER...]

A chapter is a page's name such as 1-scan; without any, all pages are brought up to date. The programs
are those of FOLDER, by default build/release/bin/learn, where `cmake --build --preset release --target
learn` puts them. In a page stand between

    <!-- code 1-scan#loop -->    and  <!-- end -->  the lines of code/1-scan.cpp between `// [loop]` and `// [/loop]`,
    <!-- output 1-scan#loop -->  and  <!-- end -->  what the program prints after the line `== loop`.

figures/ holds what the programs of a page draw. --check changes nothing, names what differs and exits with 1;
so does a page with C++ that no program has.
"""
import argparse
import pathlib
import re
import subprocess
import sys
import tempfile
import textwrap

LEARN = pathlib.Path(__file__).resolve().parent
MARKED = re.compile(r"<!-- (code|output) ([\w-]+)#([\w-]+) -->\n(.*?)<!-- end -->", re.DOTALL)


class Wrong(Exception):
    """What is wrong with a page or program, for whoever writes it."""


def regions(program):
    """The marked parts of a program's source, by name."""
    source = (LEARN / "code" / f"{program}.cpp").read_text()
    found = re.findall(r"^ *// \[([\w-]+)\]\n(.*?)^ *// \[/\1\]$", source, re.DOTALL | re.MULTILINE)
    return {name: textwrap.dedent(text) for name, text in found}


class Run:
    """One run of a program: the sections that it printed and the figures that it drew, by name."""

    def __init__(self, folder, program):
        with tempfile.TemporaryDirectory() as figures:
            try:
                done = subprocess.run([folder / program, figures], capture_output=True, text=True)
            except OSError as error:
                raise Wrong(f"{program} cannot be run: {error}") from error
            if done.returncode != 0:
                raise Wrong(f"{program} exits with {done.returncode}: {done.stderr.strip()}")
            self.figures = {f.name: f.read_text() for f in pathlib.Path(figures).iterdir()}
        parts = re.split(r"^== ([\w-]+)\n", done.stdout, flags=re.MULTILINE)
        self.sections = dict(zip(parts[1::2], parts[2::2]))


def fenced(language, text):
    return f"```{language}\n{text.rstrip()}\n```\n"


def marks(page):
    """The marks of a page: (code or output, program, name, what stands there)."""
    text = page.read_text()
    found = MARKED.findall(text)
    if len(found) != len(re.findall(r"<!-- (?:code|output) ", text)):
        raise Wrong(f"{page.name}: a mark is misspelt or has no end")
    if "```cpp" in MARKED.sub("", text):
        raise Wrong(f"{page.name}: code that is no program's; a mark must stand before it")
    return found


def wanted(kind, program, name, runs):
    """What belongs between a mark and its end."""
    parts = regions(program) if kind == "code" else runs[program].sections
    if name not in parts:
        raise Wrong(f"{program} has no {kind} {name}")
    return fenced("cpp" if kind == "code" else "text", parts[name])


def differences(pages, folder):
    """For each file that is not what the programs make: its path, the new text, and what differs."""
    programs = sorted({mark[1] for page in pages for mark in marks(page)})
    runs = {program: Run(folder, program) for program in programs}
    for page in pages:
        texts = {mark: wanted(*mark[:3], runs) for mark in marks(page)}
        wrong = [f"{kind} {program}#{name}" for (kind, program, name, old), new in texts.items() if old != new]
        if wrong:
            renew = lambda at: f"<!-- {at[1]} {at[2]}#{at[3]} -->\n{texts[at.groups()]}<!-- end -->"
            yield page, MARKED.sub(renew, page.read_text()), ", ".join(wrong)
    drawn = {name: text for run in runs.values() for name, text in run.figures.items()}
    for name, text in sorted(drawn.items()):
        path = LEARN / "figures" / name
        if not path.exists() or path.read_text() != text:
            yield path, text, "the figure"
    for path in sorted((LEARN / "figures").glob("*.svg")):
        if any(path.name.startswith(program + "-") for program in programs) and path.name not in drawn:
            yield path, None, "the figure, which no program draws,"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--programs", type=pathlib.Path, default=LEARN.parents[1] / "build/release/bin/learn")
    parser.add_argument("chapters", nargs="*", metavar="CHAPTER")
    options = parser.parse_args()
    pages = [LEARN / f"{name}.md" for name in options.chapters] or sorted(LEARN.glob("*.md"))
    changes = list(differences(pages, options.programs.resolve()))
    for path, text, what in changes:
        print(f"{path.relative_to(LEARN)}: {what} {'differs' if options.check else 'renewed'}")
        if options.check:
            continue
        if text is None:
            path.unlink()
        else:
            path.write_text(text)
    return 1 if options.check and changes else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Wrong, FileNotFoundError) as error:
        sys.exit(f"update.py: {error}")
