"""Tells "mm-hm" from words that want the floor: a listener's noises must not stop the speaker.

Pure. English and Chinese, and the words a house adds. What is not known to be a backchannel is none: stopping too often
is the lesser evil. It does not know what was asked: a "yes" that answers a question of ours is the caller's to tell.
"""

import re
import unicodedata
from functools import lru_cache

MAX_WORDS = 4
"""More is a sentence, even if it is made of such words: "yeah okay right sure, but…" is about to go on."""

# A hyphen belongs to its word: "uh-huh" agrees, "uh-uh" and "mm-mm" refuse.
_ENGLISH = (
    "ah aha alright cool exactly gotcha great hm huh indeed mhm mm mm-hm mm-hmm mm-hum nice oh ok okay ooh really "
    "right sure true uh uh-huh uhhuh um wow yeah yep yes yup"
).split()
_PHRASES = ["i see", "i know", "got it", "of course", "go on", "makes sense", "that makes sense"]
_CHINESE = (
    "嗯 哦 噢 喔 啊 呃 额 唉 哈 哇 对 是 好 行 对的 对啊 对呀 是的 是啊 是呀 是吗 好的 好吧 好啊 好呀 "
    "嗯哼 真的 真的吗 明白 明白了 知道了 懂了 了解 这样 这样啊 原来如此 没错 不错 可以 可以的 当然 继续 你说"
).split()
_SIMPLIFIED = str.maketrans("對嗎這樣沒錯當繼續來說瞭", "对吗这样没错当继续来说了")
_HAN = re.compile(r"([\u3400-\u9fff]+)")
# Python takes the vowel signs of Indic and Thai scripts for no letters.
_NOT_A_LETTER = re.compile(r"[^\w\s\u0900-\u0963\u0966-\u0d7f\u0e00-\u0e7f-]|_")
_REPEATED = re.compile(r"(\w)\1+")
# Asked, these mean "say that again".
_SAY_AGAIN = re.compile(r"(?:^|\W)(?:huh|h+m+|[嗯啊哈])\s*\?")


def is_backchannel(text: str, also: tuple[str, ...] = ()) -> bool:
    """Whether `text`, said while the other one speaks, only means "I am listening"; `also` are words that do, besides
    those of English and Chinese.

    Case, punctuation, traditional characters and drawn-out sounds ("hmmm", 对对对对对) make no difference.
    """
    text = _lowered(text)
    rest, found = _words(also).subn("", _fold(text))
    return 0 < found <= MAX_WORDS and not rest.strip() and not _SAY_AGAIN.search(text)


def _fold(text: str) -> str:
    spaced = _HAN.sub(r" \1 ", _NOT_A_LETTER.sub(" ", text.translate(_SIMPLIFIED)))
    return _REPEATED.sub(r"\1", spaced)


def _lowered(text: str) -> str:
    return unicodedata.normalize("NFKC", text).lower()


@lru_cache(maxsize=4)
def _words(also: tuple[str, ...]) -> re.Pattern[str]:
    own = [_fold(_lowered(phrase)).strip() for phrase in also]
    spaced = [*map(_fold, _ENGLISH + _PHRASES), *(phrase for phrase in own if not _HAN.search(phrase))]
    unspaced = [*_CHINESE, *("".join(phrase.split()) for phrase in own if _HAN.search(phrase))]
    return re.compile(rf"(?<!\S)(?:{_any_of(spaced)})(?!\S)|{_any_of(unspaced)}")


def _any_of(phrases: list[str]) -> str:
    # Longest first: 好的 is one word, not 好 and a 的 that would make it a sentence.
    return "|".join(re.escape(phrase) for phrase in sorted(filter(None, phrases), key=len, reverse=True))
