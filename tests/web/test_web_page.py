"""The page, in the headless Chromium of this machine."""

import re
import shutil
import socket
import threading
from contextlib import ExitStack
from urllib.parse import urlsplit

import pytest
import uvicorn

from regard.search.index import Index
from regard.web.server import build_app
from regard.web.settings import Settings
from sharded import running_front, running_shards
from web_servers import TOKEN, serving

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright, which opens the pages, is absent")
sync_api.expect.set_options(timeout=30_000)  # the browser, the server and other tests share two cores
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium: apt-get install chromium")

DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
SEARCH = "/?q=a+man+rides+a+horse"
COMPARISON = f"{SEARCH}&vs=a+horse+rides+a+man"


@pytest.fixture(scope="module")
def server(web_world):
    with serving(web_world / "index") as server:
        yield server


@pytest.fixture(scope="module")
def browser():
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser, server):
    """A function that opens a page. At the end, no page has had an error or sent a request to another host."""
    contexts, errors, requests = [], [], []

    def open_(path: str, **options):
        contexts.append(browser.new_context(**{"viewport": DESKTOP, "reduced_motion": "reduce", **options}))
        page = contexts[-1].new_page()
        page.set_default_timeout(30_000)
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda message: errors.append(message.text) if is_error(message) else None)
        page.goto(server.url + path)
        if path != "/":
            page.wait_for_selector(".picture .frame.loaded")
            page.wait_for_selector(".evidence li")
        return page

    yield open_
    for context in contexts:
        context.close()
    assert errors == []
    assert {urlsplit(url).netloc for url in requests} == {urlsplit(server.url).netloc}


def is_error(message) -> bool:
    """Whether Chromium reports an error of the page, such as one of its policy, rather than an answer of 4xx."""
    return message.type == "error" and not message.text.startswith("Failed to load resource")


def ids(page, section: int = 0) -> list[str]:
    pictures = page.locator(".pictures").nth(section).locator(".picture")
    return [pictures.nth(at).get_attribute("data-id") for at in range(pictures.count())]


def test_a_sentence_finds_pictures(open_page):
    page = open_page("/")
    page.wait_for_selector("#welcome")
    page.fill("#sentence", "a man rides a horse")
    page.press("#sentence", "Enter")
    page.wait_for_selector(".picture .frame.loaded")
    assert page.url.endswith(SEARCH)
    assert page.title() == "a man rides a horse – Regard"
    assert len(ids(page)) == 12
    assert re.match(r"24 pictures · \d+ ms", page.inner_text("#status"))
    page.click("#more")
    sync_api.expect(page.locator(".picture")).to_have_count(24)
    assert len(set(ids(page))) == 24
    page.go_back()
    page.wait_for_selector("#welcome", state="visible")
    assert page.locator(".picture").count() == 0
    page.go_forward()
    page.wait_for_selector(".picture")


def test_a_word_lights_up_its_regions(open_page):
    page = open_page(SEARCH)
    page.locator(".picture").last.scroll_into_view_if_needed()
    sync_api.expect(page.locator(".evidence:not(:empty)")).to_have_count(12)
    assert re.fullmatch(r"man: region \d, \d\.\d\d", page.locator(".evidence li[data-word=man]").first.inner_text())
    word = page.locator(".word[data-word=horse]")
    assert page.locator(".region").count() == 0
    word.hover()
    assert page.locator(".region").count() >= 12
    colour = next(name for name in word.get_attribute("class").split() if re.fullmatch(r"c\d", name))
    assert page.locator(f".region.{colour}").count() == page.locator(".region").count()
    assert page.locator(".tag text").first.text_content().startswith("horse ")
    page.mouse.move(1, 1)
    assert page.locator(".region").count() == 0
    word.click()
    assert word.get_attribute("aria-pressed") == "true"
    assert page.url.endswith("&w=horse")
    page.mouse.move(1, 1)
    assert page.locator(".region").count() >= 12
    page.reload()
    page.wait_for_selector(".region")
    page.keyboard.press("Escape")
    assert page.locator(".region").count() == 0
    assert word.get_attribute("aria-pressed") == "false"


def test_the_keyboard_reaches_everything(open_page):
    page = open_page(SEARCH)
    page.keyboard.press("/")
    assert page.evaluate("document.activeElement.id") == "sentence"
    page.locator(".word").first.focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate("document.activeElement.dataset.word") == "man"
    page.keyboard.press("Enter")
    assert page.locator(".word[data-word=man]").get_attribute("aria-pressed") == "true"
    page.keyboard.press("Escape")
    shown = ids(page)
    page.locator(".picture").first.focus()
    columns = page.evaluate(
        "[...document.querySelectorAll('.picture')].filter((it, _, all) => it.offsetTop === all[0].offsetTop).length"
    )
    expected = {"ArrowRight": shown[1], "ArrowDown": shown[1 + columns], "ArrowLeft": shown[columns], "Home": shown[0]}
    for key, id_ in expected.items():
        page.keyboard.press(key)
        assert page.evaluate("document.activeElement.dataset.id") == id_
    assert page.locator(".picture[tabindex='0']").count() == 1


def test_two_sentences_are_compared(open_page):
    page = open_page(COMPARISON)
    first, second = ids(page, 0), ids(page, 1)
    assert len(first) == len(second) == 12
    for at, id_ in enumerate(first[:5]):
        text = page.locator(".pictures").nth(0).locator(".moved").nth(at).text_content()
        if id_ in second:
            change = second.index(id_) - at
            expected = f"▲ {change}" if change > 0 else f"▼ {-change}" if change < 0 else "="
            assert text.startswith(f"{expected}, rank {second.index(id_) + 1} "), text
    # A word has one colour in both sentences.
    for word in ("man", "horse"):
        assert len({each.get_attribute("class") for each in page.locator(f".word[data-word={word}]").all()}) == 1
    both = next(id_ for id_ in first if id_ in second)
    page.locator(".pictures").nth(0).locator(f"[data-id='{both}']").hover()
    assert page.locator(".pictures").nth(1).locator(f".twin[data-id='{both}']").count() == 1


def test_another_sentence_is_compared_on_one_picture(open_page, server, tmp_path):
    page = open_page(SEARCH)
    card = page.locator(".picture").first
    card.locator("summary").focus()
    page.keyboard.press("Enter")
    page.keyboard.press("Tab")
    page.keyboard.type("a horse rides a man")
    page.keyboard.press("Enter")
    sync_api.expect(card.locator(".against li").first).to_contain_text("in place of")
    query = {"id": ids(page)[0], "sentence": "a man rides a horse", "against": "a horse rides a man"}
    explanation = page.request.get(f"{server.url}/v1/explain", params=query).json()["explanation"]
    against = explanation["against"]
    signed = f"{against['margin']:+.3f}".replace("-", "−")
    scores = [f"{score:.3f}".replace("-", "−") for score in (explanation["score"], against["score"])]
    assert card.locator(".against p").first.inner_text() == f"{signed}: {scores[0]} against {scores[1]}"
    lines = card.locator(".against li")
    assert lines.count() >= len(against["decisive_words"]) >= 2
    assert f"{against['decisive_words'][0]['effect']:+.3f}".replace("-", "−") in lines.first.inner_text()
    page.screenshot(path=tmp_path / "against.png")
    card.locator(".against input").fill("word " * 300)
    card.locator(".against button").click()
    sync_api.expect(card.locator(".against .problem")).to_contain_text("words")


def test_more_like_this(open_page):
    page = open_page(SEARCH)
    id_ = ids(page)[0]
    page.locator(".like").first.click()
    page.wait_for_url(f"**/?like={id_}")
    page.wait_for_selector(".sentence img")
    assert id_ not in ids(page)
    page.go_back()
    page.wait_for_selector(f".picture[data-id='{id_}']")


def test_filters(open_page):
    page = open_page(SEARCH)
    page.click("#filtering")
    page.click("#add-filter")
    row = page.locator(".condition")
    row.locator("select").first.select_option("place")
    row.locator("select").nth(1).select_option("contains")
    row.locator("input").fill("bird's")
    page.click("#search button[type=submit]")
    sync_api.expect(page.locator("#status")).to_have_text(re.compile("^12 pictures"))
    page.reload()
    page.wait_for_selector(".picture")
    assert page.locator(".condition input").input_value() == "bird's"
    assert page.inner_text("#status").startswith("12 pictures")


def test_errors_are_shown(open_page, server):
    page = open_page("/")
    page.goto(f"{server.url}/?like=none.jpg")
    page.wait_for_selector("#error:not([hidden])")
    assert "none.jpg" in page.inner_text("#error")
    page.goto(f"{server.url}/?q=a+man&f=%7Bdamaged")
    page.wait_for_selector(".picture")


@pytest.mark.parametrize("path", ["/", SEARCH, COMPARISON])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_is_accessible(open_page, path, scheme):
    axe = pytest.importorskip("axe_playwright_python.sync_playwright", reason="axe, which checks the pages, is absent")
    page = open_page(path, color_scheme=scheme)
    if path != "/":
        page.locator(".word").nth(1).click()
    if path == SEARCH:
        page.click("#filtering")
        page.click("#add-filter")
        page.locator("summary").first.click()
        page.locator(".against input").first.fill("a horse rides a man")
        page.locator(".against button").first.click()
        page.wait_for_selector(".against li")
    found = axe.Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize("path", ["/", SEARCH, COMPARISON])
def test_a_phone_needs_no_scrolling_sideways(open_page, path, tmp_path):
    page = open_page(path, viewport=PHONE, has_touch=True, is_mobile=True)
    assert page.evaluate("document.documentElement.scrollWidth") <= PHONE["width"]
    if path == SEARCH:
        page.locator(".word[data-word=man]").tap()
        page.wait_for_selector(".region")
        page.locator(".word[data-word=man]").tap()
        assert page.locator(".region").count() == 0
    page.screenshot(path=tmp_path / "phone.png")


def test_the_page_asks_for_the_token(browser, web_world):
    """The application of a server that other machines reach, here on an address that they do not."""
    index = Index(web_world / "index")
    app = build_app(index, Settings(host="0.0.0.0", token=TOKEN))
    listener = socket.create_server(("127.0.0.1", 0))
    server = uvicorn.Server(uvicorn.Config(app, log_config=None))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        page = browser.new_page()
        page.set_default_timeout(30_000)
        page.goto(f"http://127.0.0.1:{listener.getsockname()[1]}{SEARCH}")
        page.fill("#token", "not-the-right-token")
        page.press("#token", "Enter")
        page.wait_for_selector("#error:not([hidden])")
        assert "wrong" in page.inner_text("#error")
        page.fill("#token", TOKEN)
        page.press("#token", "Enter")
        page.wait_for_selector(".picture .frame.loaded")
        assert page.locator("#login").is_hidden()
        assert page.locator("#error").is_hidden()
        page.close()
    finally:
        server.should_exit = True
        thread.join(timeout=30)


def test_the_page_of_a_front_server_names_a_missing_shard(browser, web_world, tmp_path):
    """Two parts of the collection, of which one stops."""
    paths = [shutil.copytree(web_world / "index", tmp_path / name) for name in ("a", "b")]
    for path, where in zip(paths, ("width > 0 AND id < '12'", "id >= '12'"), strict=True):
        Index(path).remove(where=where)
    with ExitStack() as stack:
        first = stack.enter_context(running_shards(paths[:1]))
        second = stack.enter_context(ExitStack())
        urls = first + second.enter_context(running_shards(paths[1:]))
        url = stack.enter_context(running_front(urls))
        page = browser.new_page(viewport=DESKTOP)
        page.set_default_timeout(30_000)
        page.goto(url + SEARCH)
        page.wait_for_selector(".picture .frame.loaded")
        page.wait_for_selector(".evidence li")
        assert page.inner_text("#collection") == "24 pictures"
        assert page.locator("#error").is_hidden()
        assert page.locator(".like").first.is_hidden()  # a front server has no queries by a picture
        second.close()
        page.reload()
        page.wait_for_selector("#error:not([hidden])")
        assert re.match(r"Some pictures could not be searched\. Shard 1: it .*\.$", page.inner_text("#error"))
        page.wait_for_selector(".picture .frame.loaded")
        assert page.locator(".picture").count() == 12
        page.screenshot(path=tmp_path / "missing.png")
        page.close()
