"""smerf info on photos, videos, preparations and the single files of a run."""

import json
import shutil

from benchmarks.common import ROOT
from tests.helpers.corner import texture


def test_info_knows_photos_and_what_was_made_of_them(smerf, data, tmp_path):
    def said(path):
        code, out, err = smerf("info", path, "--json")
        return (json.loads(out)["what"], json.loads(out).get("next", "")) if code == 0 else (code, err)

    photos = tmp_path / "photos"
    photos.mkdir()
    for seed in range(3):
        texture(seed, 64).save(photos / f"{seed}.jpg")
    assert said(photos)[0] == "photos without poses" and "take more photos" in said(photos)[1]
    assert said(next(photos.iterdir()))[0] == "photo"
    shutil.copytree(photos, photos / "masks")
    assert said(photos / "masks") == ("masks (black is ignored)", f"smerf run {photos} uses them")
    assert json.loads(smerf("info", photos, "--json")[1])["masks"] == len(list((photos / "masks").iterdir()))
    (tmp_path / "empty").mkdir()
    assert said(tmp_path / "empty")[0] == 4 and "is empty" in said(tmp_path / "empty")[1]
    (tmp_path / "notes.txt").write_text("notes")
    assert said(tmp_path / "notes.txt")[0] == 4
    smerf("train", data, "-o", tmp_path / "run")
    for name in ("config.yaml", "capture.json", "log.txt"):
        assert said(tmp_path / "run" / name)[1] == f"smerf info {tmp_path / 'run'}"
    results = min((ROOT / "benchmarks" / "results").glob("*.json"))
    assert said(results)[0] == "results of a benchmark"


def test_info_says_how_a_preparation_went(smerf, tmp_path):
    folder = tmp_path / "capture" / "prepare"
    folder.mkdir(parents=True)
    (folder / "key").write_text("key")
    assert "continues it" in json.loads(smerf("info", folder.parent, "--json")[1])["next"]
    finding = {"kind": "overlap", "cause": "They share too little.", "numbers": "", "advice": "Take more."}
    verdict = {"state": "failed", "registered": 2, "total": 9, "findings": [finding]}
    (folder / "prepare.json").write_text(json.dumps({"verdict": verdict, "seconds": 12.0}))
    for path in (folder.parent, folder, folder / "prepare.json"):
        facts = json.loads(smerf("info", path, "--json")[1])
        assert (facts["verdict"], facts["photos posed"], facts["next"]) == ("failed", "2 of 9", "Take more.")
