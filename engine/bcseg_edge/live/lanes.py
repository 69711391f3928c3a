"""How many frames are computed at once, and with how many threads each."""

from __future__ import annotations

from pathlib import Path

from bcseg_edge.backends import AUTO, BACKENDS, PLAN_SUFFIX
from bcseg_edge.cores import usable_cores

CPU_LANES = 2


def plan_lanes(backend: str, model: str, threads: int | None, lanes: int | None) -> tuple[int, int | None]:
    """Lanes of a live run, and threads of each (None leaves them to the backend).

    A network of this size does not scale over cores: on two cores of an AMD EPYC (Zen 4) `edge` takes 32 ms with two
    threads and 48 ms with one. Two frames side by side, a thread each, give 40 results a second instead of 30; the age
    of each grows by 16 ms, and no longer by the wait for a lane. A GPU does one frame at a time.

    Args:
        backend, model: as `load_model` takes them.
        threads: of all lanes together; None: the cores of this machine.
        lanes: None: two on a CPU with two cores or more, else one.
    """
    on_cpu = backend in BACKENDS or (backend == AUTO and Path(model).suffix != PLAN_SUFFIX)
    cores = threads or usable_cores()
    chosen = lanes or (min(CPU_LANES, cores) if on_cpu else 1)
    if not on_cpu or (chosen == 1 and threads is None):
        return chosen, threads
    return chosen, max(1, cores // chosen)
