"""Damaged video files: a clear error or the frames that are left, never a hang, never a crash.

`BCSEG_FUZZ=3000 pytest tests/engine/test_video_fuzz.py` tries as many as you have time for.
"""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest

from tests.engine.test_sources import write_video

FILES = int(os.environ.get("BCSEG_FUZZ", "120"))
SECONDS_A_FILE = 5
# In a process of its own: a decoder that crashes takes its process with it, and the last line tells on which file.
READ = """
import sys, time
from pathlib import Path
from bcseg_edge.errors import SourceError
from bcseg_edge.sources import open_source

for line in sys.stdin:
    path = Path(line.strip())
    print(path.name, flush=True)
    began = time.monotonic()
    try:
        with open_source(str(path)) as source:
            for index, frame in enumerate(source):
                assert frame.index == index and frame.image.ndim == 3, frame
                assert index < 1000, "endless"
    except SourceError as error:
        assert error.message and error.hint
    took_s = time.monotonic() - began
    assert took_s < SECONDS, f"{took_s:.1f} s"
print("done")
"""


def damaged(data, rng):
    """One of the ways in which files break."""
    broken = bytearray(data)
    way = rng.integers(4)
    if way == 0:  # cut
        return bytes(broken[: rng.integers(1, len(broken))])
    if way == 1:  # single bytes, as a bad cable or memory leaves them
        for place in rng.integers(0, len(broken), rng.integers(1, 40)):
            broken[place] = rng.integers(256)
    elif way == 2:  # a block lost
        first = rng.integers(len(broken))
        size = rng.integers(1, 600)
        broken[first : first + size] = bytes(len(broken[first : first + size]))
    else:  # the header, where sizes and counts stand
        for place in rng.integers(0, min(512, len(broken)), 8):
            broken[place] = rng.choice([0, 1, 127, 128, 255])
    return bytes(broken)


@pytest.mark.parametrize(("suffix", "fourcc"), [(".mp4", "mp4v"), (".avi", "MJPG")])
def test_damaged_videos(tmp_path, suffix, fourcc):
    rng = np.random.default_rng(int.from_bytes(fourcc.encode(), "little"))
    whole = write_video(tmp_path / f"whole{suffix}", frames=12, fourcc=fourcc).read_bytes()
    paths = []
    for number in range(FILES // 2):
        paths.append(tmp_path / f"{number}{suffix}")
        paths[-1].write_bytes(damaged(whole, rng))
    quiet = {**os.environ, "OPENCV_LOG_LEVEL": "SILENT", "OPENCV_FFMPEG_LOGLEVEL": "-8"}
    done = subprocess.run(
        [sys.executable, "-c", READ.replace("SECONDS", str(SECONDS_A_FILE))],
        input="\n".join(map(str, paths)),
        capture_output=True,
        text=True,
        errors="replace",
        check=False,
        env=quiet,
        timeout=60 + SECONDS_A_FILE * len(paths),
    )
    assert done.returncode == 0, done.stdout[-200:] + done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "done"
