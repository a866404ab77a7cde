"""Labels as files, from what ``read_labels`` returns."""

import json

import numpy as np


def write_stored(folder, labels):
    """Write ``labels.json`` and ``volume.npz``."""
    folder.mkdir(exist_ok=True)
    document = {"format": "smerf-labels-1", "capture": labels.capture, "objects": list(labels.objects)}
    (folder / "labels.json").write_text(json.dumps(document))
    np.savez(
        folder / "volume.npz",
        origin=labels.grid.origin,
        voxel=labels.grid.size,
        keys=labels.keys,
        id=labels.ids,
        votes=np.ones(len(labels.ids)),
    )
