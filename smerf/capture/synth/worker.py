"""Rendering in several processes: ``python -m smerf.capture.synth.worker`` takes every n-th view of a job.

Threads do not help here, because NumPy holds the interpreter lock while it gathers; and starting a module by
name works wherever the caller lives (a script without a main guard, a notebook, after threads were started).
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from queue import SimpleQueue

import numpy as np

from smerf.capture.synth.describe import load_scene_spec
from smerf.capture.synth.render import Lens, LitScene, light_scene, relight_scene, render_view
from smerf.capture.synth.rigs import rig_poses
from smerf.capture.synth.write import write_view
from smerf.errors import SmerfError

__all__ = ["Job", "render_job"]

# Less than this many pixels in all are rendered sooner than a second process starts.
SMALL_JOB = 1_000_000


@dataclass(frozen=True)
class Job:
    """What to render: ``scene`` as for ``render_capture``, all sizes resolved."""

    scene: str
    output: str
    views: int
    width: int
    height: int
    seed: int

    @property
    def coarse(self) -> bool:
        """Say whether images are so small that a coarse lighting mesh does."""
        return self.width * self.height < 100 * 100

    @property
    def cell_scale(self) -> float:
        """Return the factor on the edges of the lighting mesh."""
        return 4.0 if self.coarse else 1.0


def cpu_count() -> int:
    """Return how many CPUs this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else (os.cpu_count() or 1)


def render_job(job: Job, progress: Callable[[int, int], None] | None) -> LitScene:
    """Bake the light, write every view, return the lit scene. Results do not depend on the CPU count."""
    workers = min(cpu_count(), job.views, 32)
    spec = load_scene_spec(job.scene)
    lit = light_scene(spec, job.seed, workers, rays=16 if job.coarse else 81, cell_scale=job.cell_scale)
    if progress:
        progress(0, job.views)
    if workers == 1 or job.views * job.width * job.height < SMALL_JOB:
        for done, index in enumerate(range(job.views), start=1):
            _shoot(job, lit, index)
            if progress:
                progress(done, job.views)
    else:
        _render_in_processes(job, lit, workers, progress)
    return lit


def _shoot(job: Job, lit: LitScene, index: int) -> None:
    lens = Lens.from_fov(job.width, job.height, lit.spec.rig.fov)
    pose = rig_poses(lit.spec.rig, job.views)[index]
    view = render_view(lit, pose, lens, np.random.default_rng([job.seed, index]))
    write_view(Path(job.output), index, view)


def _render_in_processes(
    job: Job, lit: LitScene, workers: int, progress: Callable[[int, int], None] | None
) -> None:
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(p or os.getcwd() for p in sys.path)}
    environment.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory(prefix="smerf_synth_") as folder:
        np.save(Path(folder) / "irradiance.npy", lit.irradiance)
        (Path(folder) / "job.json").write_text(json.dumps(asdict(job)), encoding="utf-8")
        command = [sys.executable, "-m", "smerf.capture.synth.worker", folder]
        processes = [
            subprocess.Popen(
                [*command, str(k), str(workers)],
                env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            )
            for k in range(workers)
        ]  # fmt: skip
        finished: SimpleQueue[int | None] = SimpleQueue()

        def follow(process: subprocess.Popen) -> str:
            """Pass on each line of a worker, then say that it ended; returns its error text."""
            assert process.stdout is not None and process.stderr is not None
            for line in process.stdout:
                finished.put(int(line))
            errors = process.stderr.read()
            process.wait()
            finished.put(None)
            return errors

        try:
            with ThreadPoolExecutor(workers) as pool:
                followers = [pool.submit(follow, process) for process in processes]
                try:
                    _count(finished, workers, job.views, progress)
                except BaseException:
                    for process in processes:
                        process.kill()
                    raise
                for process, follower in zip(processes, followers):
                    if process.returncode != 0:
                        text = follower.result().strip().splitlines() or ["no message"]
                        raise SmerfError(f"rendering '{job.scene}' failed in a worker: {text[-1]}")
        finally:
            for process in processes:
                for pipe in (process.stdout, process.stderr):
                    if pipe is not None:
                        pipe.close()


def _count(
    finished: SimpleQueue, workers: int, total: int, progress: Callable[[int, int], None] | None
) -> None:
    running, done = workers, 0
    while running:
        if finished.get() is None:
            running -= 1
            continue
        done += 1
        if progress:
            progress(done, total)


def main(folder: str, first: int, step: int) -> None:
    """Render views ``first``, ``first + step``, ... of the job in ``folder``, printing each when done."""
    job = Job(**json.loads((Path(folder) / "job.json").read_text(encoding="utf-8")))
    irradiance = np.load(Path(folder) / "irradiance.npy", allow_pickle=False)
    lit = relight_scene(load_scene_spec(job.scene), irradiance, job.cell_scale)
    for index in range(first, job.views, step):
        _shoot(job, lit, index)
        print(index, flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
