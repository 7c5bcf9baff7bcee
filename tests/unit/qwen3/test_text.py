"""Text to tokens: as Qwen2 does it, and the same however the text is cut up."""

import json
import unicodedata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken

from avatar.engines.tts.checkpoints import CheckpointError
from avatar.engines.tts.qwen3.text import Committer, TextTokenizer
from tests.unit.qwen3.conftest import GOLDEN_DIR

SPACE, LINE = "Ġ", "Ċ"  # how byte-level BPE writes them
MERGES = [
    f"{SPACE} {SPACE}", f"{LINE} {LINE}", f"{SPACE} {LINE}", f"{SPACE} a", "' s", "' r", "'r e", "! !", f"! {LINE}",
    f"{LINE} {SPACE}{LINE}", f"{SPACE}{LINE} {SPACE}{LINE}", "a b", "ab c", "1 1", "Ã ©", "Ì ģ", "ä ½", "ä½ ł",
]  # fmt: skip


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory: pytest.TempPathFactory) -> TextTokenizer:
    """The golden vocabulary with merges over everything that a cut could tear apart."""
    return TextTokenizer.load(write(tmp_path_factory.mktemp("tokenizer")))


def write(folder: Path) -> Path:
    vocab: dict[str, int] = json.loads((GOLDEN_DIR / "base" / "vocab.json").read_text(encoding="utf-8"))
    for merge in MERGES:
        vocab.setdefault(merge.replace(" ", ""), len(vocab))
    (folder / "vocab.json").write_text(json.dumps(vocab), encoding="utf-8")
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(MERGES) + "\n", encoding="utf-8")
    return folder


ALPHABETS = (
    [" ", "\n", "!"],
    [" ", "\r\n", "\t", "a", "1"],
    ["x", "\u0307", "\u0323"],
    ["e", " ", "\u0301", "\u200d", "\u0b47", "\u0b3e", "\u1112", "\u1161", "\u11ab"],
    [*"abe1 .!'\n你好，é\u00a0", "abc", "  ", "'s", "'re", "!!", "11", "<|im_end|>", "\U0001f600"],
)
"""White space; what composes with the letter before it; words."""
TEXTS = st.one_of([st.lists(st.sampled_from(alphabet), max_size=9) for alphabet in ALPHABETS])


@settings(max_examples=600)
@given(TEXTS)
def test_any_split_gives_the_tokens_of_the_whole(tokenizer: TextTokenizer, pieces: list[str]) -> None:
    committer = Committer(tokenizer)
    streamed = [token for piece in pieces for token in committer.push(piece)] + committer.end()
    assert streamed == tokenizer.encode(without_leading_lines("".join(pieces)))


@pytest.mark.parametrize("text", ["x\u0323\u0307", "a \n \n", "a\n \n \nb", "a  1", "!\n\n", "a'rex", "a'r\ne"])
def test_what_a_later_piece_changes_is_not_final(tokenizer: TextTokenizer, text: str) -> None:
    committer = Committer(tokenizer)
    assert [token for piece in text for token in committer.push(piece)] + committer.end() == tokenizer.encode(text)


def without_leading_lines(text: str) -> str:
    space = text[: len(text) - len(text.lstrip())]
    return text[1 + max(space.rfind("\n"), space.rfind("\r")) :]


@given(st.text(max_size=30), st.data())
def test_any_two_pieces_of_any_text_give_what_the_tokenizer_gives(
    tokenizer: TextTokenizer, text: str, data: st.DataObject
) -> None:
    cut = data.draw(st.integers(0, len(text)))
    committer = Committer(tokenizer)
    streamed = committer.push(text[:cut]) + committer.push(text[cut:]) + committer.end()
    assert streamed == tokenizer.encode(without_leading_lines(text))


def test_words_are_committed_before_the_text_ends(tokenizer: TextTokenizer) -> None:
    committer = Committer(tokenizer)
    assert committer.push("abc") == []
    assert committer.push(" a") == tokenizer.encode("abc")
    assert committer.push("!") == tokenizer.encode(" a")
    assert committer.push(" ") == tokenizer.encode("!")
    assert committer.push("1") == tokenizer.encode(" ")
    assert committer.end() == tokenizer.encode("1")


def test_a_mark_still_joins_its_letter(tokenizer: TextTokenizer) -> None:
    committer = Committer(tokenizer)
    held = committer.push("a e")
    assert held == tokenizer.encode("a")
    assert committer.push("\u0301") + committer.end() == tokenizer.encode(" é")


@pytest.mark.parametrize("lead", ["\n", "\r\n", " \n", "\n\n  \n"])
def test_leading_lines_are_dropped(tokenizer: TextTokenizer, lead: str) -> None:
    committer = Committer(tokenizer)
    tokens = [token for character in lead + " abc" for token in committer.push(character)] + committer.end()
    assert tokens == tokenizer.encode(" abc")


def test_half_a_surrogate_pair_is_no_reason_to_stop(tokenizer: TextTokenizer) -> None:
    committer = Committer(tokenizer)
    assert committer.push("a \ud83d") + committer.end() == tokenizer.encode("a ?")


def test_lines_inside_stay(tokenizer: TextTokenizer) -> None:
    committer = Committer(tokenizer)
    assert committer.push("a") + committer.push("\n\nb") + committer.end() == tokenizer.encode("a\n\nb")


def test_control_tokens_are_spelled_out() -> None:
    tokenizer = TextTokenizer.load(GOLDEN_DIR / "base")
    added = json.loads((GOLDEN_DIR / "base" / "tokenizer_config.json").read_text())["added_tokens_decoder"]
    for number, token in added.items():
        ids = tokenizer.encode(f"a{token['content']}b")
        assert int(number) not in ids
        assert len(ids) > 3
    assert max(tokenizer.encode("<|im_start|>")) < tokenizer.size


def test_merges_and_normalization_are_qwens(tokenizer: TextTokenizer) -> None:
    vocab = json.loads((GOLDEN_DIR / "base" / "vocab.json").read_text(encoding="utf-8"))
    plain = TextTokenizer.load(GOLDEN_DIR / "base")
    assert plain.encode("assistant user") == [vocab["assistant"], vocab[SPACE], vocab["user"]]
    decomposed = unicodedata.normalize("NFD", "é")
    assert tokenizer.encode(decomposed) == tokenizer.encode("é")
    assert len(tokenizer.encode("11")) == 2  # a digit is a word of its own, whatever the merges say


def test_tokenizer_json_gives_the_same_tokens(tmp_path: Path) -> None:
    tables = TextTokenizer.load(write(tmp_path))
    text = "abc  a'sé 11!!\n\n<|im_end|>你"
    expected = tables.encode(text)
    whole = tables._tokenizer
    whole.add_special_tokens([AddedToken("<|im_end|>", special=True)])
    whole.save(str(tmp_path / "tokenizer.json"))
    (tmp_path / "vocab.json").unlink()
    assert TextTokenizer.load(tmp_path).encode(text) == expected


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"vocab\.json is missing"):
        TextTokenizer.load(tmp_path)
    write(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(CheckpointError, match=r"merges\.txt is missing"):
        TextTokenizer.load(tmp_path)
    (tmp_path / "merges.txt").write_text("not a merge\n")
    with pytest.raises(CheckpointError, match=r"cannot be read"):
        TextTokenizer.load(tmp_path)
