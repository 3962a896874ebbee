"""The page in a real browser: what people type, click and save."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from upath import UPath

from ladder.platform.explore.page import page_state, saved_page
from ladder.platform.explore.shelf import Shelf
from ladder.platform.explore.views import EXAMPLE_TEXT, Question, answer_all
from tests.platform.explore.conftest import SIZES, Site
from tests.platform.tracking.browser import Browser, programs
from tests.platform.tracking.conftest import free_port, wait_for

READY = "return document.body.dataset.ready"
OPTIONS = "return [...document.querySelectorAll('#options .option')].map(o => o.innerText.split('\\n'))"
GRID = "return [...document.querySelectorAll('#grid tbody tr')].map(r => [r.querySelector('th').innerText, r.querySelectorAll('.cell .top').length])"  # noqa: E501
TOKENS = "return [...document.querySelectorAll('#tokens .token')].map(t => t.textContent)"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    programs()
    browser = Browser(tmp_path_factory.mktemp("browser") / "profile", free_port(), wait_for)
    yield browser
    browser.close()


def settle(browser: Browser, text: str) -> None:
    """Wait until the page shows the answers to a text."""
    wait_for(lambda: json.loads(browser.run(READY) or "null") == text)


def type_text(browser: Browser, text: str) -> None:
    """Press the keys of a text one after another, as fast as the driver can."""
    element = browser.find("#text")
    browser.send_keys(element, text)


def problems(browser: Browser) -> list[str]:
    return [entry["message"] for entry in browser.console() if entry["level"] in ("SEVERE", "WARNING")]


def elsewhere(browser: Browser, address: str) -> list[str]:
    """What the page loaded from anywhere but its server."""
    loaded = browser.run("return performance.getEntriesByType('resource').map(e => e.name)")
    return [name for name in loaded if not name.startswith((address, "data:", "blob:"))]


@pytest.mark.slow
def test_a_person_types_clicks_takes_back_and_looks_into_checkpoints(
    browser: Browser, site: Site, shelf: Shelf, tmp_path: Path
) -> None:
    browser.open(site.address)
    settle(browser, EXAMPLE_TEXT)
    sizes = [label.split("\n")[0] for label, cells in browser.run(GRID) for _ in range(cells // 3)]
    assert sizes == ["1x16", "2x32h2", "10x16", "3x48h3"], "by parameters, not by name"
    assert browser.run("return document.querySelectorAll('#charts svg polyline').length") == 2 + len(SIZES)
    assert "likelier than" in browser.run("return document.getElementById('lead').textContent")

    type_text(browser, " and it lay down too")  # twenty characters
    typed = EXAMPLE_TEXT + " and it lay down too"
    settle(browser, typed)
    shown = browser.run(OPTIONS)
    question = {"text": typed, "model": "3x48h3-40-s0/40"}
    answer = json.loads(site.ask("/api/next", question)[1])
    assert len(shown) == 10 and percent(shown[0][-1]) == pytest.approx(100 * answer["options"][0]["p"], abs=0.06)

    browser.run("document.querySelector('#options .option').click()")
    settle(browser, typed + answer["options"][0]["text"])
    browser.run("document.getElementById('undo').click()")
    settle(browser, typed)
    browser.run("document.querySelector('#grid [data-model=\"1x16-10-s0/10\"]').click()")
    settle(browser, typed)
    assert browser.run("return document.getElementById('model').value") == "1x16-10-s0/10"
    assert "model=1x16-10-s0%2F10" in browser.run("return location.hash")
    browser.picture(tmp_path / "ladder.png")
    assert problems(browser) == [] and elsewhere(browser, site.address) == []


@pytest.mark.slow
def test_attention_surprise_and_layers_are_shown(browser: Browser, site: Site) -> None:
    browser.open(site.address + "/#text=it+was&model=2x32h2-40-s0/40&view=attention")
    browser.run("location.reload()")
    settle(browser, "it was")
    assert browser.run("return document.querySelectorAll('#heads .headcell').length") == 2 * (2 + 1)
    assert browser.run("return document.querySelectorAll('#looks .shaded').length") == len("it was")
    browser.run("document.querySelectorAll('#looks .token')[2].click()")
    wait_for(lambda: browser.run("return document.querySelectorAll('#looks .shaded').length") == 3)
    assert "no explanation" in browser.run("return document.getElementById('panel-attention').innerText")
    browser.run("document.getElementById('tab-surprise').click()")
    settle(browser, "it was")
    text = browser.run("return document.getElementById('surprise').innerText")
    assert "held-out loss of its run 2.025" in text and "Difference" in text
    browser.run("document.getElementById('tab-lens').click()")
    settle(browser, "it was")
    assert browser.run("return document.querySelectorAll('#lens tbody tr').length") == 3
    assert problems(browser) == []


@pytest.mark.slow
def test_script_tags_are_text_and_nothing_runs(browser: Browser, site: Site) -> None:
    hostile = "<img src=x onerror=alert(1)><script>document.title='taken'</script>"
    browser.open(site.address)
    settle(browser, EXAMPLE_TEXT)
    browser.run(f"setText({json.dumps(hostile)})")
    settle(browser, hostile)
    assert "".join(browser.run(TOKENS)).replace("\u2423", " ") == hostile[-64:]
    assert "64 tokens" in browser.run("return document.getElementById('cut').textContent")
    assert browser.run("return document.querySelectorAll('main img, main script').length") == 0
    browser.run("setText('x'.repeat(1000000))")
    wait_for(lambda: "wanted" in browser.run("return document.getElementById('notice').textContent"))
    browser.run("document.getElementById('undo').click()")
    settle(browser, hostile)
    assert browser.run("return document.getElementById('notice').textContent") == ""
    assert "taken" not in browser.run("return document.title")


@pytest.mark.slow
def test_the_keyboard_alone_suffices_and_everything_has_a_name(browser: Browser, site: Site) -> None:
    browser.open(site.address)
    settle(browser, EXAMPLE_TEXT)
    nameless = """return [...document.querySelectorAll('button, input, select, textarea')].filter(e =>
        !(e.textContent.trim() || e.ariaLabel || e.labels?.length)).map(e => e.outerHTML)"""
    assert browser.run(nameless) == []
    browser.send_keys(browser.find("#tab-ladder"), "\ue014")  # arrow to the right
    assert browser.run("return document.activeElement.id") == "tab-surprise"
    browser.send_keys(browser.find("#text"), "\ue00a1\ue000")  # Alt+1 appends the first option
    wait_for(lambda: browser.run("return page.past.length") == 1)  # the driver cannot return halves of characters
    browser.send_keys(browser.find("#text"), "\ue00az\ue000")
    settle(browser, EXAMPLE_TEXT)


@pytest.mark.slow
@pytest.mark.parametrize("view", ["ladder", "surprise", "attention", "lens", "items"])
def test_nothing_is_wider_than_a_phone(browser: Browser, site: Site, view: str, tmp_path: Path) -> None:
    browser.resize(400, 1500)
    try:
        browser.open(site.address + "/?" + view)
        settle(browser, EXAMPLE_TEXT)
        browser.run(f"show('{view}')")
        settle(browser, EXAMPLE_TEXT)
        browser.picture(tmp_path / f"{view}.png")
        assert browser.run("return document.documentElement.scrollWidth") <= 400
    finally:
        browser.resize(1200, 1000)


@pytest.mark.slow
def test_a_saved_file_shows_the_same_numbers_without_a_server(
    browser: Browser, site: Site, shelf: Shelf, swept: UPath, tmp_path: Path
) -> None:
    question = Question(text="it was </script><b>too", model="3x48h3-40-s0/40", other="1x16-10-s0/10")
    page = tmp_path / "saved.html"
    state = page_state("mine", list(shelf.entries.values()))
    page.write_text(saved_page(state, question, answer_all(shelf, question), "ladder"))
    browser.console()  # what an earlier test was refused is no matter here
    browser.open(page.as_uri())
    settle(browser, question.text)
    saved, grid = browser.run(OPTIONS), browser.run("return document.getElementById('grid').innerText")
    for view in ("surprise", "attention", "lens"):
        browser.run(f"show('{view}')")
        settle(browser, question.text)
    assert problems(browser) == []
    assert elsewhere(browser, "file:") == [] and "https://" not in page.read_text()
    browser.open(site.address + "/?live")
    settle(browser, EXAMPLE_TEXT)
    browser.run(f"choose('{question.model}'); setText({json.dumps(question.text)})")
    settle(browser, question.text)
    assert browser.run(OPTIONS) == saved
    assert browser.run("return document.getElementById('grid').innerText") == grid


def percent(shown: str) -> float:
    return float(shown.removesuffix(" %"))
