"""The page in a real browser, over a real daemon's database: what a person sees, and what never happens."""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from codex.logging import log_event
from codex.logging.import_ndjson import import_all
from tests.daemon import Daemon, wait_for
from tests.pictures import FOLDER, SAMPLE, draw_page, prepare
from tests.web.browser import CHROMIUM, is_there
from tests.web.server import Page

if TYPE_CHECKING:
    from playwright.sync_api import BrowserContext
    from playwright.sync_api import Page as Tab

needs_chromium = pytest.mark.skipif(not is_there(), reason=f"there is no {CHROMIUM}")
ARRIVALS = """
window.arrived = {};
new MutationObserver((changes) => {
  const now = Date.now();
  for (const change of changes)
    for (const element of change.addedNodes)
      for (const [tick] of (element.textContent ?? "").matchAll(/tick \\d+/g)) window.arrived[tick] ??= now;
}).observe(document.getElementById("timeline"), { childList: true });
"""
HOSTILE = (
    "<script>window.pwned = 1; document.title = 'pwned'</script>",
    '<img src=x onerror="window.pwned = 2; alert(2)">',
    "[a link](javascript:window.pwned=3) javascript:window.pwned=4",
    "```\n</code></pre><svg onload=window.pwned=5>\n```",
    "`<iframe srcdoc='<script>parent.pwned=6</script>'>` **<b onclick=alert(7)>bold</b>**",
    "\x1b]0;pwned\x07\x1b[31mred\x1b[0m \x9b2J \u202eback \u2066to\u2069 front",
    'https://evil.example/x"onmouseover="alert(8) {{7*7}} ${7*7} </title><style>*{display:none}</style>',
    "<link rel=prefetch href=https://evil.example/prefetch><meta http-equiv=refresh content='0;url=https://evil.example/'>",
)


@pytest.fixture
def writing(daemon: Daemon, page: Page, monkeypatch: pytest.MonkeyPatch) -> Page:
    """A page over the database of a daemon that watches what this test writes."""
    monkeypatch.setenv("CODEX_SESSION_LOG_DIR", str(daemon.log_dir))
    daemon.start()
    page.start()
    return page


@contextmanager
def harmless(context: BrowserContext, page: Page) -> Iterator[Tab]:
    """A tab in which, by the end, nothing has gone wrong, been asked of another host, or been run."""
    tab = context.new_page()
    wrong: list[str] = []
    tab.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    tab.on("dialog", lambda dialog: wrong.append(f"dialog: {dialog.message}"))
    tab.on("console", lambda said: wrong.append(f"{said.type}: {said.text}") if said.type == "error" else None)
    tab.on("request", lambda asked: wrong.append(asked.url) if f"//127.0.0.1:{page.port}/" not in asked.url else None)
    yield tab
    assert tab.evaluate("typeof window.pwned") == "undefined"
    # Datasette's headings have an attribute of style, which the policy keeps from taking effect.
    assert [line for line in wrong if "Applying inline style" not in line] == []


def test_what_is_written_shows_at_once(writing: Page, browser: BrowserContext, pictures: Path) -> None:
    """A session appears, its events come as they are committed; nothing is loaded anew, and the token is gone."""
    with harmless(browser, writing) as tab:
        tab.goto(writing.address)
        assert tab.url == f"http://127.0.0.1:{writing.port}/"
        tab.wait_for_selector("#link[data-state=live]")
        tab.evaluate("window.same = true")
        log_event("fresh", "user", "What is new?")
        tab.click("li[data-id=fresh] a")
        tab.wait_for_selector("#timeline li:has-text('What is new?')")
        tab.wait_for_selector("#link[data-state=live]")
        tab.evaluate(ARRIVALS)
        written = {}
        for number in range(40):
            written[f"tick {number}"] = time.time()
            log_event("fresh", "assistant", f"tick {number}")
            wait_for(lambda number=number: tab.evaluate(f"window.arrived['tick {number}']"), what="the event")
        arrived = tab.evaluate("window.arrived")
        assert tab.locator("#timeline li").last.inner_text().endswith("tick 39")
    took = sorted(arrived[tick] - 1000 * began for tick, began in written.items())
    figures = {"p50_ms": round(statistics.median(took), 1), "max_ms": round(took[-1], 1), "events": len(took)}
    (pictures / "arrivals.json").write_text(json.dumps(figures))
    assert took[-1] < 5000, figures


def test_the_list_follows_its_sessions(writing: Page, browser: BrowserContext) -> None:
    """The one that goes on moves to the top, without the page being loaded anew; filters keep to what they say."""
    with harmless(browser, writing) as tab:
        for name in ("first", "second"):
            log_event(name, "user", f"I am {name}")
            tab.goto(writing.address)
            tab.wait_for_selector(f"li[data-id={name}]")
        tab.evaluate("window.same = true")
        assert tab.locator("#list li").first.get_attribute("data-id") == "second"
        log_event("first", "user", "and again")
        tab.wait_for_selector("#list li:first-child[data-id=first]")
        tab.click("text=Ended")
        tab.wait_for_selector("#empty:visible")
        assert tab.url.endswith("?state=ended")
        assert tab.evaluate("window.same")


def test_what_agents_write_does_nothing(writing: Page, browser: BrowserContext, pictures: Path) -> None:
    """Scripts, handlers, links that run, escapes: shown as the text that they are, on each page that shows them."""
    for text in HOSTILE:
        log_event("hostile", "user", text)
        log_event("hostile", "assistant", text)
    with harmless(browser, writing) as tab:
        tab.goto(writing.address)
        tab.wait_for_selector("li[data-id=hostile]")
        for path in ("/", "/session?id=hostile&view=all", "/health", "/record/session_events", "/record/sessions"):
            tab.goto(f"http://127.0.0.1:{writing.port}{path}")
            if path.startswith("/session?"):
                wait_for(lambda: tab.locator("#timeline li").count() == 2 * len(HOSTILE), what="all that was written")
                tab.screenshot(path=pictures / "hostile.png", full_page=True)
                shown = tab.inner_text("#timeline")
                assert "<script>window.pwned = 1" in shown
                assert "\\x1b[31mred" in shown
                assert "\\u202eback" in shown
                assert tab.title().startswith("[a link](javascript:")
            inside = tab.locator("main, section.content")
            assert (
                inside.locator("script, img, svg[onload], iframe, style, link, meta, [onerror], [onclick]").count() == 0
            )
            links = [link for link in tab.eval_on_selector_all("a", "all => all.map(a => a.href)") if link]
            assert all(link.startswith(("http:", "https:")) for link in links)


def test_a_search_leads_to_the_place(writing: Page, daemon: Daemon, browser: BrowserContext, pictures: Path) -> None:
    """Words are marked among the hits and where they stand; a query that says nothing is told so."""
    for number in range(300):
        log_event("deep", "assistant", f"turn {number} of many")
        if number == 40:
            log_event("deep", "user", "Where is the <b>needle</b> in *this* haystack?\x1b[31m")
    daemon.wait_for_rows(301)
    with harmless(browser, writing) as tab:
        tab.goto(writing.address)
        tab.wait_for_selector("li[data-id=deep]")
        tab.keyboard.press("/")
        tab.keyboard.type('"needle" hay*')
        tab.keyboard.press("Enter")
        tab.wait_for_selector(".hit")
        hit = tab.locator(".hit")
        assert hit.locator("mark").all_inner_texts() == ["needle", "haystack"]
        assert "<b>needle</b> in *this* haystack?\\x1b[31m" in hit.inner_text()
        tab.screenshot(path=pictures / "search.png")
        tab.keyboard.press("j")
        tab.keyboard.press("Enter")
        tab.wait_for_selector("body.ready")
        sought = tab.locator("#timeline .sought")
        assert sought.locator("mark").all_inner_texts() == ["needle", "haystack"]
        assert sought.evaluate("element => element === document.activeElement")
        box = sought.bounding_box()
        assert box is not None
        assert 0 < box["y"] < 860
        tab.screenshot(path=pictures / "found.png")
    answer = writing.get("/search?q=AND+(")
    assert (answer.status, 'class="problem"' in answer.body) == (400, True)


def test_a_session_of_50_000_events_opens_at_once(
    log_dir: Path, page: Page, browser: BrowserContext, pictures: Path
) -> None:
    """At its end; all of it can be reached, and the page holds a few hundred events at a time."""
    lines = (f'{{"ts":{1.7e9 + n},"role":"assistant","message":"event number {n}"}}\n' for n in range(1, 50_001))
    (log_dir / "long.ndjson").write_text("".join(lines))
    import_all(log_dir, page.database)
    page.start()
    with harmless(browser, page) as tab:
        tab.goto(page.address)
        began = time.monotonic()
        tab.goto(f"http://127.0.0.1:{page.port}/session?id=long")
        tab.wait_for_selector("body.ready")
        figures: dict[str, Any] = {"opened_ms": round(1000 * (time.monotonic() - began))}
        assert _last(tab) == "event number 50000"
        for _ in range(8):
            before = _first(tab)
            tab.evaluate("scrollTo(0, 0)")
            wait_for(lambda before=before: _first(tab) != before, what="earlier events")
        figures["events_in_the_page"] = tab.locator("#timeline li").count()
        figures["elements"] = tab.evaluate("document.querySelectorAll('*').length")
        assert figures["events_in_the_page"] <= 480
        assert int(_last(tab).split()[-1]) < 50_000
        tab.keyboard.press("g")
        wait_for(lambda: _first(tab) == "event number 1", what="the first event")
        for _ in range(6):
            last = _last(tab)
            tab.evaluate("scrollTo(0, document.documentElement.scrollHeight)")
            wait_for(lambda last=last: _last(tab) != last, what="later events")
        numbers = [int(text.split()[-1]) for text in tab.locator("#timeline .inside").all_inner_texts()]
        assert numbers == [*range(numbers[0], numbers[0] + len(numbers))]
        tab.keyboard.press("G")
        wait_for(lambda: _last(tab) == "event number 50000", what="the last event")
    (pictures / "long.json").write_text(json.dumps(figures))


def _first(tab: Tab) -> str:
    return tab.locator("#timeline .inside").first.inner_text()


def _last(tab: Tab) -> str:
    return tab.locator("#timeline .inside").last.inner_text()


@pytest.fixture
def weeks(tmp_path: Path) -> Iterator[Page]:
    """A page over thirty days of made-up work."""
    page = Page(prepare(tmp_path, datetime.now(UTC)))
    page.start()
    yield page
    page.kill()


def test_keys_do_all(weeks: Page, browser: BrowserContext) -> None:
    """Through the list into a session, from event to event, unfolding; search and help are a key away."""
    with harmless(browser, weeks) as tab:
        tab.goto(weeks.address)
        tab.wait_for_selector("#list li")
        tab.keyboard.press("?")
        assert tab.locator("dialog#keys").is_visible()
        tab.keyboard.press("Escape")
        tab.keyboard.press("/")
        assert tab.evaluate("document.activeElement.id") == "q"
        tab.keyboard.type("jk?")
        assert tab.input_value("#q") == "jk?"
        tab.keyboard.press("Escape")
        for key in ("j", "j", "k", "Enter"):
            tab.keyboard.press(key)
        tab.wait_for_selector("body.ready")
        assert "/session?id=" in tab.url
        tab.goto(f"http://127.0.0.1:{weeks.port}/session?id={SAMPLE}")
        tab.wait_for_selector("body.ready")
        for key in ("g", "j", "j", "Enter"):
            tab.keyboard.press(key)
        assert "pytest -x --count 50" in tab.locator("#timeline details[open] .body").inner_text()
        tab.keyboard.press("Enter")
        assert tab.locator("#timeline details[open]").count() == 0
        tab.keyboard.press("x")
        assert tab.locator("#timeline .diff .removed").all_inner_texts() == ["-time.sleep(0.1)", "-assert parser.done"]


def test_pages_fit(weeks: Page, browser: BrowserContext, pictures: Path) -> None:
    """Nothing is wider than the screen, on a phone either; pictures of all are kept to be looked at."""
    looks: tuple[tuple[str, int, Any], ...] = (("desk", 1280, "light"), ("dark", 1280, "dark"), ("phone", 390, "light"))
    pages = {
        "sessions": ("/", "#list li"),
        "session": (f"/session?id={SAMPLE}", "body.ready"),
        "usage": ("/usage", "svg.chart"),
        "search": ("/search?q=timeout", ".hit"),
        "help": ("/search", ".help"),
        "health": ("/health", ".verdict"),
        "record": ("/record/session_events", "table"),
    }
    with harmless(browser, weeks) as tab:
        tab.goto(weeks.address)
        for page, (path, there) in pages.items():
            tab.goto(f"http://127.0.0.1:{weeks.port}{path}")
            tab.wait_for_selector(there)
            for name, width, scheme in looks:
                tab.set_viewport_size({"width": width, "height": 844})
                tab.emulate_media(color_scheme=scheme)
                assert page == "record" or tab.evaluate("document.documentElement.scrollWidth") <= width
                tab.screenshot(path=pictures / f"{name}-{page}.png")


@needs_chromium
def test_the_readmes_picture_is_drawn_anew(tmp_path: Path) -> None:
    """Of sample data, and small, as the one that is kept."""
    database = prepare(tmp_path, datetime.now(UTC))
    for png in (draw_page(tmp_path / "browser", database), (FOLDER / "page.png").read_bytes()):
        assert png.startswith(b"\x89PNG")
        assert len(png) < 150_000
