#!/usr/bin/env python3
"""Makes a static site of all documents, with pandoc and nothing from the network.

    docs/site/build.py FOLDER

Pages link to the reference of the headers, FOLDER/api, where that has been built (cmake/docs.cmake).
Formulas become MathML, which browsers draw themselves. A file or folder of the repository that a document links to is
shown on a page of its own. Exits with 1 where a link leads nowhere, before anything is written, or where pandoc
warns, of a formula for example.
"""
import concurrent.futures
import os
import pathlib
import re
import shutil
import subprocess
import sys

from links import ROOT, dead_links, documents, links

HERE = pathlib.Path(__file__).resolve().parent
LANGUAGES = {".cpp": "cpp", ".h": "cpp", ".cu": "cpp", ".cuh": "cpp", ".py": "python", ".sh": "bash", ".cmake": "cmake"}
SHOWN_AS_THEY_ARE = {".svg", ".png"}
REFERENCE = "api/index.html"  # in the site
LARGEST = 1 << 18  # bytes of a file in a folder that is shown: others are named alone


class Wrong(Exception):
    pass


def page_of(path):
    """Where the site shows a file or folder of the repository."""
    if path.suffix == ".md":
        return path.with_suffix(".html")
    if path.suffix in SHOWN_AS_THEY_ARE:
        return path
    return path / "index.html" if (ROOT / path).is_dir() else path.with_name(path.name + ".html")


def relative(path, page):
    return os.path.relpath(path, page.parent).replace(os.sep, "/")


def pandoc(text, page, title, site):
    """The page's HTML: text in GitHub's Markdown, in the frame of page.html."""
    root = relative(pathlib.Path("."), page) + "/"
    command = ["pandoc", "--from=gfm+tex_math_dollars", "--to=html", "--mathml", "--fail-if-warnings", "--standalone",
               f"--template={HERE / 'page.html'}", f"--variable=root:{root}", f"--metadata=pagetitle:{title}"]
    if (site / REFERENCE).exists():
        command.append(f"--variable=reference:{REFERENCE}")
    done = subprocess.run(command, input=text, capture_output=True, text=True)
    if done.returncode != 0:
        raise Wrong(f"{page}: {done.stderr.strip()}")
    return drawn_alike(done.stdout)


def drawn_alike(html):
    """Formulas as browsers draw them alike, whether they have a font for formulas or not."""
    def word(match):  # letters of their own would be italic
        return f"<mtext>{re.sub('<[^>]*>', '', match.group(1))}</mtext>"
    html = re.sub(r'<mstyle mathvariant="normal">((?:<mi>[^<]*</mi>)+)</mstyle>', word, html)
    def flat(match):  # brackets around nothing high are no higher than a line
        high = re.search("<(mfrac|mtable|munder|msqrt)", match.group())
        return match.group() if high else match.group().replace('stretchy="true"', 'stretchy="false"')
    return re.sub(r"<math .*?</math>", flat, html, flags=re.DOTALL)


def with_links(html, source, page):
    """Links to files of the repository become links to their pages."""
    def renewed(match):
        target, hash_, anchor = match.group(1).partition("#")
        if not target or re.match(r"\w+:", target) or target.endswith(".css") or target.endswith(".html"):
            return match.group()
        path = pathlib.Path(os.path.normpath((ROOT / source).parent / target)).relative_to(ROOT)
        return f'href="{relative(page_of(path), page)}{hash_}{anchor}"'
    return re.sub(r'href="([^"]*)"', renewed, html)


def document(path, site):
    text = (ROOT / path).read_text()
    title = re.search(r"^# *(.*)$", text, re.MULTILINE)
    return with_links(pandoc(text, page_of(path), title.group(1) if title else path.stem, site), path, page_of(path))


def is_shown(path):
    """Whether a file of a folder gets a page: no data, and not too long to be read."""
    if path.suffix in SHOWN_AS_THEY_ARE | {".md"}:
        return True
    if (ROOT / path).stat().st_size > LARGEST:
        return False
    try:
        return "\0" not in (ROOT / path).read_text()
    except UnicodeDecodeError:
        return False


def files_of(folder):
    return sorted(e.relative_to(ROOT) for e in (ROOT / folder).iterdir() if e.is_file() and not e.name.startswith("."))


def listing(path, site):
    """A file's text, or what a folder holds."""
    if (ROOT / path).is_dir():
        names = [f"- [{e.name}]({e.name})" if is_shown(e) else f"- {e.name}" for e in files_of(path)]
        text = "\n".join([f"# {path}", "", *names])
        return with_links(pandoc(text, page_of(path), path, site), path / "-", page_of(path))
    language = LANGUAGES.get(path.suffix, "text")
    text = f"# {path}\n\n~~~~~~~~ {language}\n{(ROOT / path).read_text()}\n~~~~~~~~\n"
    return pandoc(text, page_of(path), path, site)


def linked(pages):
    """What the documents lead to besides each other, with the files of a folder among it."""
    found = set()
    for page in pages:
        targets = [target for target, _ in links((ROOT / page).read_text()) if target]
        found |= {pathlib.Path(os.path.normpath((ROOT / page).parent / target)).relative_to(ROOT) for target in targets}
    for folder in [path for path in found if (ROOT / path).is_dir()]:
        found |= {path for path in files_of(folder) if is_shown(path)}
    return sorted(path for path in found if path.suffix != ".md")


def write(site, path, make):
    to = site / page_of(path)
    to.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix in SHOWN_AS_THEY_ARE:
        shutil.copy(ROOT / path, to)
    else:
        to.write_text(make(path, site))


def main(site):
    dead = list(dead_links(ROOT))
    if dead:
        raise Wrong("\n".join(dead))
    pages = documents(ROOT)
    others = linked(pages)
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        made = [pool.submit(write, site, page, document) for page in pages]
        made += [pool.submit(write, site, path, listing) for path in others]
        for each in made:
            each.result()
    (site / "docs/site").mkdir(parents=True, exist_ok=True)
    shutil.copy(HERE / "style.css", site / "docs/site")
    (site / "index.html").write_text('<meta http-equiv="refresh" content="0; url=README.html">\n')
    print(f"{len(pages)} documents and {len(others)} files: {site / 'index.html'}")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        main(pathlib.Path(sys.argv[1]).resolve())
    except Wrong as error:
        sys.exit(f"build.py: {error}")
