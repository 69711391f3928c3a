"""The page in a real browser: what a person sees of each validity, the keys, and a tablet's screen."""

from __future__ import annotations

import dataclasses
import shutil
import threading
import time

import pytest

from bcseg_edge.live.results import Controls, Validity
from bcseg_edge.live.view import ViewFacts, ViewSink, parse_address
from tests.fixtures.live_results import health, square

playwright = pytest.importorskip("playwright.sync_api", reason="drives the browser")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed (Debian: apt install chromium)")
FACTS = ViewFacts("phantom:64x48@30", "edge", "openvino", 100.0, True)
TABLET_WH = (820, 1180)
SMALLEST_TARGET_PX = 44  # WCAG 2.2, 2.5.5
BLUE = (0, 114, 178)


class Feed:
    """Feeds one result again and again, as a loop does, until it is told another or stopped."""

    def __init__(self, view, controls):
        self.result, self.health = square(track_ids=(4,)), health()
        self._view, self._stop = view, threading.Event()
        self._controls = controls
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self):
        index = 0
        while not self._stop.wait(0.05):
            index += 1
            if self.result is not None and not self._controls.freeze.is_set():
                last = dataclasses.replace(self.result, frame=dataclasses.replace(self.result.frame, index=index))
            if self.result is not None:
                self._view.write(last)
            if index % 5 == 0:
                self._view.update(self.health)

    def stop(self):
        self._stop.set()
        self._thread.join()


@pytest.fixture(scope="module")
def browser():
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def live(browser):
    """(page, feed, controls, what the browser complained of)"""
    controls = Controls()
    view = ViewSink(parse_address("127.0.0.1:0"), FACTS, controls)
    feed = Feed(view, controls)
    page = browser.new_page(viewport={"width": TABLET_WH[0], "height": TABLET_WH[1]})
    complaints = []
    page.on("console", lambda message: complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(view.url)
    says(page, "LIVE")
    yield page, feed, controls, complaints, view
    page.close()
    feed.stop()
    view.close()


def says(page, text):
    page.wait_for_function(
        "text => document.getElementById('validity-name').textContent === text", arg=text, timeout=30_000
    )
    page.wait_for_timeout(150)


def eventually(page, condition):
    """Wait: on a busy machine the page says now and then, rightly, that nothing new came."""
    until_s = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < until_s
        page.wait_for_timeout(50)


def blue_pixels(page):
    """Pixels of the picture with the blue of a benign lesion's outline."""
    return page.evaluate(
        """([red, green, blue]) => {
            const canvas = document.getElementById('image');
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0;
            for (let i = 0; i < data.length; i += 4)
                count += [red, green, blue].every((value, k) => Math.abs(data[i + k] - value) < 6);
            return count;
        }""",
        list(BLUE),
    )


def test_a_live_result_is_drawn_and_listed_without_a_complaint(live):
    page, _, _, complaints, _ = live
    eventually(page, lambda: blue_pixels(page) > 500)
    eventually(page, lambda: page.inner_text("#lesion-count") == "1")
    row = page.inner_text("#lesions").split("\t")
    assert row[0] == "#4"
    assert row[1].strip() == "benign"
    assert row[2].endswith("mm")
    assert row[3] == "90 %"
    eventually(page, lambda: "captured" in page.inner_text("#ledger"))
    assert complaints == []


def bright_pixels(page):
    """Pixels of the picture above any that its grey image has."""
    return page.evaluate(
        """() => {
            const canvas = document.getElementById('image');
            const data = canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data;
            let count = 0;
            for (let i = 0; i < data.length; i += 4) count += Math.min(data[i], data[i + 1], data[i + 2]) > 150;
            return count;
        }"""
    )


def test_the_part_that_is_segmented_is_outlined(live):
    page, feed, _, _, _ = live
    eventually(page, lambda: blue_pixels(page) > 500)
    before = bright_pixels(page)
    feed.result = dataclasses.replace(feed.result, crop_xywh=(4, 4, 56, 40))
    eventually(page, lambda: bright_pixels(page) > before + 300)


def test_the_saving_is_told(live):
    page, feed, _, _, _ = live
    feed.health = health(patches=200, patches_reused=50)
    eventually(page, lambda: "25 %" in page.inner_text("#health"))


@pytest.mark.parametrize(
    ("validity", "words"), [(Validity.BLANK, "NO IMAGE"), (Validity.STALE, "TOO LATE"), (Validity.LOST, "NO SIGNAL")]
)
def test_without_a_valid_result_there_is_no_mask_and_no_lesion(live, validity, words):
    page, feed, *_ = live
    feed.result = square(validity=validity)
    says(page, words)
    assert blue_pixels(page) == 0
    assert page.inner_text("#lesion-count") == "\u2013"
    feed.result = square()
    says(page, "LIVE")
    eventually(page, lambda: blue_pixels(page) > 500)


def test_a_loop_that_stands_still_takes_the_mask_away(live):
    page, feed, *_ = live
    feed.result = None
    says(page, "STANDING STILL")
    assert blue_pixels(page) == 0


def test_a_view_that_was_frozen_keeps_its_mask_when_the_source_pauses(live):
    page, feed, *_ = live
    page.keyboard.press("f")
    says(page, "VIEW FROZEN")
    feed.result = None
    page.wait_for_timeout(2500)
    assert page.inner_text("#validity-name") == "VIEW FROZEN"
    assert blue_pixels(page) > 500


@pytest.mark.parametrize("lossless", [True, False])
def test_the_result_of_a_watched_folder_stays_as_long_as_the_cart_reports(browser, lossless):
    view = ViewSink(parse_address("127.0.0.1:0"), dataclasses.replace(FACTS, lossless=lossless), Controls())
    view.write(square())
    page = browser.new_page(viewport={"width": TABLET_WH[0], "height": TABLET_WH[1]})
    page.goto(view.url)
    says(page, "LIVE" if lossless else "STANDING STILL")
    for _ in range(25):
        view.update(health())
        page.wait_for_timeout(100)
    assert page.inner_text("#validity-name") == ("LIVE" if lossless else "STANDING STILL")
    assert (blue_pixels(page) > 500) is lossless
    says(page, "STANDING STILL")  # the cart says nothing any more
    page.close()
    view.close()


def test_a_cart_that_went_away_takes_the_mask_away(live):
    page, _, _, _, view = live
    view.close()
    says(page, "NO CONNECTION")
    assert blue_pixels(page) == 0


def test_the_scanner_frozen_keeps_its_mask(live):
    page, feed, *_ = live
    feed.result = square(validity=Validity.FROZEN)
    says(page, "SCANNER FROZEN")
    eventually(page, lambda: blue_pixels(page) > 500)


def test_keys_and_buttons(live):
    page, _, controls, complaints, _ = live
    page.keyboard.press("f")
    says(page, "VIEW FROZEN")
    frame = page.inner_text("#frame")
    assert controls.freeze.is_set()
    page.wait_for_timeout(600)
    assert page.inner_text("#frame") == frame
    page.click("#freeze")
    says(page, "LIVE")
    assert not controls.freeze.is_set()
    page.keyboard.press("s")
    until_s = time.monotonic() + 30
    while not controls.snapshot.is_set():
        assert time.monotonic() < until_s
        page.wait_for_timeout(20)
    page.keyboard.press("o")
    page.wait_for_timeout(200)
    assert blue_pixels(page) == 0
    page.keyboard.press("o")
    page.keyboard.press("]")
    assert page.inner_text("#opacity-value") == "30 %"
    page.focus("#opacity")
    page.keyboard.press("ArrowRight")
    assert page.inner_text("#opacity-value") == "35 %"
    assert complaints == []


def test_what_a_person_should_know_is_shown_and_is_never_markup(live):
    page, feed, *_ = live
    feed.health = health("degraded", "<b>late</b>")
    page.wait_for_function(
        "text => document.getElementById('health-reason').textContent === text", arg="<b>late</b>", timeout=30_000
    )
    assert page.locator("#health-reason b").count() == 0


@pytest.mark.parametrize("size_wh", [TABLET_WH, (1180, 820), (1280, 720), (390, 844)])
def test_fingers_hit_the_controls_and_nothing_is_cut_off(live, size_wh):
    page, *_ = live
    page.set_viewport_size({"width": size_wh[0], "height": size_wh[1]})
    page.wait_for_timeout(300)
    for control in page.locator("button, input").all():
        box = control.bounding_box()
        assert min(box["width"], box["height"]) >= SMALLEST_TARGET_PX
        assert box["x"] >= 0
        assert box["x"] + box["width"] <= size_wh[0]
    assert page.evaluate("document.documentElement.scrollWidth") <= size_wh[0]
    overflowing = page.evaluate(
        "[...document.querySelectorAll('.card')].filter(card => card.scrollWidth > card.clientWidth).length"
    )
    assert overflowing == 0


def test_texts_have_contrast(live):
    page, feed, *_ = live
    for validity, words in [
        (Validity.OK, "LIVE"),
        (Validity.FROZEN, "SCANNER FROZEN"),
        (Validity.STALE, "TOO LATE"),
        (Validity.BLANK, "NO IMAGE"),
        (Validity.LOST, "NO SIGNAL"),
    ]:
        feed.result = square(validity=validity, label=2)
        says(page, words)
        worst = page.evaluate(CONTRAST)
        assert worst["ratio"] >= 4.5, worst  # WCAG 2.2 AA for text of any size


CONTRAST = """() => {
  const parse = (text) => text.match(/[\\d.]+/g).map(Number);
  const luminance = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const ground = (node) => {
    for (; node; node = node.parentElement) {
      const value = parse(getComputedStyle(node).backgroundColor);
      if (value.length === 3 || value[3] > 0) return value;
    }
    return [0, 0, 0];
  };
  let worst = { ratio: 99 };
  for (const node of document.querySelectorAll('body *')) {
    const own = [...node.childNodes].some((child) => child.nodeType === 3 && child.textContent.trim());
    if (!own || !node.getClientRects().length || node.closest('.toast, :disabled, script, style')) continue;
    const pair = [luminance(parse(getComputedStyle(node).color)), luminance(ground(node))].sort((a, b) => b - a);
    const ratio = (pair[0] + 0.05) / (pair[1] + 0.05);
    if (ratio < worst.ratio) worst = { ratio, text: node.textContent.trim().slice(0, 40), id: node.id };
  }
  return worst;
}"""
