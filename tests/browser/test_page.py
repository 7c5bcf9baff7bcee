"""The page against a scripted server: connections that break, problems in plain words, and how it looks."""

import pytest
from playwright.async_api import Browser, Page, expect

from avatar.core.errors import AvatarError
from tests.browser.scripted_server import Connection, ScriptedServer
from tests.browser.steps import reply, status, until

pytestmark = pytest.mark.browser


async def below(page: Page, *, at_least_px: float = 0, at_most_px: float = 1e9) -> bool:
    """Whether that much of the conversation lies below what is in sight."""
    rest = "(box => box.scrollHeight - box.scrollTop - box.clientHeight)(document.querySelector('main'))"
    return at_least_px <= float(await page.evaluate(rest)) <= at_most_px


class TestConnection:
    async def test_it_comes_back_to_the_same_conversation(
        self, page: Page, server: ScriptedServer, talk: Connection
    ) -> None:
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await reply(talk, "t1", "Hi there.", 0.2)
        await expect(page.locator(".reply")).to_contain_text("Hi there.")
        await talk.close()
        await status(page, "Connection lost. Trying again…")
        again = await server.session()
        assert again.messages[0]["resume_token"] == "r1"
        await status(page, "Listening")
        await until(lambda: again.frames)
        await expect(page.locator(".reply")).to_contain_text("Hi there.")

    async def test_a_deleted_conversation_is_followed_by_a_new_one(
        self, page: Page, server: ScriptedServer, talk: Connection
    ) -> None:
        await talk.close()
        again = await server.next_connection()
        assert (await again.expect("session.start"))["resume_token"] == "r1"
        await again.say("error", code="NOT_FOUND", message="There is no such conversation.", fatal=False)
        fresh = await server.session(conversation_id="c2")
        assert fresh.messages[0]["resume_token"] is None
        await status(page, "Listening")

    async def test_a_full_server_is_explained_and_asked_again(self, page: Page, server: ScriptedServer) -> None:
        await page.get_by_role("button", name="Start talking").click()
        first = await server.next_connection()
        await first.say("error", code="SERVER_FULL", message="All 5 slots are taken.", fatal=True)
        await first.close(1013)
        await expect(page.get_by_role("alert")).to_contain_text("All seats are taken.")
        await expect(page.get_by_role("alert")).to_contain_text("All 5 slots are taken.")
        await server.session()
        await expect(page.get_by_role("alert")).to_have_count(0)

    async def test_end_closes_everything_and_start_goes_on(
        self, page: Page, server: ScriptedServer, talk: Connection
    ) -> None:
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await talk.done("t1", "completed")
        await expect(page.get_by_text("Hello")).to_be_visible()
        await page.get_by_role("button", name="End", exact=True).click()
        await until(lambda: talk.socket.closed)
        await page.get_by_role("button", name="Go on talking").click()
        assert (await server.session()).messages[0]["resume_token"] == "r1"

    async def test_new_conversation_forgets_the_old_one(
        self, page: Page, server: ScriptedServer, talk: Connection
    ) -> None:
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await page.get_by_role("button", name="New conversation").click()
        assert (await server.session()).messages[0]["resume_token"] is None
        await expect(page.locator(".turn")).to_have_count(0)


def wire_codes(root: type[AvatarError] = AvatarError) -> set[str]:
    return {root.code}.union(*(wire_codes(child) for child in root.__subclasses__())) - {"SETUP"}


class TestProblems:
    @pytest.mark.parametrize("locale", ["en-GB", "zh-CN"])
    async def test_each_error_code_is_put_into_words(
        self, browser: Browser, server: ScriptedServer, locale: str
    ) -> None:
        page = await browser.new_page(locale=locale)
        await page.goto(server.url)
        await page.locator(".welcome .wide").click()
        talk = await server.session()
        alert = page.get_by_role("alert")
        texts = {}
        for code in sorted({*wire_codes(), "FROM_THE_FUTURE"}):
            await talk.say("error", code=code, message="Because.", fatal=False)
            await expect(alert).to_have_attribute("data-code", code)
            await expect(alert).to_contain_text("Because.")
            texts[code] = await alert.inner_text()
        assert len(set(texts.values())) == len(texts), "each has its own words"
        for text in texts.values():
            assert any("\u4e00" <= letter <= "\u9fff" for letter in text) == (locale == "zh-CN")

    async def test_error_of_a_turn_stands_in_its_turn(self, page: Page, talk: Connection) -> None:
        await talk.say("transcript", turn_id="t1", text="Hello", is_final=True)
        await talk.say("error", code="ENGINE_TIMEOUT", message="No token in 20 s.", fatal=False, turn_id="t1")
        await talk.done("t1", "failed")
        await expect(page.locator("[data-turn=t1] .problem")).to_contain_text("The answer took too long.")
        await status(page, "Listening")

    @pytest.mark.parametrize(
        ("name", "words"), [("NotAllowedError", "Allow it beside the address bar"), ("NotFoundError", "No microphone")]
    )
    async def test_without_a_microphone_one_can_still_type(
        self, browser: Browser, server: ScriptedServer, name: str, words: str
    ) -> None:
        page = await browser.new_page(locale="en-GB")
        await page.add_init_script(
            f"navigator.mediaDevices.getUserMedia = () => Promise.reject(new DOMException('no', '{name}'))"
        )
        await page.goto(server.url)
        await page.get_by_role("button", name="Start talking").click()
        talk = await server.session()
        await expect(page.get_by_role("alert")).to_contain_text(words)
        await page.get_by_role("textbox").fill("Hello")
        await page.keyboard.press("Enter")
        await talk.expect("text")


class TestAppearance:
    async def test_language_and_colours_follow_the_browser_until_chosen(
        self, browser: Browser, server: ScriptedServer
    ) -> None:
        context = await browser.new_context(locale="zh-CN", color_scheme="dark")
        page = await context.new_page()
        await page.goto(server.url)
        background = "getComputedStyle(document.body).backgroundColor"
        dark = await page.evaluate(background)
        await expect(page.get_by_role("button", name="开始对话")).to_be_visible()
        await page.get_by_role("button", name="浅色").click()
        assert await page.evaluate(background) != dark
        await page.get_by_role("button", name="English").click()
        await expect(page.get_by_role("button", name="Start talking")).to_be_visible()
        light = await page.evaluate(background)
        await page.reload()
        await expect(page.get_by_role("button", name="Start talking")).to_be_visible()
        assert await page.evaluate(background) == light
        assert await page.locator("html").get_attribute("lang") == "en"
        await context.close()

    async def test_the_newest_words_stay_in_sight_until_one_scrolls_up(self, page: Page, talk: Connection) -> None:
        await page.set_viewport_size({"width": 390, "height": 700})
        for turn in range(4):
            await talk.say("transcript", turn_id=f"t{turn}", text=f"Question {turn}", is_final=True)
            await talk.say("reply.text", turn_id=f"t{turn}", delta="long " * 120 + f"end {turn}", is_final=False)
        await talk.say("error", code="RATE_LIMITED", message="", fatal=False)
        await expect(page.get_by_role("alert")).to_be_visible()
        await until(lambda: below(page, at_most_px=2))
        await page.locator("main").hover()
        await page.mouse.wheel(0, -600)
        await until(lambda: below(page, at_least_px=500))
        await talk.say("reply.text", turn_id="t3", delta="more " * 100, is_final=False)
        await expect(page.locator(".reply").last).to_contain_text("more")
        assert await below(page, at_least_px=500)

    @pytest.mark.parametrize("width", [320, 390, 1400])
    async def test_nothing_sticks_out(self, page: Page, talk: Connection, width: int) -> None:
        await page.set_viewport_size({"width": width, "height": 700})
        await talk.say("transcript", turn_id="t1", text="Donaudampfschifffahrtsgesellschaft" * 3, is_final=True)
        await talk.say("reply.text", turn_id="t1", delta="long " * 200, is_final=False)
        await expect(page.locator(".reply")).to_be_visible()
        await status(page, "Thinking")
        for language in ("中文", "English"):
            await page.get_by_role("button", name=language).click()
            assert await page.evaluate("document.documentElement.scrollWidth") == width
        await expect(page.get_by_role("button", name="End", exact=True)).to_be_in_viewport(ratio=1)
        await expect(page.get_by_role("button", name="Stop")).to_be_in_viewport(ratio=1)
