"""Sessions that ask for `quality` high, on a real server: espeak-ng is the better voice beside one that hums."""

from pathlib import Path

from tests.integration.serving import fake_engines, serving, settings_for


async def test_high_quality_is_spoken_by_the_other_engine(tmp_path: Path) -> None:
    settings = settings_for(tmp_path, tts={"high_engine": "espeak-ng"})
    async with serving(fake_engines(), settings) as server:
        for quality, rate_hz, name in (
            ("high", 22_050, "espeak-ng (en-us)"),
            ("fast", 24_000, "fake text to speech"),
            ("high", 22_050, "espeak-ng (en-us)"),
        ):
            async with server.client() as client:
                ready = await client.start(quality=quality)
                assert ready["output"]["sample_rate"] == rate_hz
                assert ready["engines"]["tts"] == name
                await client.send("text", text="Hello?")
                assert (await client.until("reply.done"))["status"] == "completed"
            assert client.pcm.size
            assert not [message for message in client.messages if message["type"] == "error"]


async def test_a_better_voice_that_cannot_be_had_is_told_after_the_session_is_ready(tmp_path: Path) -> None:
    for tts in ({"high_engine": "kokoro"}, {}):
        async with serving(fake_engines(), settings_for(tmp_path, tts=tts)) as server, server.client() as client:
            ready = await client.start(quality="high")
            told = await client.until("error")
            assert (told["code"], told["fatal"]) == ("QUALITY_FALLBACK", False)
            assert ("kokoro" if tts else "tts.high_engine") in told["message"]
            assert ready["output"]["sample_rate"] == 24_000
            assert client.messages[0]["type"] == "session.ready"
            await client.send("text", text="Hello?")
            assert (await client.until("reply.done"))["status"] == "completed"
