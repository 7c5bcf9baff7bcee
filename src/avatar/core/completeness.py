"""Do these words make a turn? The second witness of its end, beside its sound.

Pure. Knows English and Chinese: what calls for an answer, and where no sentence ends. It says that it cannot tell
rather than guess, and knows nothing of other languages.
"""

import re
from enum import Enum


class Completeness(Enum):
    """What the words of a turn say about its end."""

    FINISHED = "they call for an answer"
    UNFINISHED = "they stop where no sentence ends"
    UNCLEAR = "they may go on or not"
    UNKNOWN = "no words, or of a language that is not known here"


_OPEN_WORDS = frozenset(
    "a an the my your our their every and or but because although if than of from with into for to at by "
    "is are was were am i'm it's that's i we they he she uh um er erm hmm sorry mean actually".split()
)
"""Words few English sentences end with. Left out are those that often do: "on", "in", "that", "so"."""
_OPEN_ENDS = tuple(
    "， 、 那个 这个 就是 就是说 然后 呃 的话 因为 所以 如果 但是 还有 或者 和 跟 想要 我 在 去 把 给 请问".split()
)
_DIGIT = r"(?:zero|one|two|three|four|five|six|seven|eight|nine|oh|double|\d+|[b-hj-z])"
_IN_GROUPS = re.compile(
    rf"\b{_DIGIT}[ ,.!-]+{_DIGIT}$|\b(?:number|code|pin|dial|spelled)\b.*\b{_DIGIT}$|[零一二三四五六七八九幺]{{2}}$"
)
"""Digits and spelled letters come in groups, and nothing in a group says that it is the last."""
_LAST_WORD = re.compile(r"[a-z']+$")
_SEARCHING = re.compile(
    r"\b(?:what was i (?:saying|going to say)|where was i|let me (?:see|think))$"
    r"|\w\W+(?:what do you call (?:it|that|them)|what(?:'s| is) (?:it|that|the word)(?: called)?"
    r"|how do you say(?: it| that)?)$"
    r"|(?:怎么说呢|叫什么来着|是什么来着|想一?想)$"
)
"""What people who look for a word say to themselves; some of it, alone, is a question to others."""

_QUESTION = (
    "what who whose where when why which how is are am was were do does did can could will would should shall may "
    "might have has had isn't aren't don't doesn't didn't can't won't what's who's where's when's how's"
)
_COMMAND = (
    "tell give show read play set turn switch open close start stop pause remind translate explain describe write sing "
    "spell count repeat find search call order let's make"
)
_LEAD = r"^(?:(?:so|and|but|okay|ok|well|hey|please|um|uh|yes|no)\W+)*"
_CALLS = re.compile(rf"{_LEAD}(?:{'|'.join((_QUESTION + ' ' + _COMMAND).split())})\b")
_WANTS_MORE = re.compile(
    r"\b(?:tell|give|show|get|bring|find|send|make|want|need|say|know|think|like|remind|call|play|set|put|ask|tell me"
    r"|give me|show me|if|whether|some|any|very|more|really|just|about|so|then|also|there|what|which|who|how|you)$"
)
"""Ends that a question or a command may have, and often has not."""
_MAY_END = re.compile(r"\b(?:(?:are|thank|can|do|hear|help|see|love|like|about) you|how about you|about what)$")
_LEAST_WORDS = 3
_ANSWERS = frozenset(
    "yes yeah yep yup no nope ok okay sure thanks thank you hello hi hey there bye goodbye right correct exactly go on "
    "please good great fine never maybe continue next again wait help why really not idea morning night stop".split()
)
_ZH_QUESTION = re.compile(
    r"[吗呢吧]$|谁|哪|几|多少|怎么|为什么|什么.|是不是|能不能|会不会|可不可以|有没有|好不好|要不要|多久|多大|多远|多高"
)
_ZH_COMMAND = re.compile(
    r"^(?:请(?!问|告诉)|帮我|给我|替我|播放|放|打开|关|讲|告诉我|翻译|提醒|设|读|念|唱|说|写|停).{3,}"
)
_ZH_ANSWERS = frozenset(
    "好 好的 好吧 好啊 是 是的 对 对的 不 不是 不对 不要 不用 不用了 可以 行 没有 有 谢谢 你好 再见 停 继续 等等 "
    "等一下 嗯好的 明白 算了 早上好 晚安 没问题 没关系 为什么 什么 真的".split()
)
_HAN = re.compile(r"[\u3400-\u9fff]")
_MARKS = re.compile(r"[\s.,!?;:。！？，；：、…—-]+")


def completeness(text: str, language: str | None = None) -> Completeness:
    """What `text`, as transcribed so far, says. `language` is ISO 639-1; None: by its script."""
    said = text.strip().lower()
    if not said:
        return Completeness.UNKNOWN
    chinese = bool(_HAN.search(said))
    if language not in (None, "zh" if chinese else "en"):
        return Completeness.UNKNOWN
    if _stops_short(said):
        return Completeness.UNFINISHED
    calls = _calls_in_chinese(said) if chinese else _calls_in_english(said)
    return Completeness.FINISHED if calls else Completeness.UNCLEAR


def _stops_short(said: str) -> bool:
    """Of its last mark only a comma, a dash or an ellipsis counts: transcribers put a full stop after anything."""
    if said.endswith((",", "，", "、", "...", "…", "-", "—")):
        return True
    said = said.rstrip(".!?。！？ ")
    if _IN_GROUPS.search(said) or _SEARCHING.search(said) or (said.endswith(_OPEN_ENDS) and said not in _ZH_ANSWERS):
        return True
    last = _LAST_WORD.search(said)
    return last is not None and last[0] in _OPEN_WORDS and last[0] != said


def _calls_in_english(said: str) -> bool:
    words = re.findall(r"[a-z0-9']+", said.rsplit(". ", 1)[-1])
    if all(word in _ANSWERS for word in words):
        return True
    sentence = " ".join(words)
    calls = len(words) >= _LEAST_WORDS and _CALLS.search(sentence) is not None
    return calls and (_WANTS_MORE.search(sentence) is None or _MAY_END.search(sentence) is not None)


def _calls_in_chinese(said: str) -> bool:
    plain = _MARKS.sub("", said)
    if plain in _ZH_ANSWERS:
        return True
    last = _MARKS.sub("", re.split(r"[。！]", said.rstrip("。！？ "))[-1])
    return _ZH_QUESTION.search(last) is not None or _ZH_COMMAND.search(last) is not None
