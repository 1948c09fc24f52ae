"""Texts that tokenizers disagree on, drawn from a seed: the self-check of `tokenizer` and the tests use them."""

import random

ATOMS = [
    # Words, case, contractions, numbers, punctuation.
    "the", "King", "JUDAH", "of", "sea", "quick", "don't", "I'm", "we've", "it 's", "N'T", "12", "3,456.78", "1e-9", "x=y",
    ".", ",", "!?", "...", "—", "'", "\"", "`", "(", ")", "[", "]", "{}", "<", ">", "&amp;", "#", "##a", "@", "_", "▁", "▁the", "/", "\\",
    # Accents, composed and not; combining marks alone and stacked; letters whose case changes their length.
    "é", "e\u0301", "Å", "A\u030a", "\u0301", "n\u0303\u0327", "ß", "ẞ", "İ", "ı", "ŉ", "ﬁ", "Ǆ", "ǅ", "Σς", "ΐ", "Ä\u0308",
    "Za\u0300\u0301\u0302lgo", "naïve", "ÉCOLE", "Ωmega",
    # Spaces of every kind.
    " ", "  ", "   ", "\t", "\n", "\r\n", "\n\n", "\u00a0", "\u2003", "\u3000", "\u200b", "\u2028", "\u2029", "\u0085", "\ufeff", "\u180e",
    # Control characters, NUL, soft hyphen, variation selectors, private use, noncharacters, the last code point.
    "\0", "\x01", "\x07", "\x1b[0m", "\x7f", "\x9f", "\u00ad", "\ufe0f", "\ufe0e", "\ue000", "\uffff", "\ufffd", "\U0010ffff", "\ufdd0",
    # Emoji: plain, with skin tone, joined, flags, keycaps, a joiner alone.
    "😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇩", "1️⃣", "\u200d", "❤️", "☃",
    # Scripts: right to left, with marks; Indic conjuncts; CJK, kana, half and full width, Hangul composed and not.
    "שלום", "שָׁלוֹם", "مرحبا", "لَا", "\u202e", "\u200f", "नमस्ते", "क्षि", "ไทย", "မြန်မာ", "中文", "日本語", "ｶﾞ", "ガ", "か\u3099", "ＡＢＣ", "１２",
    "한국어", "\u1112\u1161\u11ab", "𠀀", "豈", "㍿", "①", "½", "²", "Ⅷ", "𝔘𝔫𝔦", "ﷺ",
    # Pieces of bytes that byte-level vocabularies draw as letters, and byte tokens of SentencePiece.
    "Ġ", "Ċ", "ĉ", "<0x0A>", "<0x41>", "</w>",
]  # fmt: skip

WHOLE = [
    "",
    " ",
    "  leading",
    "trailing  ",
    "a" * 300,
    "pneumonoultramicroscopicsilicovolcanoconiosis" * 5,
    "ab" * 120,
    "the " * 60,
    "\n\n\n",
    "é" * 99,
    "中" * 101,
    "1" * 50,
    "Hello World, What Is This?",
    "the king of judah",
    "A Silk Fabric from the EAST",
    "def f(x):\n    return x ** 2\n\n\tif True:\n",
    "https://example.org/a_b?c=d&e=%20#frag",
    "😀" * 30,
]


def odd_texts(count: int, specials=(), seed: int = 14) -> list[str]:
    """`count` texts, the same for the same arguments; `specials` are mixed into them in several forms."""
    draw = random.Random(seed)
    forms = [form for token in specials for form in (token, f" {token}", f"{token} ", token.upper(), token[1:], token * 2)]
    texts = list(WHOLE) + [f"{token}the king" for token in specials] + [f"sea{token}" for token in specials]
    while len(texts) < count:
        parts = []
        for _ in range(draw.randint(1, 9)):
            kind = draw.random()
            if kind < 0.15 and forms:
                parts.append(draw.choice(forms))
            elif kind < 0.25:
                parts.append(chr(_scalar(draw)))
            else:
                parts.append(draw.choice(ATOMS))
            if draw.random() < 0.4:
                parts.append(" ")
        texts.append("".join(parts))
    return texts[:count]


def _scalar(draw: random.Random) -> int:
    """A Unicode scalar value; half of them from the planes that text uses."""
    while True:
        code = draw.randrange(0x3100) if draw.random() < 0.5 else draw.randrange(0x110000)
        if not 0xD800 <= code < 0xE000:
            return code
