#!/usr/bin/env python3
"""Counts the course's words, without code, tables and formulas, and finds its longest sentences.

    docs/learn/prose.py [PAGE...]

One line a page: words, words of the longest sentence, and that sentence's beginning. Exits with 1 and the sentences
where some are longer than 40 words.
"""
import pathlib
import re
import sys

MOST = 40
WORDS_A_MINUTE = 200


def paragraphs(text):
    text = re.sub(r"^```.*?^```$", "\n\n", text, flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"<!--.*?-->", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"\$\$.*?\$\$", "\n\n", text, flags=re.DOTALL)
    text = re.sub(r"^(#|\||!\[).*$", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"^ *(- |\d+\. )", "\n\n", text, flags=re.MULTILINE)
    text = re.sub(r"\$`.*?`\$|\$[^$]*\$|`[^`]*`", "X", text)
    text = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", text)
    return [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]


def sentences(text):
    return [s for p in paragraphs(text) for s in re.split(r"(?<=[.?!])\s+(?=[A-Z*])", p)]


def main():
    pages = [pathlib.Path(p) for p in sys.argv[1:]] or sorted(pathlib.Path(__file__).resolve().parent.glob("*.md"))
    total, long = 0, []
    for page in pages:
        counted = [(len(s.split()), s) for s in sentences(page.read_text())]
        words, (most, longest) = sum(n for n, _ in counted), max(counted)
        print(f"{page.name:20} {words:5} words, at most {most} a sentence: {longest[:60]}..")
        total += words
        long += [f"{page.name}: {n} words: {s}" for n, s in counted if n > MOST]
    print(f"{total} words, {total / WORDS_A_MINUTE:.0f} minutes at {WORDS_A_MINUTE} a minute")
    print("\n".join(long))
    return 1 if long else 0


if __name__ == "__main__":
    sys.exit(main())
