"""The console in headless Chromium, in front of a real router and emulated clouds."""

import asyncio
import json
import os
import re
import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

import aiohttp
import pytest
from click.testing import CliRunner
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement
from selenium.webdriver.support.ui import WebDriverWait

from router.cli.top import top
from tests.router_kit import API_KEY, INTERNAL_KEY, Cloud, RunningRouter, held, router

CANARY: Final = "<script>document.title='owned'</script><img src=x onerror=\"document.title='owned'\">"
AZURE: Final = "azure-east/gpt-4o-dep"
CHAT: Final = {"model": "gpt-4o", "messages": [{"role": "user", "content": "hi"}]}
WITHIN_S: Final = 8
TABLE: Final = 'table[aria-label="{}"]'
LIMITS: Final = TABLE.format("Limits")


@pytest.fixture(scope="module")
def browser() -> Iterator[webdriver.Chrome]:
    """One for all tests. Without Chromium they are skipped; in CI that is a failure."""
    programs = [shutil.which("chromium"), shutil.which("chromedriver")]
    if None in programs:
        if os.environ.get("CI"):
            pytest.fail("there is no Chromium with its driver, and in CI these tests must run")
        pytest.skip("there is no Chromium with its driver")
    options = Options()
    options.binary_location = str(programs[0])
    # As root it has no sandbox; its own services would ask other hosts, which the test is to see of the page alone.
    for argument in ("headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "hide-scrollbars"):
        options.add_argument(f"--{argument}")
    for argument in ("disable-background-networking", "disable-component-update", "no-first-run"):
        options.add_argument(f"--{argument}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=Service(programs[1]))
    yield driver
    driver.quit()


class Page:
    """The console in the browser. Its methods block, so a test runs them in a thread: see `seen`."""

    def __init__(self, driver: webdriver.Chrome, url: str) -> None:
        self.driver, self.url = driver, url

    def open(self, width: int = 1280, height: int = 900, scheme: str = "light", path: str = "/console") -> None:
        self.driver.get("about:blank")
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        media = {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", media)
        self.driver.get(self.url + path)

    def find(self, selector: str) -> WebElement:
        """The first such element, once it is there."""
        return self.until(lambda: next(iter(self.driver.find_elements(By.CSS_SELECTOR, selector)), None), selector)

    def text(self, selector: str = "body") -> str:
        return self.find(selector).get_attribute("innerText") or ""

    def until(self, condition: Callable[[], Any], what: str = "") -> Any:
        return WebDriverWait(self.driver, WITHIN_S, 0.05).until(lambda _: condition(), what)

    def until_text(self, wanted: str, selector: str = "body") -> None:
        self.until(
            lambda: wanted in self.script("return document.querySelector(arguments[0])?.innerText", selector), wanted
        )

    def script(self, code: str, *arguments: object) -> Any:
        return self.driver.execute_script(code, *arguments) or ""

    def press(self, *keys: str) -> None:
        for key in keys:
            self.driver.switch_to.active_element.send_keys(key)

    def tab_to(self, selector: str) -> None:
        """Goes on with the tabulator until this has the focus, as a person without a mouse does."""
        for _ in range(60):
            self.press(Keys.TAB)
            if self.script("return document.activeElement.matches(arguments[0])", selector):
                return
        raise AssertionError(f"the focus never comes to {selector}")

    def hosts_asked(self) -> set[str]:
        """Of all that the browser has sent since the page was opened."""
        messages = [json.loads(line["message"])["message"] for line in self.driver.get_log("performance")]
        urls = [each["params"]["request"]["url"] for each in messages if each["method"] == "Network.requestWillBeSent"]
        return {urlsplit(url).netloc for url in urls}

    def errors(self) -> list[str]:
        return [line["message"] for line in self.driver.get_log("browser") if line["level"] == "SEVERE"]


class Site:
    """A router with a holder and another cloud, and a way to send it requests."""

    def __init__(self, r: RunningRouter, session: aiohttp.ClientSession, page: Page) -> None:
        self.r, self._session, self.page = r, session, page

    async def ask(self, key: str = INTERNAL_KEY, **headers: str) -> str:
        """Sends a request to its end and returns the router's id for it."""
        headers = {"Authorization": f"Bearer {key}", **{name.replace("_", "-"): text for name, text in headers.items()}}
        async with self._session.post(f"{self.r.url}/v1/chat/completions", json=CHAT, headers=headers) as answer:
            await answer.read()
            return answer.headers["x-request-id"]

    async def seen(self, steps: Callable[[Page], Any]) -> Any:
        """What a person does; the router goes on meanwhile."""
        return await asyncio.to_thread(steps, self.page)


@asynccontextmanager
async def site(browser: webdriver.Chrome, **config: Any) -> AsyncIterator[Site]:
    clouds = Cloud("azure-east"), Cloud("cw", "coreweave", "openai")
    async with router(*clouds, workloads=held("coreweave"), **config) as r, aiohttp.ClientSession() as session:
        yield Site(r, session, Page(browser, r.admin_url))
        await asyncio.to_thread(browser.get, "about:blank")  # it asks no more


async def test_the_page_shows_what_happens_and_asks_nobody_else(browser: webdriver.Chrome) -> None:
    async with site(browser) as s:
        s.r.clouds["azure-east"].faults.add("status", status=429, retry_after=60)

        def look(page: Page) -> None:
            page.open()
            page.until_text("live", ".status")
            page.until_text("unknown", TABLE.format("Deployments"))

        await s.seen(look)
        sent = [await s.ask() for _ in range(4)]

        def see(page: Page) -> None:
            page.until_text(sent[-1], TABLE.format("Recent decisions"))
            page.until_text("throttled", TABLE.format("Deployments"))
            page.until(
                lambda: re.search(
                    r"internal azure throttled .* 4$",
                    " ".join(page.text(TABLE.format("Refusals by reason")).split()),
                )
            )
            assert "left the holder" in page.text(TABLE.format("Recent decisions"))
            assert "coreweave" in page.script("return document.querySelector('svg.flow').textContent")
            assert re.search(r"placement violations\s+0", page.text(".proof"))
            page.until(lambda: not page.text(".figures").split()[1].startswith(("0", "–")), "a rate")
            assert page.errors() == []
            assert page.hosts_asked() == {urlsplit(page.url).netloc}

        await s.seen(see)


_BEYOND_THEIR_LANES: Final = """
const right = (element) => element.getBoundingClientRect().right;
return [...document.querySelectorAll(".timeline .span")].map((span) => right(span) - right(span.parentElement));
"""


async def test_a_story_is_found_by_either_id_and_shows_the_refusals(browser: webdriver.Chrome) -> None:
    async with site(browser) as s:
        s.r.clouds["azure-east"].faults.add("status", status=500)
        name = await s.ask(x_request_id="their/own id".replace(" ", "-"))

        def look(page: Page) -> None:
            page.open()
            page.find("#find").send_keys("their/own-id", Keys.ENTER)
            page.until_text("Decision log", "dialog")
            text = page.text("dialog")
            assert name in text
            assert f"azure {AZURE} failed" in " ".join(text.split())
            assert "coreweave: cw/gpt-4o-dep" in text
            assert "left the holder for" in text
            assert len(page.driver.find_elements(By.CSS_SELECTOR, ".timeline .span.failed")) == 1
            lanes = page.script(_BEYOND_THEIR_LANES)
            assert max(lanes) <= 3.0
            page.press(Keys.ESCAPE)
            page.until(lambda: not page.driver.find_elements(By.CSS_SELECTOR, "dialog"))
            assert page.script("return document.activeElement.id") == "find"

        await s.seen(look)

        def link(page: Page) -> None:
            page.open(path=f"/console#request={name}")
            page.until_text("their/own-id", "dialog")
            page.open(path="/console#request=req_nobody")
            page.until_text("No request with this id", "dialog [role=alert]")

        await s.seen(link)


async def test_a_deployment_is_drained_and_taken_back_by_keyboard_alone(browser: webdriver.Chrome) -> None:
    async with site(browser) as s:
        backend = s.r.backend("azure-east")

        def ask(page: Page) -> None:
            page.open()
            page.tab_to(f'[data-deployment="{AZURE}"]')
            outline = page.script("return getComputedStyle(document.activeElement).outlineWidth")
            assert outline == "2px"
            page.press(Keys.ENTER)
            page.until_text("nothing else can serve it now", "dialog")
            assert "internal, gpt-4o: 1 other deployment" in page.text("dialog")
            page.press(Keys.ENTER)  # on Cancel, which is first
            page.until(lambda: not page.driver.find_elements(By.CSS_SELECTOR, "dialog"))

        await s.seen(ask)
        assert not backend.draining

        def drain(page: Page) -> None:
            page.press(Keys.ENTER)  # the focus is back where it was
            page.find("dialog")
            page.tab_to("dialog .primary")
            page.press(Keys.ENTER)
            page.until_text("draining", TABLE.format("Deployments"))
            assert f"{AZURE} is draining." in page.text(".unseen") or "is now draining" in page.text(".unseen")

        await s.seen(drain)
        assert backend.draining

        def undrain(page: Page) -> None:
            page.until_text("Undrain", f'[data-deployment="{AZURE}"]')
            page.press(Keys.ENTER)
            page.tab_to("dialog .primary")
            page.press(Keys.ENTER)
            page.until(lambda: page.text(f'[data-deployment="{AZURE}"]') == "Drain")

        await s.seen(undrain)
        assert not backend.draining


# The ratio of the Web Content Accessibility Guidelines between a text and what is behind it, of every visible text.
_CONTRASTS: Final = """
const canvas = new OffscreenCanvas(1, 1).getContext("2d", { willReadFrequently: true });
const rgba = (color) => {
  canvas.clearRect(0, 0, 1, 1);
  canvas.fillStyle = color;
  canvas.fillRect(0, 0, 1, 1);
  return [...canvas.getImageData(0, 0, 1, 1).data];
};
const channel = (value) => (value <= 0.04045 * 255 ? value / 255 / 12.92 : ((value / 255 + 0.055) / 1.055) ** 2.4);
const light = (color) => {
  const [r, g, b] = rgba(color).map(channel);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const behind = (element) => {
  const color = getComputedStyle(element).backgroundColor;
  return rgba(color)[3] === 255 ? color : behind(element.parentElement);
};
const found = [];
const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
while (walker.nextNode()) {
  const text = walker.currentNode.data.trim();
  const element = walker.currentNode.parentElement;
  if (!text || !element.getClientRects().length || element.closest(".unseen, option, title")) continue;
  const style = getComputedStyle(element);
  const pair = [light(element.closest("svg") ? style.fill : style.color), light(behind(element))];
  found.push([(Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05), text]);
}
return found;
"""
_BACKGROUND: Final = "return getComputedStyle(document.body).backgroundColor"
_CHOOSE: Final = """
const choice = document.querySelector(".theme select");
choice.value = arguments[0];
choice.dispatchEvent(new Event("change", { bubbles: true }));
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_every_text_stands_out_from_what_is_behind_it(browser: webdriver.Chrome, scheme: str) -> None:
    async with site(browser) as s:
        s.r.clouds["azure-east"].faults.add("status", status=429, retry_after=60)
        await s.r.worker.set_drain("cw/gpt-4o-dep", True)
        for key in (INTERNAL_KEY, API_KEY, "sk-nobody"):
            await s.ask(key)

        def look(page: Page) -> None:
            page.open(scheme=scheme)
            page.until_text("no valid key")
            contrasts = page.script(_CONTRASTS)
            assert len(contrasts) > 60
            assert [pair for pair in contrasts if pair[0] < 4.5] == []
            background = page.script(_BACKGROUND)
            assert (sum(map(int, re.findall(r"\d+", background)[:3])) < 200) == (scheme == "dark")
            page.script(_CHOOSE, "light" if scheme == "dark" else "dark")
            page.until(lambda: page.script(_BACKGROUND) != background)
            page.script("localStorage.clear()")

        await s.seen(look)


_WIDTHS: Final = """
return [document.documentElement.scrollWidth, document.querySelector("dialog")?.scrollWidth ?? 0, innerWidth];
"""


async def test_a_phone_needs_no_sideways_scroll(browser: webdriver.Chrome) -> None:
    async with site(browser, aliases={"g" * 60: "gpt-4o"}) as s:
        name = await s.ask(x_request_id="c" * 128)

        def look(page: Page) -> None:
            page.open(width=360, height=740)
            page.until_text(name)
            assert page.script(_WIDTHS) == [360, 0, 360]
            page.script("document.querySelector('button.link').click()")
            page.until_text("Decision log", "dialog")
            whole, dialog, _ = page.script(_WIDTHS)
            assert whole == 360
            assert dialog <= 336

        await s.seen(look)


async def test_limits_that_refuse_and_the_ledger_are_shown(browser: webdriver.Chrome, tmp_path: Path) -> None:
    """As wide as a screen, and as narrow as a phone."""
    limited = {"models": {"gpt-4o": {"limits": {"rpm": 10}}}, "ledger": {"dir": str(tmp_path / "ledger")}}
    async with site(browser, **limited) as s:
        for _ in range(4):
            await s.ask()

        def look(page: Page) -> None:
            page.open()
            page.until(lambda: re.search(r"gpt-4o model, rpm \d+ % [\d.]+ 3 0$", " ".join(page.text(LIMITS).split())))
            page.until(lambda: re.search(r"ledger\s+up", page.text(".proof")), "a ledger that is up")
            page.until(lambda: re.search(r"cost today\s+\$0\.", page.text(".figures")), "a cost")
            assert page.script(_CONTRASTS)
            assert [pair for pair in page.script(_CONTRASTS) if pair[0] < 4.5] == []
            page.open(width=360, height=740)
            page.until_text("gpt-4o", LIMITS)
            assert page.script(_WIDTHS) == [360, 0, 360]
            assert page.errors() == []

        await s.seen(look)


async def test_what_names_hold_is_text(browser: webdriver.Chrome) -> None:
    """A client's own id, and names, although the configuration would refuse such a name."""
    async with site(browser) as s:
        name = await s.ask(x_request_id=CANARY.replace(" ", "/"))
        live = s.r.worker.live

        async def named() -> dict[str, object]:
            text = json.dumps(await live()).replace(json.dumps(AZURE)[1:-1], json.dumps(CANARY)[1:-1])
            picture: dict[str, object] = json.loads(text)
            return picture

        s.r.worker.live = named  # type: ignore[method-assign]

        def look(page: Page) -> None:
            page.open()
            page.until_text(CANARY, TABLE.format("Deployments"))
            page.script("document.querySelector('[data-deployment]').click()")
            page.until_text(CANARY, "dialog")
            page.press(Keys.ESCAPE)
            page.open(path=f"/console#request={name}")
            page.until_text(CANARY.replace(" ", "/"), "dialog")
            assert page.driver.title == "Inference router"
            assert page.driver.find_elements(By.CSS_SELECTOR, "img, #root script") == []
            assert page.errors() == []

        await s.seen(look)


async def test_a_token_is_asked_for_once_and_kept_by_the_tab(browser: webdriver.Chrome) -> None:
    async with site(browser, server={"admin_token": "s3cret"}) as s:
        name = await s.ask()

        def look(page: Page) -> None:
            page.open()
            page.find("#token").send_keys("wrong", Keys.ENTER)
            page.until_text("does not accept this token", "[role=alert]")
            field = page.find("#token")
            field.clear()
            field.send_keys("s3cret", Keys.ENTER)
            page.until_text(name)
            page.driver.refresh()
            page.until_text(name)
            assert page.script("return document.cookie") == ""
            page.script("sessionStorage.clear()")

        await s.seen(look)


async def test_a_router_that_is_gone_is_told_of_and_what_was_known_stays(browser: webdriver.Chrome) -> None:
    async with site(browser) as s:
        name = await s.ask()

        def look(page: Page) -> None:
            page.open()
            page.until_text(name)

        await s.seen(look)
        admin = s.r.worker._admin
        assert admin is not None
        await admin.close()

        def look_again(page: Page) -> None:
            page.until_text("The router does not answer. Shown is what was known at", ".status")
            assert name in page.text()

        await s.seen(look_again)


_HIDE: Final = """
const hidden = arguments[0];
Object.defineProperty(document, "hidden", { configurable: true, get: () => hidden });
document.dispatchEvent(new Event("visibilitychange"));
"""


async def test_nobody_looks_while_the_page_is_hidden(browser: webdriver.Chrome) -> None:
    """The browser says so when its tab is behind another; here it is told to."""
    async with site(browser) as s:
        looks = 0
        picture = s.r.worker._live.picture

        def count(*arguments: Any) -> dict[str, object]:
            nonlocal looks
            looks += 1
            return picture(*arguments)

        s.r.worker._live.picture = count  # type: ignore[method-assign]
        await s.seen(lambda page: (page.open(), page.until(lambda: looks > 1)))
        await s.seen(lambda page: page.script(_HIDE, True))
        await asyncio.sleep(0.3)  # one look may be on its way
        before = looks
        await asyncio.sleep(1.5)
        assert looks == before
        await s.seen(lambda page: (page.script(_HIDE, False), page.until(lambda: looks > before)))


async def test_the_same_picture_in_a_terminal() -> None:
    async with router(Cloud("azure-east"), Cloud("cw", "coreweave", "openai"), workloads=held("coreweave")) as r:
        r.clouds["azure-east"].faults.add("status", status=429, retry_after=60)
        async with aiohttp.ClientSession() as session:
            name = await Site(r, session, Page(None, r.admin_url)).ask()  # type: ignore[arg-type]
        result = await asyncio.to_thread(CliRunner().invoke, top, ["--once", "--admin", r.admin_url])
        assert result.exit_code == 0, result.output
        for wanted in ("✓ placement violations 0", AZURE, "throttled", name, "azure throttled"):
            assert wanted in result.output, wanted
