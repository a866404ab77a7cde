"""What the page says: every language has every sentence, and the page says nothing that no table holds."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from smerf.export.page import read_tables
from smerf.export.site import export_site
from smerf.export.viewer_files import viewer_root
from tests.helpers.tiny_scene import make_scene, write_manifest, write_submodel

WEB = viewer_root() / "web"
LANGUAGES = {"de", "fr", "es", "pt", "it", "ja", "zh-Hans", "ko"}
NAMES = ("aria-label", "title", "alt", "data-label")
EMPTY = {"meta", "link", "input", "img", "br", "use", "path", "circle", "rect"}
SENTENCE = r'"((?:[^"\\]|\\.)*)"'


class Sentences(HTMLParser):
    """The texts and names of a page, except those that scripts fill in, keys of the keyboard, and own names."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[tuple[str, bool]] = []
        self.found: set[str] = set()

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        is_ours = not self.open or self.open[-1][1]
        if is_ours and "data-said" not in given:
            self.found |= {given[name] for name in NAMES if given.get(name)}
        is_said = tag in ("script", "style", "head", "svg", "kbd", "output") or {
            "data-own",
            "data-said",
        } & set(given)
        if tag not in EMPTY:
            self.open.append((tag, is_ours and not is_said))

    def handle_endtag(self, tag):
        while self.open and self.open.pop()[0] != tag:
            pass

    def handle_data(self, data):
        text = " ".join(data.split())
        if self.open and self.open[-1][1] and re.search(r"[A-Za-z]{2}", text):
            self.found.add(text)


def said() -> set[str]:
    """Return all English sentences of the page and of its scripts."""
    page = (WEB / "index.html").read_text(encoding="utf-8")
    parser = Sentences()
    parser.feed(page)
    found = parser.found | set(re.findall(rf"(?:show|say)\({SENTENCE}", page))
    for path in [*WEB.glob("*.js"), *WEB.glob("slots/*.js")]:
        # t("..."), and t(is ? "..." : "...").
        for call in re.findall(
            rf"(?<![\w.])t\(\s*(?:[^()\"]*\?\s*)?({SENTENCE}(?:\s*:\s*{SENTENCE})?)", path.read_text()
        ):
            found |= set(re.findall(SENTENCE, call[0]))
    return found


@pytest.fixture(scope="module")
def tables():
    return read_tables()


def test_every_language_says_everything_and_nothing_else(tables):
    assert set(tables) == LANGUAGES
    wanted = said()
    assert len(wanted) > 150
    faults = {
        language: (sorted(wanted - set(table)), sorted(set(table) - wanted))
        for language, table in tables.items()
    }
    assert {language: fault for language, fault in faults.items() if fault != ([], [])} == {}


def test_translations_keep_the_places_of_values(tables):
    places = re.compile(r"\{\w+\}")
    wrong = [
        (language, english)
        for language, table in tables.items()
        for english, text in table.items()
        if sorted(places.findall(english)) != sorted(places.findall(text)) or not text.strip()
    ]
    assert wrong == []


def test_scripts_show_no_text_of_their_own():
    """What is shown or named goes through t(), except what is made of numbers and names."""
    shows = re.compile(
        r"(?:notify\(|showMessage\(|textContent =|setAttribute\(\"aria-label\",|\.alt =)\s*([`\"])((?:(?!\1).)*)\1"
    )
    wrong = [
        f"{path.name}: {text}"
        for path in sorted([*WEB.glob("*.js"), *WEB.glob("slots/*.js")])
        for _, text in shows.findall(path.read_text())
        if re.search(r"[A-Za-z]{3}", re.sub(r"\$\{(?:[^{}]|\{[^{}]*\})*\}", "", text))
        and "Benchmark" not in text
    ]
    assert wrong == []


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    root = tmp_path_factory.mktemp("words")
    write_submodel(root / "baked" / "sm_000", make_scene())
    write_manifest(root / "baked")
    export_site(root / "baked", root / "site")
    export_site(root / "baked", root / "one.html", single_file=True)
    return root


def test_the_page_speaks_the_browsers_language_until_another_is_chosen(visit, site):
    page = visit(site / "site", "dpr=0.1", size=(700, 500), locale="de-AT").ready().page
    assert page.locator("html").get_attribute("lang") == "de"
    assert page.locator("#button-settings").get_attribute("aria-label") == "Einstellungen"
    page.click("#button-settings")
    page.select_option("#set-language", "ja")
    page.get_by_text("画質").wait_for()
    assert page.locator("#button-settings").get_attribute("aria-label") == "設定"
    page.reload()
    page.evaluate("smerf.ready")
    assert page.locator("html").get_attribute("lang") == "ja"
    assert page.locator("#button-play").get_attribute("aria-label") == "再生"


def test_settings_hold_the_words_of_every_language_on_a_phone(visit, site):
    page = visit(site / "site", "dpr=0.1", size=(360, 700)).ready().page
    page.click("#button-settings")
    outside = """() => {
      const panel = document.querySelector("#settings").getBoundingClientRect();
      return [...document.querySelectorAll("#settings *")].filter((x) => {
        const { left, right, width } = x.getBoundingClientRect();
        return width > 0 && (left < panel.left - 1 || right > panel.right + 1);
      }).map((x) => x.textContent);
    }"""
    for language in sorted(LANGUAGES):
        page.select_option("#set-language", language)
        page.wait_for_function(f"document.documentElement.lang === '{language}'")
        assert page.evaluate(outside) == [], language


def test_a_page_of_one_file_speaks_them_too(visit, site):
    page = visit((site / "one.html").as_uri(), "lang=zh-CN&dpr=0.1", size=(500, 400)).ready()
    assert page.page.locator("html").get_attribute("lang") == "zh-Hans"
    assert page.page.locator("#button-help").get_attribute("aria-label") == "帮助"
    assert page.errors == []


def test_the_first_sentence_is_translated_before_anything_is_loaded(visit, site):
    page = visit((site / "site" / "index.html").as_uri(), locale="fr-FR")
    page.page.locator("[role=alert]").wait_for()
    assert "serveur web" in page.message()
