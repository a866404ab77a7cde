"""What the page does not trust: damaged files, foreign scenes, links, hosts, embedding pages; and what it says then."""

from __future__ import annotations

import base64
import gzip
import hashlib
import http.server
import json
import re
import threading
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image

from smerf.export.site import export_site
from smerf.export.viewer_files import viewer_root
from tests.helpers.tiny_scene import look_at, make_scene, write_manifest, write_submodel


@pytest.fixture
def scene_dir(tmp_path):
    root = tmp_path / "run" / "baked"
    write_submodel(root / "sm_000", make_scene(), extension="png")
    write_manifest(root)
    return root


@pytest.fixture
def site(scene_dir, tmp_path):
    return export_site(scene_dir, tmp_path / "site").parent


def alert(page) -> str:
    """Wait for the error card and return its text."""
    page.page.locator("[role=alert]").wait_for()
    return page.message()


def flip_a_byte(path: Path) -> None:
    """Change one pixel of a PNG without changing anything else about it."""
    with Image.open(path) as image:
        pixels = np.array(image)
    pixels.reshape(-1)[0] ^= 1
    Image.fromarray(pixels).save(path)


class Host(http.server.SimpleHTTPRequestHandler):
    """A static host that lets other pages read its files; ``Compressing`` compresses them on the way."""

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        path = Path(self.translate_path(self.path))
        if not path.is_file():
            self.send_error(404)
            return
        self.answer(path.read_bytes(), {})

    def answer(self, data, headers):
        self.send_response(200)
        for name, value in {
            "Access-Control-Allow-Origin": "*",
            "Content-Length": len(data),
            **headers,
        }.items():
            self.send_header(name, str(value))
        self.end_headers()
        self.wfile.write(data)


class Compressing(Host):
    def answer(self, data, headers):
        super().answer(gzip.compress(data), {"Content-Encoding": "gzip", **headers})


@pytest.fixture
def host():
    """Serve a folder from another origin; returns its address."""
    servers = []

    def host(folder, handler=Host):
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}/"

    yield host
    for server in servers:
        server.shutdown()
        server.server_close()


# Pages that cannot start


def test_a_page_opened_by_a_double_click_says_what_it_needs(visit, site):
    page = visit((site / "index.html").as_uri())
    assert "needs a web server" in alert(page) and "smerf serve" in page.message()
    assert "--single-file" in page.message()


@pytest.mark.parametrize("part", ["viewer/loop.js", "viewer/main.js", "viewer/style.css"])
def test_a_part_that_does_not_arrive_is_told_and_loaded_again(visit, site, part):
    page = visit(site, size=(400, 300)).ready()
    page.page.route(f"**/{part}", lambda route: route.abort())
    page.page.reload()
    assert "could not be loaded" in alert(page)
    page.page.unroute(f"**/{part}")
    with page.page.expect_navigation():
        page.page.get_by_role("button", name="Reload").click()
    page.ready()
    assert page.page.locator("[role=alert]").is_hidden()


@pytest.mark.parametrize("scheme", ["dark", "light"])
def test_colours_are_those_of_the_visitor_before_the_scene_is_there(visit, site, scheme):
    page = visit(site, color_scheme=scheme)
    held = []
    page.page.route("**/viewer/main.js", lambda route: held.append(route))
    page.page.reload(wait_until="commit")
    shade = "(document.body ? getComputedStyle(document.body).backgroundColor : 'rgba(0, 0, 0, 0)')"
    page.page.wait_for_function(f"{shade} !== 'rgba(0, 0, 0, 0)'")
    found = page.page.evaluate(shade)
    brightness = np.mean([int(value) for value in re.findall(r"\d+", found)[:3]])
    assert brightness < 40 if scheme == "dark" else brightness > 200
    for route in held:
        route.continue_()


# Links


@pytest.mark.parametrize(
    "query", ["quality=ultra", "fov=900", "bg=red", "mode=crawl", "up=0,0,0", "size=9,0", "theme=pink"]
)
def test_a_wrong_parameter_is_told_and_the_page_goes_on(visit, site, query):
    page = visit(site, query, size=(400, 300)).ready()
    notice = page.page.locator("#notice").text_content()
    assert query in notice and "must be" in notice
    assert page.page.locator("[role=alert]").is_hidden()
    assert page.page.evaluate("smerf.stats().status") == "full"


@pytest.mark.parametrize("view", ["#pos=1,2", "#pos=1,1,1&look=1,1,1"])
def test_a_wrong_view_is_told_and_the_page_goes_on(visit, site, view):
    page = visit(site, size=(400, 300)).ready()
    page.page.goto("about:blank")
    page.page.goto(f"{page.address}{view}")
    page.ready()
    assert "must be" in page.page.locator("#notice").text_content()


def test_the_pixels_of_the_canvas_are_limited(visit, site):
    page = visit(site, "dpr=8").ready()
    assert page.page.evaluate("smerf.stats().width") == 4 * 96
    assert "dpr=8" in page.page.locator("#notice").text_content()


# Files


@pytest.mark.parametrize("name", ["plane_rgb_1.png", "sparse_grid_block_indices.png"])
def test_a_changed_file_is_named_instead_of_drawn(visit, site, name):
    flip_a_byte(site / "baked" / "sm_000" / name)
    page = visit(site)
    message = alert(page)
    assert f"sm_000/{name}" in message and "SHA-256" in message
    assert page.page.evaluate("smerf.stats().status") == "loading"


def test_a_changed_network_is_named(visit, site):
    path = site / "baked" / "sm_000" / "deferred_mlp.json"
    path.write_text(path.read_text().replace("-2.5", "-1.5"))
    assert "deferred_mlp.json" in alert(visit(site))


def test_a_file_that_arrives_wrong_once_is_fetched_again(visit, site):
    page = visit(site, "ui=0").ready()
    right = page.frame()
    asked = []

    def once(route):
        asked.append(route.request.url)
        if len(asked) > 1:
            return route.continue_()
        other = (site / "baked" / "sm_000" / "plane_rgb_0.png").read_bytes()
        return route.fulfill(body=other, content_type="image/png")

    page.page.route("**/sm_000/plane_rgb_1.png", once)
    page.page.reload()
    page.ready()
    assert len(asked) == 2 and np.array_equal(page.frame(), right)


def test_hashes_are_the_same_with_and_without_the_browsers_own(visit, scene_dir):
    page = visit(scene_dir)
    for size in (0, 1, 55, 56, 63, 64, 119, 120, 70_000):
        found = page.page.evaluate(
            """async (size) => {
              const { digest, sha256 } = await import("/viewer/web/sha256.js");
              const bytes = new Uint8Array(size).map((_, i) => (7919 * i) & 255);
              const own = new Uint8Array((await digest(bytes)).buffer);
              return [[...own].map((byte) => byte.toString(16).padStart(2, "0")).join(""), await sha256(bytes)];
            }""",
            size,
        )
        expected = hashlib.sha256(bytes((7919 * i) & 255 for i in range(size))).hexdigest()
        assert found == [expected, expected]


def test_an_image_of_other_sides_is_refused(visit, tmp_path):
    root = tmp_path / "baked"
    write_submodel(root / "sm_000", make_scene(), extension="png")
    path = root / "sm_000" / "sparse_grid_rgb_000.png"
    with Image.open(path) as image:
        pixels = np.asarray(image)
    Image.fromarray(np.ascontiguousarray(pixels.reshape(pixels.shape[1], pixels.shape[0], 3))).save(path)
    assert "sparse_grid_rgb_000.png" in alert(visit(root)) and pixels.shape[0] != pixels.shape[1]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("activation", "gelu"), ("range_density", [14, -14]), ("range_features", [0]), ("num_slices", 1.5),
        ("triplane_resolution", 10**9), ("export_array_format", "../x"), ("deferred_rendering_mode", "nerf"),
    ],
)  # fmt: skip
def test_impossible_parameters_are_refused_by_file_and_name(visit, tmp_path, key, value):
    write_submodel(tmp_path / "sm_000", make_scene(**{key: value} if key != "export_array_format" else {}))
    path = tmp_path / "sm_000" / "scene_params.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    message = alert(visit(tmp_path))
    assert "sm_000/scene_params.json" in message and key in message


def test_a_network_of_the_wrong_length_is_refused_by_name(visit, tmp_path):
    write_submodel(tmp_path / "sm_000", make_scene())
    path = tmp_path / "sm_000" / "deferred_mlp.json"
    network = json.loads(path.read_text())
    network["ResampleDense_1/kernel"]["data"].pop()
    path.write_text(json.dumps(network))
    message = alert(visit(tmp_path))
    assert "deferred_mlp.json" in message and "ResampleDense_1/kernel" in message


def test_text_of_a_scene_is_never_markup(visit, tmp_path):
    root = tmp_path / "baked"
    write_submodel(root / "sm_000", make_scene())
    text = "<img src=x onerror='globalThis.isRun = true'>"
    lens = {
        "model": "PINHOLE",
        "width": 80,
        "height": 60,
        "fx": 80,
        "fy": 80,
        "cx": 40,
        "cy": 30,
        "distortion": [],
    }
    pose = look_at([0, -2, 0], [0, 0, 0])[:3].tolist()
    write_manifest(
        root, cameras=[{"name": text, "split": "train", "world_from_cam": pose, "intrinsics": lens}]
    )
    page = visit(root, size=(700, 400)).ready()
    page.page.click("#button-photos")
    page.page.click("#photo-list button")
    assert text in page.page.locator("#photo-name").inner_text()
    assert page.page.evaluate("document.querySelectorAll('img[src=x]').length") == 0
    assert page.page.evaluate("globalThis.isRun") is None


# Hosts


def test_a_scene_of_a_host_that_compresses_opens(visit, site, host):
    page = visit(site, "ui=0").ready()
    expected = page.frame()
    other = visit(site, f"ui=0&dir={host(site / 'baked', Compressing)}").ready()
    assert np.array_equal(other.frame(), expected)


def test_a_page_loads_from_another_host_only_where_its_own_host_allows_it(visit, site):
    def serve(route):
        path = site / "baked" / urlsplit(route.request.url).path.lstrip("/")
        route.fulfill(body=path.read_bytes(), headers={"Access-Control-Allow-Origin": "*"})

    page = visit(site)
    page.page.route("http://scenes.example/**", serve)
    page.page.goto(f"{page.address}&dir=http://scenes.example/")
    assert "http://scenes.example" in alert(page) and "connect-src" in page.message()
    index = site / "index.html"
    index.write_text(
        index.read_text().replace("connect-src 'self'", "connect-src 'self' http://scenes.example")
    )
    page.page.reload()
    page.ready()
    assert page.page.evaluate("smerf.stats().status") == "full"


def test_the_policy_names_the_inline_script_and_nothing_else():
    text = (viewer_root() / "web" / "index.html").read_text(encoding="utf-8")
    policy = re.search(r'http-equiv="Content-Security-Policy" content="([^"]*)"', text)[1]
    directives = {words[0]: words[1:] for words in (part.split() for part in policy.split(";"))}
    assert directives["default-src"] == ["'none'"] and directives["script-src"][0] == "'self'"
    assert not {"'unsafe-inline'", "'unsafe-eval'", "*"} & set(directives["script-src"])
    inline = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    assert len(inline) == 1 and not re.search(r"<[^>]*\son\w+=", text)
    digest = base64.b64encode(hashlib.sha256(inline[0].encode()).digest()).decode()
    assert directives["script-src"][1:] == [f"'sha256-{digest}'"]


def test_a_script_that_is_not_the_pages_own_does_not_run(visit, site):
    page = visit(site).ready()
    page.page.evaluate(
        """() => {
          const script = document.createElement("script");
          script.textContent = "globalThis.isRun = true";
          document.body.append(script);
        }"""
    )
    assert page.page.evaluate("globalThis.isRun") is None
    assert any("Content Security Policy" in error for error in page.errors)


# Embedding pages

ASK = """async ([address, verbs]) => {
  const frame = document.createElement("iframe");
  const opened = new Promise((done) => addEventListener("message", ({ data }) => data.smerf === "opened" && done()));
  frame.src = address;
  document.body.append(frame);
  await opened;
  const ask = (verb, args, id) => new Promise((done) => {
    addEventListener("message", ({ data }) => data.id === id && done(data));
    frame.contentWindow.postMessage({ smerf: verb, args, id }, "*");
  });
  const answers = {};
  for (const [i, [verb, ...args]] of verbs.entries()) {
    const { result, error } = await ask(verb, args, i);
    answers[verb] = error ?? (result instanceof Blob ? "an image" : result);
  }
  return answers;
}"""


def test_pages_of_other_hosts_steer_but_do_not_read_images(visit, site, host, tmp_path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "index.html").write_text("<!doctype html><title>host</title><body>")
    embedder = visit(f"{host(tmp_path / 'elsewhere')}index.html")
    address = visit(site).ready().address
    verbs = [
        ["setMode", "fly"],
        ["setQuality", "ultra"],
        ["picture"],
        ["benchmark", {"defines": {"COUNT": 1}}],
    ]
    answers = embedder.page.evaluate(ASK, [address, verbs])
    assert answers["setMode"] is None and "must be one of" in answers["setQuality"]
    for verb in ("picture", "benchmark"):
        assert "smerf-embedders" in answers[verb]
    origin = embedder.page.evaluate("location.origin")
    index = site / "index.html"
    index.write_text(
        index.read_text().replace('"smerf-embedders" content=""', f'"smerf-embedders" content="{origin}"')
    )
    assert embedder.page.evaluate(ASK, [address, [["picture"]]])["picture"] == "an image"
