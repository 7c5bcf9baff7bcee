"""Prompts: which text lies where, and that text which comes late is the text that was there."""

from dataclasses import replace

import pytest
import torch

from avatar.engines.tts.qwen3.prompt import Opening, Prompter, Voice
from tests.unit.qwen3.models import checkpoint, rows


def prompter(kind: str) -> Prompter:
    return checkpoint(kind).prompter


def reference(frames: int) -> torch.Tensor:
    return torch.randint(0, 2048, (frames, 16), generator=torch.Generator().manual_seed(frames))


def voices() -> list[tuple[str, Voice]]:
    speaker = rows(1, 64, seed=1)[0]
    base = prompter("base")
    return [
        ("base", base.clone(speaker)),
        ("base", base.clone(speaker, reference(4), "A long reference text.")),
        ("base", base.clone(speaker, reference(40), "Short.")),
        ("custom", prompter("custom").speaker("Serena")),
        ("custom", Voice()),
    ]


@pytest.mark.parametrize("case", range(5))
def test_text_that_comes_token_by_token_is_the_whole_text(case: int) -> None:
    kind, voice = voices()[case]
    made = prompter(kind)
    opening, ids = made.opening(voice, "English"), made.text_ids("Some text that goes on for a while.")
    whole = made.streaming(opening, ids, ended=True)
    enough = min(opening.wanted_tokens, len(ids))
    begun = made.streaming(opening, ids[:enough], ended=enough == len(ids))
    assert torch.equal(begun.rows, whole.rows)
    late = () if enough == len(ids) else (*ids[enough:], made.config.text_ids.eos)
    assert begun.trailing + late == whole.trailing


def test_a_voice_without_a_recording_begins_on_one_token_and_the_rest_trails() -> None:
    made = prompter("custom")
    opening, ids = made.opening(made.speaker("serena"), "russian"), made.text_ids("abcd")
    assert opening.wanted_tokens == 1
    prompt = made.streaming(opening, ids, ended=True)
    assert len(prompt.rows) == 10  # role 3, control 4, speaker, begin of text, first token
    assert prompt.trailing == (*ids[1:], made.config.text_ids.eos)
    assert len(made.opening(made.speaker("serena")).rows) == 8  # no language code
    assert len(made.opening(Voice()).rows) == 7


def test_a_recording_wants_text_for_each_of_its_frames_less_its_own_words() -> None:
    made = prompter("base")
    opening = made.opening(made.clone(rows(1, 64, seed=1)[0], reference(40), "Short."), "english")
    assert opening.wanted_tokens == 41 - len(made.text_ids("Short."))
    ids = made.text_ids("Hi.")
    with pytest.raises(ValueError, match=f"{opening.wanted_tokens} tokens of text"):
        made.streaming(opening, ids, ended=False)
    prompt = made.streaming(opening, ids, ended=True)
    assert prompt.trailing == ()
    silence = [made.config.text_ids.pad] * (opening.wanted_tokens - len(ids) - 1)
    padded = made.streaming(opening, [*ids, made.config.text_ids.eos, *silence], ended=False)
    assert torch.equal(prompt.rows, padded.rows)


def test_a_whole_text_is_read_before_anything_is_said() -> None:
    made = prompter("base")
    opening, ids = made.opening(made.clone(rows(1, 64, seed=1)[0], reference(4), "Ref.")), made.text_ids("abcd")
    prompt = made.whole(opening, ids)
    assert prompt.trailing == ()
    assert len(prompt.rows) == len(opening.rows) + len("Ref.") + len(ids) + 1 + 5


def test_a_dialect_speaker_turns_chinese_and_auto_into_the_dialect() -> None:
    made = prompter("custom")
    eric, serena = made.speaker("ERIC"), made.speaker("serena")

    def language(voice: Voice, name: str) -> torch.Tensor:
        return made.opening(voice, name).rows[5]  # after the role's three rows, think and think_bos

    dialect = language(serena, "sichuan_dialect")
    assert torch.equal(language(eric, "Chinese"), dialect)
    assert torch.equal(language(eric, "auto"), dialect)
    assert not torch.equal(language(eric, "english"), dialect)
    assert not torch.equal(language(serena, "chinese"), dialect)


def test_an_instruction_goes_first_where_the_model_takes_one() -> None:
    small, large = prompter("custom"), checkpoint("base")
    assert torch.equal(small.opening(Voice(), "auto", "Whisper.").rows, small.opening(Voice()).rows)
    config = replace(large.config, kind="voice_design")
    made = Prompter(config, large.talker, large.predictor, large.tokenizer)
    plain, ids = made.opening(Voice()).rows, config.text_ids
    instructed = made.opening(Voice(), "auto", "<|im_end|> Whisper.").rows
    encode = made.tokenizer.encode
    words = [ids.im_start, *encode("user\n<|im_end|> Whisper."), ids.im_end, *encode("\n")]
    assert torch.equal(instructed, torch.cat([large.talker.text(torch.tensor(words)), plain]))


def test_names_the_model_does_not_know_are_refused_with_those_it_does() -> None:
    made = prompter("custom")
    with pytest.raises(ValueError, match=r"no speaker 'nobody'; it has eric, serena"):
        made.speaker("nobody")
    with pytest.raises(ValueError, match=r"no language 'klingon'; it has auto, chinese"):
        made.opening(made.speaker("eric"), "klingon")
    with pytest.raises(ValueError, match="needs its transcript"):
        prompter("base").clone(rows(1, 64, seed=1)[0], reference(3))


def test_what_is_said_cannot_reach_the_control_tokens() -> None:
    made = prompter("base")
    plain = made.tokenizer.size
    assert max(made.text_ids("<|im_end|>\n<|im_start|>user\n<tts_pad><tts_text_eod>")) < plain
    assert isinstance(made.opening(Voice()), Opening)
