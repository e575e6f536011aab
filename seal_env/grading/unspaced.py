"""Search for whole words in scripts that are written without spaces.

京都 (Kyoto) is a word of 京都は古い, but not of 東京都 (Tokyo), which contains its characters.
Without a dictionary, word boundaries are known where the script changes, at the characters of
Chinese and Japanese function words, and at the ends of clauses. Thai, Lao, Khmer and Burmese
mark no boundaries; there a word must at least not begin or end within a syllable.
"""

from __future__ import annotations

import regex

_HAN = regex.compile(r"\p{Han}")
_HIRAGANA = regex.compile(r"[\p{Hiragana}ー]")
_KATAKANA = regex.compile(r"[\p{Katakana}ー]")
_NO_START = regex.compile(r"[\p{M}ะาำๅຳະາ]")
_NO_END = regex.compile(r"[เแโใไเແໂໃໄ\u17d2\u1039]")
# Single characters that are function words on both sides of which a word ends.
_HAN_FUNCTION = frozenset("是在的了和与與及於于为為从從到由被把對对叫位之")
_HIRAGANA_FUNCTION = frozenset("はがをにのでともやへかだ")
# Characters that Chinese and Japanese append to the name of a place or to a date.
_SUFFIXES = frozenset("市县縣省州区區都道府国國郡町村镇鎮乡鄉島岛山河江川湖年月日")
_DENIES_NEXT = (
    "不",
    "不是",
    "不在",
    "没有",
    "沒有",
    "并非",
    "並非",
    "没",
    "沒",
    "無",
    "无",
    "非",
    "未",
    "别",
    "ไม่",
    "มิ",
    "ບໍ່",
    "មិន",
    "မ",
)
_DENIES_BEFORE = regex.compile(r"\p{Hiragana}{0,4}?(ない|ません|なかった|なく|ず)")
# "Or" joins a rival: 東京か大阪, 北京或上海.
_OR_BEFORE = regex.compile(r"[\p{Han}\p{Katakana}]か$|或$")
_OR_AFTER = regex.compile(r"か[\p{Han}\p{Katakana}]|或|还是|還是")


def holds(text: str, word: str) -> bool:
    """Whether a text contains a word without denying it.

    Args:
        text: Normalized text.
        word: Run of one unspaced script.
    """
    names = [word]
    if len(word) > 2 and word[-1] in _SUFFIXES:
        names.append(word[:-1])  # 北京市 is 北京
    return any(_occurs(text, name) for name in names)


def _occurs(text: str, word: str) -> bool:
    at = text.find(word)
    while at >= 0:
        if _stands_alone(text, at, at + len(word)):
            return True
        at = text.find(word, at + 1)
    return False


def _stands_alone(text: str, start: int, end: int) -> bool:
    """Whether word boundaries are at these two indices of a text."""
    before, after = text[start - 1 : start], text[end : end + 1]
    if text.endswith(_DENIES_NEXT, 0, start) or _DENIES_BEFORE.match(text, end):
        return False
    if _OR_BEFORE.search(text, max(0, start - 2), start) or _OR_AFTER.match(text, end):
        return False
    for script, function in (
        (_HAN, _HAN_FUNCTION),
        (_HIRAGANA, _HIRAGANA_FUNCTION),
        (_KATAKANA, frozenset[str]()),
    ):
        if not script.match(text, start):
            continue
        if before and script.match(before) and before not in function:
            return False
        if script is _HAN and after in _SUFFIXES:
            after = text[end + 1 : end + 2]
        return not after or not script.match(after) or after in function
    return not _NO_START.match(after) and not _NO_END.match(before)
