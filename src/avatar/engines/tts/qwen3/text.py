"""Text to tokens, all at once or as it comes in pieces of any size: both give the same tokens.

Byte-level BPE as Qwen2 has it. Control tokens are not in the vocabulary that user text is encoded with: whoever writes
`<|im_end|>` gets it spelled out. Knows no prompt.
"""

import json
import re
import unicodedata
from pathlib import Path
from typing import Any

from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

from avatar.engines.tts.checkpoints import CheckpointError

# Qwen2's own (`tokenizer.json` of every Qwen2 and Qwen3 model).
SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
LEADING_LINES = re.compile(r"\s*[\r\n]")
"""Would melt into the line break of the template in front of it."""


class TextTokenizer:
    """Ids of plain text. `tokenizer.json` is used if there is one, else `vocab.json` and `merges.txt`."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer

    @classmethod
    def load(cls, directory: Path) -> "TextTokenizer":
        """Raises `CheckpointError` naming the file."""
        whole, vocab, merges = (directory / name for name in ("tokenizer.json", "vocab.json", "merges.txt"))
        try:
            return cls(_from_json(whole) if whole.exists() else _from_tables(vocab, merges))
        except FileNotFoundError as error:
            raise CheckpointError(f"{error.filename} is missing.") from None
        except Exception as error:  # the library raises nothing narrower
            raise CheckpointError(f"The tokenizer files in {directory} cannot be read: {error}.") from error

    @property
    def size(self) -> int:
        """One more than the largest id that plain text can have."""
        return 1 + max(self._tokenizer.get_vocab(with_added_tokens=False).values())

    def encode(self, text: str) -> list[int]:
        """Ids of a whole text, control tokens in it spelled out."""
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def normalize(self, text: str) -> str:
        normalizer = self._tokenizer.normalizer
        return text if normalizer is None else str(normalizer.normalize_str(text))

    def pieces(self, text: str) -> list[tuple[int, list[int]]]:
        """Each pre-token of a normalized text: where it ends in the text, and its ids."""
        encoding = self._tokenizer.encode(text, add_special_tokens=False)
        pieces: list[tuple[int, list[int]]] = []
        last = None
        for token, word, (_, end) in zip(encoding.ids, encoding.word_ids, encoding.offsets, strict=True):
            ids = pieces.pop()[1] if word == last else []
            pieces.append((end, [*ids, token]))
            last = word
        return pieces


class Committer:
    """The tokens of a text that comes in pieces, each as soon as no later piece can change it.

    Tokens never reach over a pre-token (about: a word with the space before it), so all but the last are final. White
    space may join what follows, and a mark composes with the letter before it: those wait too. Leading line breaks are
    dropped.
    """

    def __init__(self, tokenizer: TextTokenizer) -> None:
        self._tokenizer = tokenizer
        self._held = ""
        self._started = False

    def push(self, text: str) -> list[int]:
        """Tokens that have become final."""
        self._take(text)
        pieces = self._tokenizer.pieces(self._held)
        final = len(pieces) - 1
        while final > 0 and not self._is_boundary(pieces, final):
            final -= 1
        if final < 1:
            return []
        self._held = self._held[pieces[final - 1][0] :]
        self._started = True
        return [token for _, ids in pieces[:final] for token in ids]

    def end(self) -> list[int]:
        """The rest."""
        ids = self._tokenizer.encode(self._held)
        self._held, self._started = "", True
        return ids

    def _take(self, text: str) -> None:
        held = self._held + text.encode("utf-8", "replace").decode()  # half of a surrogate pair is no character
        if not self._started and (lines := LEADING_LINES.match(held)):
            held = held[lines.end() :]
        self._held = self._tokenizer.normalize(held)

    def _is_boundary(self, pieces: list[tuple[int, list[int]]], index: int) -> bool:
        """Whether piece `index` begins anew whatever comes after it."""
        start = pieces[index - 1][0]
        before = self._held[pieces[index - 2][0] if index > 1 else 0 : start]
        rest = self._held[start:]
        is_mark = unicodedata.category(rest[0]).startswith("M")
        return not is_mark and not (rest.isspace() and before.isspace())


def _from_tables(vocab: Path, merges: Path) -> Tokenizer:
    ranks: dict[str, int] = json.loads(vocab.read_text(encoding="utf-8"))
    lines = merges.read_text(encoding="utf-8").split("\n")
    pairs = [tuple(line.split(" ")) for line in lines if line and not line.startswith("#version")]
    tokenizer = Tokenizer(models.BPE(vocab=ranks, merges=[(a, b) for a, b in pairs]))
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    return tokenizer


def _from_json(file: Path) -> Tokenizer:
    whole: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    plain: dict[str, Any] = {"added_tokens": [], "post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(whole | plain))
