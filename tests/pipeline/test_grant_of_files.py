"""A file that is its own teacher is granted minutes as photos are; none of them train."""

from smerf.pipeline import grant
from smerf.pipeline.grant import Start, granted_seconds, plan_run
from smerf.pipeline.rates import Rates
from smerf.teacher.asset import open_asset
from smerf.teacher.asset_capture import write_asset_capture
from smerf.teacher.asset_options import AssetOptions
from tests.helpers import mesh_files as files


def test_minutes_of_a_file_go_to_its_student(tmp_path, monkeypatch):
    # Measured on a busy machine, the time for everything else would be larger.
    monkeypatch.setattr(grant, "measure_rates", lambda *given, **named: Rates(0.01, 0.0, 3e-6, 6e-6))
    (tmp_path / "ball.ply").write_bytes(files.coloured_ply(files.sphere()))
    asset = open_asset(tmp_path / "ball.ply")
    write_asset_capture(asset, AssetOptions(), tmp_path / "capture", count=12, size=24)
    config, plan = plan_run(tmp_path / "capture", 5.0, Start.now(), "cpu", asset=asset)
    assert plan.train_seconds == 0.0 and not [key for key in plan.settings if key.startswith("teacher.")]
    assert 3.0 < config.student.minutes < 5.0
    seconds = granted_seconds(config, trains=False)
    assert seconds["train"] == 0.0 and 240.0 < sum(seconds.values()) <= 300.0
    # A run of photos without a time of its own for training has none to show.
    assert granted_seconds(config) is None
