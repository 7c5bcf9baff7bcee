"""Tools on the page: what is called is shown, the user is asked, and what came of it can be read."""

import pytest
from playwright.async_api import Page, expect

from tests.browser.scripted_server import Connection

pytestmark = pytest.mark.browser

SEND = '{"to": "ann"}'


async def call(talk: Connection, call_id: str, name: str, *, asks: bool = False) -> None:
    fields = {"server": "mail", "name": name, "arguments": SEND, "needs_approval": asks}
    await talk.say("tool.call", turn_id="t1", call_id=call_id, **fields)


async def test_a_call_is_shown_asked_for_and_its_result_unfolds(page: Page, talk: Connection) -> None:
    await talk.say("transcript", turn_id="t1", text="Write to Ann.", is_final=True)
    await call(talk, "a", "search")
    await call(talk, "b", "send", asks=True)
    search, send = page.locator('[data-call="a"]'), page.locator('[data-call="b"]')
    await expect(search).to_contain_text("mail · search")
    await expect(search).to_contain_text("Running…")
    await expect(search.get_by_role("button")).to_have_count(0)
    await expect(send).to_contain_text("May this be done?")
    await expect(send.locator("code")).to_have_text(SEND)
    await expect(page.get_by_role("status")).to_have_text("Thinking")

    await send.get_by_role("button", name="Allow").click()
    assert await talk.expect("tool.approve") == {"type": "tool.approve", "call_id": "b", "approve": True}
    await expect(send).to_contain_text("Running…")
    await expect(send.get_by_role("button")).to_have_count(0)

    await talk.say("tool.result", turn_id="t1", call_id="b", text="Sent to <b>Ann</b>.", is_error=False)
    await talk.say("tool.result", turn_id="t1", call_id="a", text="Not found.", is_error=True)
    await expect(send).to_contain_text("Done")
    await expect(search).to_contain_text("Failed")
    result = send.locator(".result")
    await expect(result).to_be_hidden()
    await send.locator("summary").click()
    await expect(result).to_have_text("Sent to <b>Ann</b>.")
    await page.get_by_role("button", name="中文").click()
    await expect(send).to_contain_text("已完成")


async def test_refusing_and_stopping(page: Page, talk: Connection) -> None:
    await talk.say("transcript", turn_id="t1", text="Write to Ann.", is_final=True)
    await call(talk, "a", "send", asks=True)
    await page.locator('[data-call="a"]').get_by_role("button", name="Refuse").click()
    assert (await talk.expect("tool.approve"))["approve"] is False
    await page.keyboard.press("Escape")
    await talk.expect("interrupt")
