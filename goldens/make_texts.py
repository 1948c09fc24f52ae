"""Extract the distributable part of dictlm's held-out and training text.

    make_texts.py SOURCE [OUT]

SOURCE is a folder with `eval.txt` (held out from dictlm's training) and
`calibration.txt` (part of it): each a row of excerpts from several books, only
two of which are in the public domain: the King James Bible, one verse a line
(`Psa75:3 The earth ...`), and the Jargon File (headword, tag line, body indented
by four spaces). The rest is left out. An excerpt begins and ends anywhere, so
its first and last verse or entry, if cut, are left out as well.
"""

import re
import sys
from pathlib import Path

EXCERPT = 20_000  # Characters of an excerpt, which a blank line follows.
VERSE = re.compile(r"[1-3]?[A-Z][a-z]{1,3}\d+:\d+ \S")
HEADWORD = re.compile(r"\n\n(?=\S[^\n]*\n [^ \n])")  # The tag line has one space.
RUDE = re.compile(r"sex|shit", re.IGNORECASE)


def excerpts(text):
    return [text[i : i + EXCERPT] for i in range(0, len(text), EXCERPT + 2)]


def verses(excerpt):
    """The whole verses of a Bible excerpt; nothing of any other."""
    lines = excerpt.split("\n")
    if sum(bool(VERSE.match(line)) for line in lines) < len(lines) / 2:
        return []
    whole = [line for line in lines[:-1] if VERSE.match(line)]
    return ["\n".join(whole) + "\n"]


def entries(excerpt):
    """The whole entries of a Jargon File excerpt; nothing of any other."""
    whole = HEADWORD.split(excerpt)[1:-1]
    if len(whole) < 10:
        return []
    kept = [entry for entry in whole if not RUDE.search(entry)]
    return ["\n\n".join(kept) + "\n"]


def main(source, out):
    for name in ("eval.txt", "calibration.txt"):
        parts = excerpts((source / name).read_text(encoding="utf-8"))
        bible = [text for part in parts for text in verses(part)]
        jargon = [text for part in parts for text in entries(part)]
        if not bible or not jargon:
            sys.exit(f"{source / name}: {len(bible)} Bible and {len(jargon)} Jargon File excerpts, wanted both")
        (out / name).write_text("\n".join(bible + jargon), encoding="utf-8")
        print(f"{name}: Bible {sum(map(len, bible))}, Jargon File {sum(map(len, jargon))} characters")


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit(__doc__)
    main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) == 3 else Path(__file__).parent))
