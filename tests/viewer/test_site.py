"""Exported sites and the local server."""

from __future__ import annotations

import urllib.error
import urllib.request

import numpy as np
import pytest

from smerf.errors import InvalidDataError, UsageError
from smerf.export.serve import SceneServer
from smerf.export.site import export_site
from tests.helpers.tiny_scene import look_at, make_scene, write_manifest, write_submodel

START = look_at([0.3, -2.2, 0.5], [0, 0, 0])


@pytest.fixture
def scene_dir(tmp_path):
    root = tmp_path / "run" / "baked"
    write_submodel(root / "sm_000", make_scene())
    camera = {"world_from_cam": START[:3].tolist(), "fov_degrees": 45}
    write_manifest(root, start=camera)
    return root


def fetch(url, **headers):
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers)) as response:
        return response.status, response.headers, response.read()


def test_a_site_opens_at_the_start_camera_without_parameters(visit, scene_dir, tmp_path):
    index = export_site(scene_dir, tmp_path / "site", title="Flat & hall")
    assert index == tmp_path / "site" / "index.html"
    page = visit(tmp_path / "site").ready()
    assert page.page.title() == "Flat & hall"
    assert np.allclose(page.camera(), START)
    assert page.page.evaluate("smerf.getCamera().fovDegrees") == 45
    assert page.frame()[36, 48, 0] > 100
    stats = page.page.evaluate("smerf.stats()")
    assert stats["loadedBytes"] == stats["totalBytes"]
    assert page.errors == []


def test_a_single_file_opens_offline_with_the_same_picture(visit, scene_dir, tmp_path):
    export_site(scene_dir, tmp_path / "site")
    single = export_site(scene_dir, tmp_path / "one.html", single_file=True)
    frames = []
    for page in (visit(tmp_path / "site", "ui=0"), visit(single.as_uri(), "ui=0&dpr=1")):
        frames.append(page.ready().frame())
        assert page.errors == []
    assert np.array_equal(*frames)


def test_every_page_carries_the_licence(scene_dir, tmp_path):
    site = export_site(scene_dir, tmp_path / "site").parent
    single = export_site(scene_dir, tmp_path / "one.html", single_file=True)
    for text in ((site / "viewer" / "LICENSE").read_text(), single.read_text()):
        assert "Apache License" in text and "END OF TERMS AND CONDITIONS" in text


def test_export_replaces_its_own_site_but_nothing_else(scene_dir, tmp_path):
    export_site(scene_dir, tmp_path / "site")
    (tmp_path / "site" / "stale.txt").write_text("old")
    export_site(scene_dir, tmp_path / "site")
    assert not (tmp_path / "site" / "stale.txt").exists()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "letter.txt").write_text("keep")
    with pytest.raises(UsageError, match="mine"):
        export_site(scene_dir, tmp_path / "mine")
    assert (tmp_path / "mine" / "letter.txt").read_text() == "keep"


def test_export_notices_a_changed_asset_and_leaves_the_old_site(scene_dir, tmp_path):
    export_site(scene_dir, tmp_path / "site")
    asset = scene_dir / "sm_000" / "plane_rgb_1.raw.gz"
    data = bytearray(asset.read_bytes())
    data[-20] ^= 1
    asset.write_bytes(data)
    with pytest.raises(InvalidDataError, match="plane_rgb_1"):
        export_site(scene_dir, tmp_path / "site")
    assert (tmp_path / "site" / "index.html").is_file()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run", "site"]


def test_export_of_a_folder_without_a_scene_says_what_is_missing(tmp_path):
    with pytest.raises(InvalidDataError, match="scene_params"):
        export_site(tmp_path, tmp_path / "site")


def test_server_types_ranges_and_plain_names_of_compressed_files(scene_dir, tmp_path):
    export_site(scene_dir, tmp_path / "site")
    with SceneServer(tmp_path / "site") as server:
        assert fetch(server.url)[1]["Content-Type"].startswith("text/html")
        assert fetch(f"{server.url}viewer/main.js")[1]["Content-Type"].startswith("text/javascript")
        plain = f"{server.url}baked/sm_000/plane_rgb_0.raw"
        status, headers, stored = fetch(f"{plain}.gz")
        assert status == 200 and headers["Content-Encoding"] is None
        assert fetch(plain)[1]["Content-Encoding"] == "gzip" and fetch(plain)[2] == stored
        status, headers, part = fetch(f"{plain}.gz", Range="bytes=2-5")
        assert status == 206 and part == stored[2:6]
        assert headers["Content-Range"] == f"bytes 2-5/{len(stored)}"
        assert fetch(f"{plain}.gz", Range="bytes=-3")[2] == stored[-3:]
        for wrong in (
            "baked/none.raw",
            "..%2f..%2frun/baked/manifest.json",
            "baked/../../run/baked/manifest.json",
        ):
            with pytest.raises(urllib.error.HTTPError, match="404"):
                fetch(server.url + wrong)


def test_server_takes_the_next_free_port(scene_dir):
    with SceneServer(scene_dir) as first:
        port = int(first.url.rsplit(":", 1)[1].strip("/"))
        with SceneServer(scene_dir, port=port) as second:
            assert second.url != first.url
            assert fetch(f"{second.url}baked/manifest.json")[0] == 200


def test_server_needs_a_folder(tmp_path):
    with pytest.raises(UsageError, match="nothing"):
        SceneServer(tmp_path / "nothing")
