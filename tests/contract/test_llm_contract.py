"""What every language model owes its caller; real ones and the fake are held to the same."""

import asyncio
import json
import threading
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import psutil
import pytest
import pytest_asyncio
import xllamacpp

from avatar.core.errors import EngineFailed, UnusableSchema
from avatar.engines.base import Delta, LanguageModel, Message, ReadsAhead, Sampling, Tool, ToolCall
from avatar.engines.llm.llama_cpp import LlamaCpp
from avatar.engines.llm.openai_compatible import OpenAICompatible
from avatar.engines.llm.wire import ChunkReader
from tests.call_pieces import check_pieces
from tests.fakes.llm import FakeLanguageModel
from tests.fakes.openai_server import OpenAIServer

_SYSTEM = Message("system", "You are a helpful AI assistant named AVATAR. Answer in one short sentence.")


def ask(question: str) -> tuple[Message, ...]:
    return (_SYSTEM, Message("user", question))


FRANCE = ask("What is the capital of France?")
STORY = ask("Tell me a very long story about a dog and a cat.")


WEATHER = Tool(
    "weather",
    "The weather of a city.",
    {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
)
TIME = Tool("time", "The time.", {"type": "object", "properties": {}})


async def answer(
    engine: LanguageModel, messages: Sequence[Message], sampling: Sampling | None = None, tools: Sequence[Tool] = ()
) -> list[Delta]:
    async with aclosing(engine.stream(messages, tools=tools, sampling=sampling)) as deltas:
        return [delta async for delta in deltas]


class LanguageModelContract:
    """A subclass gives the fixture `engine`: warmed up, closed afterwards."""

    async def test_it_says_what_it_is(self, engine: LanguageModel) -> None:
        assert isinstance(engine, LanguageModel)
        assert engine.name
        assert engine.capabilities.streams
        assert engine.capabilities.concurrent >= 1
        assert engine.context_tokens >= 512

    async def test_the_answer_comes_in_deltas_and_the_last_says_why_it_ended(self, engine: LanguageModel) -> None:
        *deltas, last = await answer(engine, FRANCE)
        assert len([delta for delta in deltas if delta.text]) >= 2
        assert all(delta.finish_reason is None and not delta.tool_calls for delta in deltas)
        assert last.finish_reason == "stop"
        assert "Paris" in "".join(delta.text for delta in (*deltas, last))

    async def test_an_answer_is_no_longer_than_asked(self, engine: LanguageModel) -> None:
        *deltas, last = await answer(engine, STORY, Sampling(max_tokens=3))
        assert last.finish_reason == "length"
        assert 1 <= len([delta for delta in (*deltas, last) if delta.text]) <= 3

    async def test_closing_frees_the_engine_at_once(self, engine: LanguageModel) -> None:
        for _ in range(engine.capabilities.concurrent + 1):
            stream = engine.stream(STORY)
            assert (await anext(stream)).text
            await stream.aclose()
            await stream.aclose()
            with pytest.raises(StopAsyncIteration):
                await anext(stream)
        assert (await answer(engine, FRANCE))[-1].finish_reason == "stop"

    async def test_cancelling_before_the_first_token_frees_the_engine(self, engine: LanguageModel) -> None:
        for _ in range(engine.capabilities.concurrent + 1):
            task = asyncio.create_task(answer(engine, STORY))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert (await answer(engine, FRANCE))[-1].finish_reason == "stop"

    async def test_several_answers_at_once_each_get_their_own(self, engine: LanguageModel) -> None:
        answers = await asyncio.gather(*(answer(engine, FRANCE) for _ in range(6)))
        assert all("Paris" in "".join(delta.text for delta in deltas) for deltas in answers)

    async def test_a_tool_s_result_can_be_part_of_the_prompt(self, engine: LanguageModel) -> None:
        call = ToolCall("call_1", "weather", '{"city": "Paris"}')
        messages = (*FRANCE, Message("assistant", "", (call,)), Message("tool", "Sunny.", tool_call_id="call_1"))
        assert (await answer(engine, messages, Sampling(max_tokens=8)))[-1].finish_reason

    async def test_a_tool_that_must_be_called_is_called(self, engine: LanguageModel) -> None:
        question, ids = ask("What is the weather in Paris?"), set()
        for choice, names in (("weather", {"weather"}), ("time", {"time"}), ("required", {"weather", "time"})):
            last = (await answer(engine, question, Sampling(100, tool_choice=choice), (WEATHER, TIME)))[-1]
            assert last.finish_reason == "tool_calls"
            assert last.tool_calls[0].name in names
            assert isinstance(json.loads(last.tool_calls[0].arguments), dict)
            ids.add(last.tool_calls[0].id)
        assert len(ids) == 3

    async def test_a_call_s_pieces_are_what_it_becomes(self, engine: LanguageModel) -> None:
        deltas = await answer(engine, ask("What is the time?"), Sampling(100, tool_choice="time"), (WEATHER, TIME))
        check_pieces(deltas)
        assert not deltas[-1].call_pieces

    async def test_tools_on_offer_take_nothing_from_an_answer(self, engine: LanguageModel) -> None:
        call = ToolCall("call_1", "weather", '{"city": "Paris"}')
        messages = (*FRANCE, Message("assistant", "", (call,)), Message("tool", "Paris.", tool_call_id="call_1"))
        *deltas, last = await answer(engine, messages, Sampling(60), (WEATHER, TIME))
        assert last.finish_reason in ("stop", "length")
        assert "".join(delta.text for delta in (*deltas, last)).strip()
        assert "<tool" not in "".join(delta.text for delta in deltas)

    async def test_a_prompt_longer_than_the_context_is_refused_and_harms_nothing(self, engine: LanguageModel) -> None:
        with pytest.raises(EngineFailed, match="context"):
            await answer(engine, ask("word " * 9000))
        assert (await answer(engine, FRANCE))[-1].finish_reason == "stop"

    async def test_tokens_are_counted_on_the_safe_side(self, engine: LanguageModel) -> None:
        assert engine.count_tokens("") == 0
        assert engine.count_tokens("The weather is nice today.") >= 5
        assert engine.count_tokens("今天天气很好") >= 3
        assert engine.count_tokens("word " * 200) >= 200

    async def test_the_event_loop_does_next_to_nothing_meanwhile(self, engine: LanguageModel) -> None:
        before = time.thread_time()
        deltas = await answer(engine, STORY, Sampling(max_tokens=40))
        assert (time.thread_time() - before) / len(deltas) < 0.003

    async def test_warming_up_again_changes_nothing(self, engine: LanguageModel) -> None:
        await engine.warm_up()
        assert (await answer(engine, FRANCE))[-1].finish_reason == "stop"


class ReadsAheadContract(LanguageModelContract):
    """The same, and what is owed by an engine that reads ahead."""

    async def test_what_was_read_ahead_changes_no_answer(self, engine: LanguageModel) -> None:
        assert isinstance(engine, ReadsAhead)
        before = await answer(engine, FRANCE)
        for words in ("", "What is", "What is the carpet", "What is the capital of France?"):
            await engine.read_ahead(ask(words))
        await engine.read_ahead(ask("What is the weather in Paris?"), tools=(WEATHER,), sampling=Sampling(50))
        assert await answer(engine, FRANCE) == before

    async def test_reading_ahead_that_is_cancelled_frees_the_engine(self, engine: LanguageModel) -> None:
        assert isinstance(engine, ReadsAhead)
        for moments in range(2 * engine.capabilities.concurrent):
            task = asyncio.create_task(engine.read_ahead(ask("The quick brown fox jumps over the dog. " * 100)))
            for _ in range(moments):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
        assert (await answer(engine, FRANCE))[-1].finish_reason == "stop"

    async def test_too_much_to_read_ahead_is_refused(self, engine: LanguageModel) -> None:
        assert isinstance(engine, ReadsAhead)
        with pytest.raises(EngineFailed, match="context"):
            await engine.read_ahead(ask("word " * 9000))


KNOWS_TOOLS = """
{%- if tools %}<|im_start|>system
Call functions as <tool_call>{"name": ..., "arguments": ...}</tool_call>: {{ tools | tojson }}<|im_end|>
{% endif %}
{%- for message in messages %}<|im_start|>{{ message.role + '\\n' }}{{ message.content or '' }}
{%- for call in message.tool_calls or [] %}
{{- '<tool_call>\\n{"name": "' + call.function.name + '", "arguments": ' + call.function.arguments | tojson }}
{{- '}\\n</tool_call>' }}
{%- endfor %}<|im_end|>
{% endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"""
CALLS = (ToolCall("call_a", "weather", '{"city": "Paris"}'), ToolCall("call_b", "time", "{}"))
_REPLY = "The capital of France is Paris."


class TestFake(ReadsAheadContract):
    @pytest_asyncio.fixture
    async def engine(self) -> FakeLanguageModel:
        return FakeLanguageModel(_REPLY)

    async def test_it_counts(self) -> None:
        fake = FakeLanguageModel(["One two three.", "Four."])
        assert len(await answer(fake, FRANCE)) == 4
        stream = fake.stream(STORY)
        await anext(stream)
        assert fake.active == 1
        await stream.aclose()
        assert (fake.active, fake.closed_early, fake.requests) == (0, 1, [FRANCE, STORY])

    async def test_it_calls_when_told_to(self) -> None:
        fake = FakeLanguageModel("One.", calls=CALLS)
        assert (await answer(fake, FRANCE, tools=(WEATHER, TIME)))[-1].tool_calls == CALLS
        assert not (await answer(fake, FRANCE))[-1].tool_calls

    @pytest.mark.parametrize(("piece_chars", "parts"), [(0, []), (9, ["", '{"city": ', '"Paris"}'])])
    async def test_it_calls_in_pieces_when_told_to(self, piece_chars: int, parts: list[str]) -> None:
        fake = FakeLanguageModel("One.", calls=CALLS)
        fake.piece_chars = piece_chars
        assert check_pieces(await answer(fake, FRANCE, tools=(WEATHER, TIME)))["call_a"] == parts

    async def test_it_fails_when_told_to(self) -> None:
        fake = FakeLanguageModel("One two three.", error=EngineFailed("broken"), error_after=2)
        stream = fake.stream(FRANCE)
        assert [(await anext(stream)).text, (await anext(stream)).text] == ["One", " two"]
        with pytest.raises(EngineFailed, match="broken"):
            await anext(stream)


class TestOpenAICompatible(LanguageModelContract):
    @pytest_asyncio.fixture
    async def engine(self) -> AsyncIterator[OpenAICompatible]:
        async with OpenAIServer(FakeLanguageModel(_REPLY)).running() as server:
            engine = OpenAICompatible(server.base_url)
            await engine.warm_up()
            yield engine
            await engine.aclose()
            await engine.aclose()

    async def test_parallel_calls_come_whole_and_in_order(self) -> None:
        async with OpenAIServer(FakeLanguageModel("One moment.", calls=CALLS)).running() as server:
            engine = OpenAICompatible(server.base_url)
            *deltas, last = await answer(engine, FRANCE, tools=(WEATHER, TIME))
            assert "".join(delta.text for delta in deltas) == "One moment."
            assert (last.tool_calls, last.finish_reason) == (CALLS, "tool_calls")
            told = check_pieces([*deltas, last])
            assert ["".join(told[call.id]) for call in CALLS] == [call.arguments for call in CALLS]
            assert len(told["call_a"]) == 1 + len(CALLS[0].arguments)
            await engine.aclose()


@pytest.mark.weights
class TestLlamaCpp(ReadsAheadContract):
    @pytest.fixture
    def weights(self, models_dir: Path) -> Path:
        return models_dir / "smollm2-135m-instruct" / "SmolLM2-135M-Instruct.Q4_1.gguf"

    @pytest_asyncio.fixture
    async def engine(self, weights: Path) -> AsyncIterator[LlamaCpp]:
        engine = LlamaCpp(weights, context_tokens=2048, slots=2)
        await engine.warm_up()
        yield engine
        await engine.aclose()
        await engine.aclose()

    async def test_it_tells_what_an_answer_took(self, engine: LlamaCpp) -> None:
        for _ in range(2):  # the second time most of the prompt is read already
            last = (await answer(engine, STORY, Sampling(max_tokens=3)))[-1]
            assert last.spent is not None
            assert last.spent.completion == 3
            assert last.spent.prompt > len(STORY[1].content.split())

    async def test_an_answer_that_fits_a_schema(self, engine: LlamaCpp) -> None:
        assert engine.capabilities.writes_json
        schema = {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}, "people": {"type": "integer"}},
            "required": ["city", "people"],
        }
        deltas = await answer(engine, FRANCE, Sampling(max_tokens=100, schema=schema))
        told = json.loads("".join(delta.text for delta in deltas))
        assert told["city"] in ("Paris", "Rome")
        assert isinstance(told["people"], int)
        deltas = await answer(engine, ask("Answer in JSON."), Sampling(max_tokens=200, schema={}))
        assert "".join(delta.text for delta in deltas).lstrip().startswith("{")
        with pytest.raises(UnusableSchema):
            await answer(engine, FRANCE, Sampling(schema={"type": "nothing"}))
        called = await answer(engine, FRANCE, Sampling(tool_choice="time", schema=schema), tools=[TIME])
        assert [call.name for call in called[-1].tool_calls] == ["time"]

    async def test_no_port_is_opened_and_no_socket_left(self, engine: LlamaCpp) -> None:
        connections = psutil.Process().net_connections("all")
        assert not [c for c in connections if c.status == psutil.CONN_LISTEN]
        assert not _existing([c.laddr for c in connections if str(c.laddr).endswith("llama.sock")])

    async def test_a_template_that_knows_no_tools_is_told_of_them_all_the_same(self, engine: LlamaCpp) -> None:
        """SmolLM2's passes over them."""
        sampling = Sampling(60, tool_choice="weather")
        last = (await answer(engine, ask("What is the weather in Paris?"), sampling, (WEATHER, TIME)))[-1]
        assert json.loads(last.tool_calls[0].arguments) == {"city": "Paris"}

    async def test_a_template_that_knows_tools_has_calls_in_pieces(
        self, weights: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """SmolLM2 with the template of a model that calls, and with examples of how."""

        def with_template() -> Any:
            params = made()
            params.chat_template = KNOWS_TOOLS
            return params

        made = xllamacpp.CommonParams
        monkeypatch.setattr(xllamacpp, "CommonParams", with_template)
        engine = LlamaCpp(weights, context_tokens=2048, slots=1)
        examples: list[Message] = []
        for city in ("Rome", "Oslo", "Madrid"):
            call = ToolCall("call_1", "weather", json.dumps({"city": city}))
            examples += [Message("user", f"What is the weather in {city}?"), Message("assistant", "", (call,))]
        try:
            deltas = await answer(engine, [*examples, ask("What is the weather in Paris?")[1]], tools=(WEATHER, TIME))
        finally:
            await engine.aclose()
        (parts,) = check_pieces(deltas).values()
        assert len(parts) > 3
        assert json.loads("".join(parts)) == {"city": "Paris"}

    async def test_what_was_read_ahead_is_not_read_again(self, engine: LlamaCpp) -> None:
        fox = "The quick brown fox jumps over the lazy dog. " * 30
        await engine.read_ahead(ask(fox))
        total, known = await self.known(engine, ask(fox + "And then?"))
        assert total > 300
        assert total - known < 20

    async def known(self, engine: LlamaCpp, messages: Sequence[Message]) -> tuple[int, int]:
        """Tokens of a prompt, and how many of them some slot has read already."""
        body, _ = engine._asked(messages, (), Sampling(max_tokens=1))
        running, ended = await engine._begin(body)
        chunk = await running.chunks.get()
        await ended
        assert chunk is not None
        return chunk["prompt_progress"]["total"], chunk["prompt_progress"]["cache"]

    async def test_a_long_prompt_is_dropped_while_it_is_read(
        self, engine: LlamaCpp, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reading = asyncio.Event()

        def checked(chunk: dict[str, Any] | None, reader: ChunkReader) -> dict[str, Any]:
            reading.set()
            return LlamaCpp._checked(engine, chunk, reader)

        monkeypatch.setattr(engine, "_checked", checked)
        long = ask("A quick brown fox jumped over the lazy cat. " * 150)
        tasks = [asyncio.create_task(answer(engine, long)) for _ in range(engine.capabilities.concurrent)]
        await reading.wait()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        total, known = await self.known(engine, long)
        assert total > 1000
        assert 0 < known < total / 2

    async def test_an_answer_beyond_the_slots_waits_and_can_be_cancelled_there(self, engine: LlamaCpp) -> None:
        running = [engine.stream(STORY) for _ in range(engine.capabilities.concurrent)]
        for stream in running:
            await anext(stream)
        waiting = asyncio.create_task(answer(engine, FRANCE))
        cancelled = asyncio.create_task(answer(engine, FRANCE))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert not waiting.done()
        await running[0].aclose()
        assert (await waiting)[-1].finish_reason == "stop"
        await running[1].aclose()

    async def test_nothing_is_left_behind_and_nothing_printed(
        self, weights: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        before = set(threading.enumerate())
        engine = LlamaCpp(weights, context_tokens=512, slots=1)
        await answer(engine, FRANCE)
        await engine.aclose()
        left = [thread.name for thread in set(threading.enumerate()) - before]
        assert not [name for name in left if not name.startswith("asyncio")]
        assert capfd.readouterr() == ("", "")

    async def test_a_file_that_is_no_model_is_refused_with_advice(self, tmp_path: Path) -> None:
        (tmp_path / "broken.gguf").write_bytes(b"GGUF not really")
        for name in ("broken.gguf", "missing.gguf"):
            engine = LlamaCpp(tmp_path / name)
            with pytest.raises(EngineFailed, match="Fetch it again"):
                await engine.warm_up()
            await engine.aclose()

    async def test_closing_before_warming_up_is_safe(self, weights: Path) -> None:
        await LlamaCpp(weights).aclose()


def _existing(paths: Sequence[object]) -> list[object]:
    return [path for path in paths if Path(str(path)).exists()]
