"""The desktop viewer for a scene of slots: the same shader, and edits with mouse and keys."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from smerf.cli.main import main
from smerf.objects.editing.pack import pack_scene
from smerf.objects.editing.rendering import SlotRenderer
from smerf.objects.editing.slots import save_slots
from smerf.viewer.desktop.slot_view import moved_on_ground
from smerf.viewer.desktop.slots import SlotPainter
from tests.helpers.windows import press, settle
from tests.viewer.test_slot_page import MOVE, SIZE, agree, make, make_lean, picture


@pytest.fixture
def open_slots(display, egl):
    from smerf.viewer.desktop.slot_window import SlotWindow

    egl.release()
    opened = []

    def open_slots(scene, **options):
        opened.append(SlotWindow(scene, size=(96, 80), **options))
        settle(opened[-1])
        return opened[-1]

    yield open_slots
    for window in opened:
        window.close()


def test_frames_agree_with_the_decoder_at_odd_sizes_too(gl):
    model, saved = make([MOVE, {"op": "remove", "slot": 2}])
    painter = SlotPainter(pack_scene(model, saved))
    for size in (SIZE, (30, 25)):
        wanted = picture(model, saved, size)
        found = painter.image(painter.scene.pose, painter.scene.fov, size)
        assert agree(found[..., :3].astype(np.int16), wanted.colour)
        assert (found[..., 3] == wanted.mask.numpy()).mean() > 0.99
    painter.free()


def test_the_sizes_of_gpu_lean_are_drawn_as_the_decoder_draws_them(gl):
    model, saved = make_lean()
    painter = SlotPainter(pack_scene(model, saved))
    found = painter.image(painter.scene.pose, painter.scene.fov, (21, 21))
    assert agree(found[..., :3].astype(np.int16), picture(model, saved, (21, 21)).colour)
    painter.free()


def test_keys_hide_slots_and_a_drag_moves_one_as_edit_does(open_slots, tmp_path):
    model, saved = make()
    window = open_slots(pack_scene(model, saved), output=tmp_path)
    glfw, size = window.glfw, (96, 80)
    whole = picture(model, saved, size)
    assert agree(settle(window), whole.colour)
    press(window, glfw.KEY_1)
    gone = replace(saved, operations=({"op": "remove", "slot": 1},))
    assert agree(settle(window), picture(model, gone, size).colour)
    press(window, glfw.KEY_1)
    assert agree(settle(window), whole.colour)

    background = next(k for k, slot in enumerate(window.scene.slots) if slot.is_background)
    # A place low in the picture, whose ray meets the ground.
    low = torch.nonzero(whole.mask[53:75] != background)
    row, column = (int(x) for x in low[len(low) // 2])
    row, owner = row + 53, int(whole.mask[row + 53, column])
    points = [(column + 0.5, row + 0.5), (column + 5.5, row + 3.5)]
    rays = [window.viewer.ray(x / size[0], y / size[1]) for x, y in points]
    shift = moved_on_ground(window.viewer.controls.pose[:, 3], *rays)
    assert np.linalg.norm(shift) > 0.05
    window.glfw.set_cursor_pos(window.window, *points[0])
    window.on_button(glfw.MOUSE_BUTTON_LEFT, glfw.PRESS, glfw.MOD_CONTROL)
    window._pointer = points[0]
    window._dragged = window.viewer.owner_at(*window._place(*points[0]))
    assert window._dragged == owner
    window.on_pointer(column + 2.5, row + 1.5)
    window.on_pointer(*points[1])
    window.on_button(glfw.MOUSE_BUTTON_LEFT, glfw.RELEASE, 0)
    moved = replace(saved, operations=({"op": "move", "slot": owner + 1, "translate": shift.tolist()},))
    assert agree(settle(window), picture(model, moved, size).colour)

    press(window, glfw.KEY_S, glfw.MOD_CONTROL)
    [operation] = json.loads((tmp_path / "edits_001.json").read_text())
    assert operation["op"] == "move" and operation["slot"] == owner + 1
    assert np.allclose(operation["translate"], shift, atol=1e-6)
    press(window, glfw.KEY_U)
    assert agree(settle(window), whole.colour)


def test_the_last_slot_stays(open_slots):
    window = open_slots(pack_scene(*make()))
    window.viewer.highlight = 0
    for key in (window.glfw.KEY_H, window.glfw.KEY_2, window.glfw.KEY_3, window.glfw.KEY_4):
        press(window, key)
    assert window.viewer.edits.hidden == {0, 1, 2}
    assert "must stay" in window._notice[0]


def test_the_command_draws_slots_without_a_window(egl, tmp_path, capsys, monkeypatch):
    model, saved = make([MOVE])
    monkeypatch.setattr("smerf.objects.model.store.load_model", lambda path, device: (model, {}))
    save_slots(replace(saved, where="shipped"), tmp_path / "slots.safetensors")
    words = ["view", tmp_path / "slots.safetensors", "--offscreen", "--size", f"{SIZE[0]}x{SIZE[1]}"]
    assert main([*map(str, words), "--screenshot", str(tmp_path / "view.png")]) == 0
    found = np.asarray(Image.open(tmp_path / "view.png"), np.int16)
    wanted = SlotRenderer(model, saved).render(saved.cameras[0], (SIZE[1], SIZE[0]))
    assert agree(found, wanted.colour)
    assert main([*map(str, words)]) == 2
    assert "--screenshot" in capsys.readouterr().err
