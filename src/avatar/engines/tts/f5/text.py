"""Text to the symbols F5-TTS was trained on: letters as they are, Chinese as pinyin with the tone as a digit.

The rules are those of the official package (`convert_char_to_pinyin`). Words are found by jieba, as there: where one
begins decides where a space goes, and can change a tone. Knows no file and no model.
"""

from collections.abc import Iterator, Sequence

UNKNOWN = 0
"""What the model reads for a symbol it does not know: a space."""

_SAME = str.maketrans({";": ",", "“": '"', "”": '"', "‘": "'", "’": "'"})
_NO_SPACE_AFTER = " :'\""


class TextTokenizer:
    """Numbers for symbols: their places in `vocabulary`."""

    def __init__(self, vocabulary: Sequence[str]) -> None:
        self._numbers = {symbol: number for number, symbol in enumerate(vocabulary)}

    def encode(self, text: str) -> list[int]:
        """The number of each symbol of `text`."""
        return [self._numbers.get(symbol, UNKNOWN) for symbol in symbols(text)]


def clean(text: str) -> str:
    """`text` as it can be written in UTF-8: halves of characters are question marks."""
    return text.encode("utf-8", "replace").decode()


def symbols(text: str) -> list[str]:
    """The symbols of a clean `text`: `Hi 你好` is H, i, space, space, ni2, space, hao3."""
    import rjieba  # loads its dictionary: a third of a second

    found: list[str] = []
    for word in rjieba.cut(text.translate(_SAME)):
        if word.isascii():
            if found and len(word) > 1 and found[-1] not in _NO_SPACE_AFTER:
                found.append(" ")
            found.extend(word)
        else:
            found.extend(_read(word))
    return found


def _read(word: str) -> Iterator[str]:
    """The symbols of a word that is not plain ASCII: a space before each Chinese character, and its pinyin."""
    readings = _pinyin(word) if all(len(char.encode()) == 3 for char in word) else []
    if len(readings) != len(word):  # mixed, or a run that pypinyin leaves in one piece
        readings = [_pinyin(char)[0] if _is_chinese(char) else char for char in word]
    for char, reading in zip(word, readings, strict=True):
        if _is_chinese(char):
            yield " "
        yield reading


def _pinyin(text: str) -> list[str]:
    from pypinyin import Style, lazy_pinyin

    return lazy_pinyin(text, style=Style.TONE3, tone_sandhi=True)


def _is_chinese(char: str) -> bool:
    return "\u3100" <= char <= "\u9fff"
