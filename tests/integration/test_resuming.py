"""Coming back to a conversation with its token, at any moment of it."""

from pathlib import Path

from tests.integration.serving import fake_engines, serving, settings_for


async def test_a_connection_lost_before_the_first_turn_can_be_resumed(tmp_path: Path) -> None:
    async with serving(fake_engines(), settings_for(tmp_path)) as server:
        async with server.client() as client:
            ready = await client.start()
        async with server.client() as client:
            await client.send("session.start", resume_token=ready["resume_token"])
            again = await client.until("session.ready", 3)
            assert again["conversation_id"] == ready["conversation_id"]
            await client.send("text", text="hello")
            assert (await client.until("reply.done"))["status"] == "completed"
        status, saved = await server.get(f"/api/conversations/{ready['conversation_id']}")
    assert (status, len(saved["turns"])) == (200, 1)


async def test_both_ends_of_a_connection_that_was_thought_lost_may_save(tmp_path: Path) -> None:
    async with (
        serving(fake_engines(), settings_for(tmp_path)) as server,
        server.client() as old,
        server.client() as new,
    ):
        ready = await old.start()
        await new.send("session.start", resume_token=ready["resume_token"])
        await new.until("session.ready", 3)
        for client in (old, new):
            await client.send("text", text="hello")
            await client.until("reply.done")
            assert not [message for message in client.messages if message["type"] == "error"]
        _, saved = await server.get(f"/api/conversations/{ready['conversation_id']}")
    assert len(saved["turns"]) == 2
