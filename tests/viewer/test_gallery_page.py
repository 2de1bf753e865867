"""The files of the gallery, and its page in a real Chromium, which is driven through its pipe."""

from __future__ import annotations

import base64
import io
import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from gallery_files import list_files, read_data
from ovsr_gpu.drawing.page_images import TRANSPARENT
from ovsr_gpu.drawing.palette import class_colors
from ovsr_gpu.runtime.threads import NUM_WORKERS
from ovsr_gpu.viewer.gallery import GalleryFailure, GalleryImage, write_gallery

Array = np.ndarray[Any, Any]
KEYS = {"Enter": 13, "Escape": 27, "End": 35, "Home": 36}
KEYS |= {"ArrowLeft": 37, "ArrowUp": 38, "ArrowRight": 39, "ArrowDown": 40}
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
HOSTILE = [
    "<img src=x onerror=alert(1)>\"'&.png",
    "</script><script>alert(2)</script>",
    "photos/" + "very-long-" * 23 + "name",
    "صور/صورة شاطئ البحر",
    "写真/夏の京都・清水寺",
    "half a surrogate pair \udc80",
    "__proto__",
    "line\u2028break ${1} `",
    "a" * 200,
]


class Browser:
    """One page in a headless Chromium."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._session: dict[str, str] = {}
        self._message_id = 0
        self.errors: list[str] = []
        target = self.send("Target.createTarget", url="about:blank")["targetId"]
        self._session = {"sessionId": self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **params: Any) -> dict[str, Any]:
        """Call a method of the DevTools protocol and return its result."""
        self._message_id += 1
        message = {"id": self._message_id, "method": method, "params": params, **self._session}
        assert self._process.stdin
        self._process.stdin.write(json.dumps(message).encode() + b"\0")
        self._process.stdin.flush()
        while True:
            answer = self._receive()
            if answer.get("id") == self._message_id:
                assert "error" not in answer, answer
                return answer["result"]

    def _receive(self) -> dict[str, Any]:
        assert self._process.stdout
        received = bytearray()
        while not received.endswith(b"\0"):
            byte = self._process.stdout.read(1)  # buffered
            assert byte, "the browser is gone"
            received += byte
        message = json.loads(received[:-1])
        if message.get("method") in ("Log.entryAdded", "Runtime.exceptionThrown", "Page.javascriptDialogOpening"):
            self.errors.append(json.dumps(message["params"]))
        return message

    def open(self, page: Path, width: int = 1280, height: int = 800) -> None:
        self.errors.clear()
        self.send("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.send("Page.navigate", url=page.as_uri())
        self.wait("document.readyState === 'complete' && typeof grid !== 'undefined'")

    def run(self, script: str) -> Any:
        """Evaluate an expression, await it if it is a promise, and return its value."""
        options = {"returnByValue": True, "awaitPromise": True, "allowUnsafeEvalBlockedByCSP": False}
        answer = self.send("Runtime.evaluate", expression=script, **options)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait(self, condition: str) -> None:
        """Wait up to 10 seconds until a JavaScript expression is true."""
        for _ in range(200):
            if self.run(condition):
                return
            self.run("new Promise((done) => setTimeout(done, 50))")
        raise AssertionError(f"timed out: {condition}; {self.errors}")

    def press(self, key: str) -> None:
        event = {"key": key, "windowsVirtualKeyCode": KEYS[key]} | ({"text": "\r"} if key == "Enter" else {})
        self.send("Input.dispatchKeyEvent", type="keyDown", **event)
        self.send("Input.dispatchKeyEvent", type="keyUp", **event)

    def screenshot(self) -> Array:
        """Return the window as `[H, W, 3]` uint8."""
        png = base64.b64decode(self.send("Page.captureScreenshot", format="png")["data"])
        return np.asarray(Image.open(io.BytesIO(png)).convert("RGB"))

    def close(self) -> None:
        self._session = {}
        self.send("Browser.close")


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    if CHROMIUM is None or sys.platform == "win32":
        pytest.skip("needs Chromium, driven through a pipe on the file descriptors 3 and 4")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars", "--mute-audio"]
    options += ["--remote-debugging-pipe", f"--user-data-dir={tmp_path_factory.mktemp('profile')}"]
    command = ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null 2>&1', "sh", str(CHROMIUM), *options]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        browser = Browser(process)
        yield browser
        browser.close()
        process.wait(20)
    finally:
        process.kill()


CLASSES = ["dog", "<b>grass</b>", "sky"]


def make_image(number: int, name: str | None = None, width: int = 60, height: int = 40) -> GalleryImage:
    """Return a gray image whose left and right halves are the classes number and number + 1 modulo 4."""
    halves = [number % 4, (number + 1) % 4]
    class_map = np.repeat(np.array(halves, np.int32), width // 2)[None].repeat(height, 0)
    area = width * height // 2
    return GalleryImage(
        name=f"folder/{number:04}" if name is None else name,
        read_pixels=lambda: np.full((height, width, 3), 128, np.uint8),
        read_class_map=lambda: class_map,
        regions=[(halves[0], 1 / (number + 2), area), (halves[1], np.float32(0.9), np.int64(area))],
    )


def test_files(tmp_path: Path) -> None:
    done: list[int] = []
    large = make_image(1, width=2000, height=1000)
    failures = [GalleryFailure(Path("in/bad.jpg"), "decode", "no image")]
    page = write_gallery([make_image(0), large], failures, CLASSES, tmp_path, "A run", done.append)
    assert page == tmp_path / "gallery" / "index.html" and done == [1, 2]
    images = ["masks/0.png", "masks/1.png", "thumbnails/0.jpg", "thumbnails/1.jpg", "views/1.jpg"]
    assert list_files(page.parent) == sorted([*images, "data.js", "grid.js", "index.html", "page.css", "page.js"])
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]
    sizes = [(60, 40), (320, 160), (60, 40), (320, 160), (1024, 512)]
    for name, size in zip(images, sizes, strict=True):
        with Image.open(page.parent / name) as image:
            assert image.size == size
    colors = class_colors(3)
    with Image.open(page.parent / "masks/1.png") as image:
        assert image.mode == "P"
        mask = np.asarray(image.convert("RGB"))
    assert (mask[:, :160] == colors[1]).all() and (mask[:, 160:] == colors[2]).all()
    data = read_data(page)
    assert [entry["name"] for entry in data["classes"]] == [*CLASSES, "something else"]
    assert [entry["color"] for entry in data["classes"]] == [
        f"#{red:02x}{green:02x}{blue:02x}" for red, green, blue in colors
    ]
    assert data["images"][1] == {
        "number": 1,
        "name": "folder/0001",
        "width": 2000,
        "height": 1000,
        "has_view": True,
        "regions": [[1, 0.3333, 1000000], [2, 0.9, 1000000]],
    }
    assert data["failures"] == [{"path": str(Path("in/bad.jpg")), "stage": "decode", "reason": "no image"}]


def test_more_classes_than_a_palette_holds(tmp_path: Path) -> None:
    classes = [str(number) for number in range(600)]
    class_map = np.array([[0, 255, 599, 600]])
    image = GalleryImage("many", lambda: np.zeros((1, 4, 3), np.uint8), lambda: class_map, [])
    page = write_gallery([image], [], classes, tmp_path, "")
    with Image.open(page.parent / "masks/0.png") as mask:
        assert (np.asarray(mask.convert("RGB"))[0] == class_colors(600)[class_map[0]]).all()


def test_unreadable_image_is_listed_with_failures(tmp_path: Path) -> None:
    def missing() -> Array:
        raise FileNotFoundError("no such file")

    changed = GalleryImage("changed", lambda: np.zeros((9, 8, 3), np.uint8), lambda: np.zeros((8, 9), int), [])
    images = [GalleryImage("missing", missing, missing, []), changed, make_image(2)]
    data = read_data(write_gallery(images, [GalleryFailure(Path("x"), "decode", "bad")], CLASSES, tmp_path, ""))
    assert [image["number"] for image in data["images"]] == [2]
    assert [(failure["path"], failure["stage"]) for failure in data["failures"]] == [
        ("x", "decode"),
        ("missing", "gallery"),
        ("changed", "gallery"),
    ]
    assert data["failures"][1]["reason"] == "no such file" and "is 9x8, the image 8x9" in data["failures"][2]["reason"]


def test_few_images_are_in_memory_at_a_time(tmp_path: Path) -> None:
    requested: list[int] = []
    done: list[int] = []

    def images() -> Iterator[GalleryImage]:
        for number in range(40):
            requested.append(number)
            assert len(requested) - len(done) <= NUM_WORKERS + 1
            yield make_image(number)

    write_gallery(images(), [], CLASSES, tmp_path, "", done.append)
    assert done == list(range(1, 41))


def test_earlier_gallery_is_replaced_atomically(tmp_path: Path) -> None:
    page = write_gallery(map(make_image, range(3)), [], CLASSES, tmp_path, "first")

    def interrupted() -> Iterator[GalleryImage]:
        yield make_image(0)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_gallery(interrupted(), [], CLASSES, tmp_path, "second")
    assert read_data(page)["title"] == "first" and [path.name for path in tmp_path.iterdir()] == ["gallery"]
    write_gallery([make_image(0)], [], CLASSES, tmp_path, "third")
    assert read_data(page)["title"] == "third" and not (page.parent / "thumbnails/1.jpg").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["gallery"]


def test_other_folders_are_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "gallery").mkdir()
    (tmp_path / "gallery" / "mine.txt").touch()
    with pytest.raises(ValueError, match="is not a gallery"):
        write_gallery([], [], CLASSES, tmp_path, "")
    assert list_files(tmp_path) == ["gallery/mine.txt"]


VISIBLE_NAMES = "visibleImages.map((image) => image.name)"
IMAGES_ARE_LOADED = "[...document.images].every((image) => !image.getAttribute('src') || image.naturalWidth)"


def test_hostile_names_are_shown_as_text(tmp_path: Path, browser: Browser) -> None:
    images = [make_image(number, name) for number, name in enumerate(HOSTILE)]
    failures = [GalleryFailure(Path(name), name, name) for name in HOSTILE]
    page = write_gallery(images, failures, HOSTILE, tmp_path, HOSTILE[0])
    browser.open(page)
    browser.wait(IMAGES_ARE_LOADED)
    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in HOSTILE]
    assert browser.run("document.title") == browser.run("byId('title').textContent") == HOSTILE[0]
    titles = browser.run("[...document.querySelectorAll('.tile')].map((tile) => tile.title.toWellFormed())")
    assert sorted(titles) == sorted(names)
    legend = browser.run(
        "[...document.querySelectorAll('#legend bdi')].map((element) => element.textContent.toWellFormed())"
    )
    assert legend == [*names, "something else"]
    reasons = "[...document.querySelectorAll('#failures bdi:last-child')]"
    assert browser.run(f"{reasons}.map((element) => element.textContent.toWellFormed())") == names
    for index in range(len(HOSTILE)):
        browser.run(f"openViewer({index})")
        assert browser.run("byId('name').textContent.toWellFormed()") in names
    assert browser.run("document.querySelectorAll('script').length") == 3
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    assert browser.errors == []


def test_content_security_policy_blocks_everything_else(tmp_path: Path, browser: Browser) -> None:
    browser.open(write_gallery([], [], CLASSES, tmp_path, ""))
    browser.run(
        """window.blocked = [];
        addEventListener("securitypolicyviolation", (event) => blocked.push(event.effectiveDirective));
        const add = (tag, properties) => document.body.append(Object.assign(document.createElement(tag), properties));
        add("img", { src: "https://example.org/x.png" });
        add("iframe", { src: "data:text/html,x" });
        add("style", { textContent: "* {}" });
        fetch("data.js").catch(() => 0);
        for (const attempt of [
            () => { document.body.innerHTML = "<b>x</b>"; },
            () => document.body.setAttribute("onclick", "window.ran = true"),
            () => eval("window.ran = true"),
            () => add("script", { textContent: "window.ran = true" }),
        ]) { try { attempt(); } catch { blocked.push("thrown"); } }"""
    )
    directives = ["connect-src", "frame-src", "img-src", "require-trusted-types-for", "style-src-elem"]
    browser.wait(f"{json.dumps(directives)}.every((directive) => blocked.includes(directive))")
    assert browser.run("blocked.filter((entry) => entry === 'thrown').length") == 4
    assert browser.run("typeof ran") == "undefined"


def test_sort_search_and_filter(tmp_path: Path, browser: Browser) -> None:
    regions = {
        "b10": [(0, 0.9, 100), (1, 0.2, 20)],
        "b9": [(1, 0.5, 100), (0, 0.4, 20)],
        "\u00c4rger": [(3, 0.8, 120)],
        "nothing": [],
    }
    image = np.zeros((10, 12, 3), np.uint8)
    images = [GalleryImage(name, lambda: image, lambda: image[..., 0], rows) for name, rows in regions.items()]
    browser.open(write_gallery(images, [], CLASSES, tmp_path, ""))

    def choose(**values: str) -> list[str]:
        for name, value in values.items():
            browser.run(f"byId('{name}').value = {json.dumps(value)}")
            browser.run(f"['input', 'change'].forEach((type) => byId('{name}').dispatchEvent(new Event(type)))")
        return browser.run(VISIBLE_NAMES)

    assert browser.run(VISIBLE_NAMES) == ["b10", "b9", "\u00c4rger", "nothing"]
    assert choose(sort="mean") == ["b9", "b10", "\u00c4rger", "nothing"]
    assert choose(sort="name") == ["\u00c4rger", "b9", "b10", "nothing"]
    assert choose(sort="class") == ["b10", "b9", "\u00c4rger", "nothing"]
    assert choose(search="B 1") == ["b10"] and choose(search="a\u0308RG") == ["\u00c4rger"]
    assert choose(search="no such") == [] and browser.run("byId('empty').textContent") == "No image matches."
    assert choose(search="") and browser.run("byId('empty').hidden")
    rows = browser.run("[...document.querySelectorAll('#legend tbody tr')].map((row) => row.innerText.split(/\\s+/))")
    assert [row[-2:] for row in rows] == [["2", "2"], ["2", "2"], ["0", "0"], ["1", "1"]]
    boxes = "document.querySelectorAll('#legend input')"
    browser.run(f"{boxes}[3].click()")
    assert browser.run(VISIBLE_NAMES) == ["\u00c4rger"]
    browser.run(f"{boxes}[0].click()")
    assert browser.run(VISIBLE_NAMES) == ["b10", "b9", "\u00c4rger"]
    browser.run("byId('clear').click()")
    assert len(browser.run(VISIBLE_NAMES)) == 4 and not browser.run(f"[...{boxes}].some((box) => box.checked)")
    assert browser.errors == []


def test_search_results_keep_their_order_and_show_the_regions(tmp_path: Path, browser: Browser) -> None:
    """The left half of each image is the region found, the right half is covered."""
    covered = np.repeat([TRANSPARENT, len(HOSTILE)], 30)[None].repeat(40, 0)
    image = np.full((40, 60, 3), 255, np.uint8)
    hits = [
        GalleryImage(name, lambda: image, lambda: covered, [(index, 0.3 - index / 100, 1200)])
        for index, name in [*enumerate(HOSTILE), (0, HOSTILE[0])]
    ]
    missing = GalleryImage("gone", Path("gone").read_bytes, Path("gone").read_bytes, [(0, 0.9, 1)])  # type: ignore[arg-type]
    page = write_gallery([missing, *hits, missing], [], HOSTILE, tmp_path, HOSTILE[1], kind="search")
    assert page == tmp_path / "search" / "index.html" and [
        failure["path"] for failure in read_data(page)["failures"]
    ] == ["gone"]
    browser.open(page)
    browser.wait(IMAGES_ARE_LOADED)
    assert browser.run("visibleImages.map(({ number }) => number)") == list(range(1, 11))
    assert browser.run("byId('totals').textContent") == "9 images, 10 regions, 9 classes"
    assert browser.run("byId('result-count').textContent") == "10 of 10 regions"
    captions = browser.run(
        "[...document.querySelectorAll('.caption')]"
        ".map((caption) => [...caption.children].map((element) => element.textContent.toWellFormed()))"
    )
    names = [name.encode("utf-8", "surrogateescape").decode("utf-8", "replace") for name in HOSTILE]
    assert captions == [[names[index % 9], f"{0.3 - index % 9 / 100:.3f}"] for index in range(10)]
    left, top, width, height = browser.run(
        "(({ left, top, width, height }) => [left, top, width, height])"
        "(document.querySelector('.frame').getBoundingClientRect())"
    )
    pixels = browser.screenshot()[round(top + height / 2), [round(left + width / 4), round(left + 3 * width / 4)]]
    assert np.abs(pixels - np.array([[255] * 3, [255 / 4 + 64 * 3 / 4] * 3])).max() <= 3
    browser.run("openViewer(1)")
    assert (
        "0.2900" in browser.run("byId('regions').innerText") and browser.run("byId('score').innerText") == "similarity"
    )
    assert browser.errors == []


def test_overlay_follows_the_slider(tmp_path: Path, browser: Browser) -> None:
    browser.open(write_gallery([make_image(0)], [], CLASSES, tmp_path, ""))
    browser.wait(IMAGES_ARE_LOADED)
    colors = class_colors(3)[:2].astype(float)
    for percent in (0, 50, 100):
        browser.run(
            f"""(() => {{
                const slider = document.querySelector(".opacity");
                slider.value = {percent};
                slider.dispatchEvent(new Event("input"));
                return new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)));
            }})()"""
        )
        left, top, width, height = browser.run(
            "(({ left, top, width, height }) => [left, top, width, height])"
            "(document.querySelector('.frame').getBoundingClientRect())"
        )
        pixels = browser.screenshot()[round(top + height / 2), [round(left + width / 4), round(left + 3 * width / 4)]]
        expected = 128 * (1 - percent / 100) + colors * percent / 100
        assert np.abs(pixels - expected).max() <= 3
    assert browser.run("[...document.querySelectorAll('.opacity')].every((slider) => slider.value === '100')")


def test_keyboard_and_viewer(tmp_path: Path, browser: Browser) -> None:
    browser.open(write_gallery(map(make_image, range(300)), [], CLASSES, tmp_path, ""))
    browser.run("byId('sort').value = 'name'; update(); document.querySelector('.tile').focus()")
    focused = "Number(document.activeElement.dataset.index)"
    for key, expected in [("ArrowRight", 1), ("ArrowLeft", 0), ("ArrowLeft", 0), ("End", 299), ("Home", 0)]:
        browser.press(key)
        assert browser.run(focused) == expected
    browser.press("ArrowDown")
    below = browser.run(focused)
    assert below > 1
    browser.press("ArrowUp")
    assert browser.run(focused) == 0
    browser.press("End")
    browser.press("Enter")
    assert browser.run("byId('viewer').open && byId('name').textContent") == "folder/0299"
    cells = browser.run(
        "[...document.querySelectorAll('#regions tr')].map((row) => row.innerText.trim().split(/\\s+/))"
    )
    assert cells == [["something", "else", "<1%", "50%"], ["dog", "90%", "50%"]]
    browser.press("ArrowRight")
    assert browser.run("byId('name').textContent + byId('position').textContent") == "folder/00001 of 300"
    browser.press("ArrowRight")
    browser.press("Escape")
    browser.wait(f"!byId('viewer').open && {focused} === 1")
    assert browser.errors == []


def test_few_tiles_are_in_the_document(tmp_path: Path, browser: Browser) -> None:
    page = write_gallery([make_image(0)], [], CLASSES, tmp_path, "")
    entry = json.dumps(read_data(page)["images"][0])
    data = (page.parent / "data.js").read_text()
    (page.parent / "data.js").write_text(data.replace('"images": [\n', '"images": [\n' + (entry + ",\n") * 4999))
    browser.open(page)
    tiles = "document.querySelectorAll('.tile').length"
    assert browser.run("visibleImages.length") == 5000 and 10 < browser.run(tiles) < 200
    for fraction in (0.3, 1, 0.6, 0):
        browser.run(f"scrollTo(0, {fraction} * document.documentElement.scrollHeight)")
        is_visible = "(({ bottom, top }) => bottom > 0 && top < innerHeight)(tile.getBoundingClientRect())"
        browser.wait(f"[...document.querySelectorAll('.tile')].filter((tile) => {is_visible}).length >= 8")
        assert browser.run(tiles) < 200


@pytest.mark.parametrize("width", [320, 390, 800, 1920])
def test_page_fits_any_width(width: int, tmp_path: Path, browser: Browser) -> None:
    shapes = [(60, 40), (2, 400), (400, 2), (1, 1), (30, 60)] * 4
    images = [make_image(number, HOSTILE[number % 9], *shape) for number, shape in enumerate(shapes)]
    page = write_gallery(images, [GalleryFailure(Path("a" * 300), "decode", "b" * 300)], HOSTILE, tmp_path, "c" * 300)
    browser.open(page, width)
    browser.run("byId('failures').open = byId('legend').open = true")
    assert browser.run("document.documentElement.scrollWidth <= innerWidth")
    for index in range(5):
        browser.run(f"openViewer({index})")
        elements = "[...document.querySelectorAll('dialog *')]"
        overflows = "(element) => element.getBoundingClientRect().right > innerWidth"
        assert not browser.run(f"{elements}.some({overflows})")


def test_empty_run(tmp_path: Path, browser: Browser) -> None:
    browser.open(write_gallery([], [], CLASSES, tmp_path / "none", ""))
    assert browser.run("byId('empty').textContent") == "This run has no labelled images."
    assert browser.run("byId('failures').hidden")
    browser.open(write_gallery([], [GalleryFailure(Path("x"), "decode", "bad")], CLASSES, tmp_path / "failed", ""))
    assert browser.run("byId('failures').open && byId('failures').innerText").split() == [
        "1",
        "image",
        "failed",
        "x",
        "decode",
        "bad",
    ]
    assert browser.errors == []
