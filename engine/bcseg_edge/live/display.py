"""The window: what the page shows, for a screen at the cart."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Protocol

import cv2
import numpy as np

from bcseg_edge.drawing import TINT_OPACITY, draw_crop, draw_overlay
from bcseg_edge.errors import BackendUnavailable
from bcseg_edge.frames import UInt8Array
from bcseg_edge.live.results import Controls, Health, LiveResult, Validity

STALLED_S = 1.5
SILENT_S = 5.0  # without the health, which comes each second, nothing is shown as current
_TITLE = "bcseg-edge  [f]reeze  [s]napshot  [o]verlay  [+/-] opacity  [q]uit"
_KEY_WAIT_MS = 15
# Words and colours (BGR) as on the page; dark text on the light ones.
_BANNERS: dict[str, tuple[str, tuple[int, int, int], tuple[int, int, int]]] = {
    "ok": ("LIVE", (75, 102, 0), (255, 255, 255)),
    "frozen": ("SCANNER FROZEN", (233, 180, 86), (27, 18, 6)),
    "held": ("VIEW FROZEN: press f to resume", (233, 180, 86), (27, 18, 6)),
    "blank": ("NO IMAGE", (94, 84, 74), (255, 255, 255)),
    "stale": ("TOO LATE: no mask", (66, 228, 240), (0, 26, 28)),
    "stalled": ("STANDING STILL: not live", (66, 228, 240), (0, 26, 28)),
    "lost": ("NO SIGNAL: last image", (0, 63, 166), (255, 255, 255)),
}


class Screen(Protocol):
    """Where pictures are shown and keys come from."""

    def show(self, picture: UInt8Array) -> None:
        """Show uint8 `[H, W, 3]` BGR."""

    def key(self) -> str:
        """The key that was pressed, empty where none was; waits some milliseconds."""

    def is_open(self) -> bool:
        """False once the person closed it."""

    def close(self) -> None:
        """Close it."""


class DisplaySink:
    """A `LiveSink` that shows the newest result in a window, from a thread of its own.

    Args:
        controls: get what is pressed.
        lossless: the source's images come one by one and do not grow old: a result stays until the next.
        open_screen: opens the window, in the thread that will use it.

    Raises:
        BackendUnavailable: this OpenCV has no windows, or there is no screen.
    """

    def __init__(
        self, controls: Controls, open_screen: Callable[[], Screen] | None = None, *, lossless: bool = False
    ) -> None:
        if open_screen is None:
            require_windows()
        self._open_screen = open_screen or _CvWindow
        self._controls = controls
        self._lossless = lossless
        self._newest: tuple[LiveResult, float] | None = None  # and when it was first shown, s
        self._alive_s = time.monotonic()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self.problems: list[str] = []
        self._thread = threading.Thread(target=self._run, name="bcseg-display", daemon=True)
        self._thread.start()

    def write(self, result: LiveResult) -> None:
        """Leave a result for the window."""
        with self._lock:
            self._alive_s = time.monotonic()
            if self._newest is None or self._newest[0] is not result:
                self._newest = (result, self._alive_s)

    def update(self, health: Health) -> None:
        """The page shows the health; to the window it says that the loop goes on."""
        with self._lock:
            self._alive_s = time.monotonic()

    def close(self) -> None:
        """Close the window; a second call does nothing."""
        self._closing.set()
        self._thread.join(5)

    def _run(self) -> None:
        try:
            screen = self._open_screen()
        except cv2.error as error:
            self.problems.append(f"the window could not be opened: {error.err}")
            return
        try:
            self._show(screen, Keys(self._controls))
        except cv2.error as error:
            self.problems.append(f"the window was lost: {error.err}")
        finally:
            screen.close()

    def _show(self, screen: Screen, keys: Keys) -> None:
        shown: object = None
        while not self._closing.is_set():
            with self._lock:
                newest, alive_s = self._newest, self._alive_s
            if newest is not None:
                result, shown_s = newest
                held, now_s = self._controls.freeze.is_set(), time.monotonic()
                stays = (self._lossless or held) and now_s - alive_s < SILENT_S
                state = state_of(result, held, 0.0 if stays else now_s - shown_s)
                look = (id(result), state, keys.opacity, keys.overlay)
                if look != shown:
                    screen.show(render(result, state, keys.opacity if keys.overlay else None))
                    shown = look
            keys.press(screen.key())
            if not screen.is_open():
                self._controls.quit.set()
                return


class Keys:
    """What the keys do.

    Attributes:
        opacity: of the tint, 0 to 1.
        overlay: whether anything is drawn over the image.
    """

    STEP = 0.05

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self.opacity = TINT_OPACITY
        self.overlay = True

    def press(self, key: str) -> None:
        """Act on a key; unknown ones do nothing."""
        controls = self._controls
        if key == "f":
            controls.freeze.clear() if controls.freeze.is_set() else controls.freeze.set()
        elif key == "s":
            controls.snapshot.set()
        elif key == "o":
            self.overlay = not self.overlay
        elif key in ("+", "=", "]"):
            self.opacity = min(1.0, self.opacity + self.STEP)
        elif key in ("-", "["):
            self.opacity = max(0.0, self.opacity - self.STEP)
        elif key in ("q", "\x1b"):
            controls.quit.set()


def state_of(result: LiveResult, held: bool, waited_s: float) -> str:
    """What the banner says: a validity, `held`, or `stalled` where nothing new came for too long."""
    if waited_s > STALLED_S and result.validity is not Validity.LOST:
        return "stalled"
    return "held" if held and result.segmentation is not None else result.validity.value


def render(result: LiveResult, state: str, opacity: float | None) -> UInt8Array:
    """The picture: a banner with the state, below it the image with what was found in it.

    Args:
        result: what to show.
        state: from `state_of`; only `ok`, `frozen` and `held` show a mask.
        opacity: of the tint, 0 to 1; None draws nothing over the image.

    Returns:
        uint8 `[H + banner, W, 3]` BGR.
    """
    image = result.frame.image
    if opacity is not None and result.segmentation is not None and state in ("ok", "frozen", "held"):
        picture = draw_overlay(image, result.segmentation.labels, result.lesions, opacity, result.track_ids)
        if result.crop_xywh is not None:
            draw_crop(picture, result.crop_xywh)
    elif image.ndim == 2:
        picture = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
    else:
        picture = image
    words, ground, ink = _BANNERS[state]
    if state == "ok":
        words = f"{words}   {result.age_ms:.0f} ms"
    width = picture.shape[1]
    scale = float(np.clip(width / 640, 0.4, 2.0))
    while scale > 0.3 and cv2.getTextSize(words, cv2.FONT_HERSHEY_DUPLEX, scale, 1)[0][0] > width - 12:
        scale -= 0.05
    (_, ascent), descent = cv2.getTextSize(words, cv2.FONT_HERSHEY_DUPLEX, scale, 1)
    banner = np.full((ascent + descent + 12, width, 3), ground, np.uint8)
    cv2.putText(banner, words, (8, ascent + 6), cv2.FONT_HERSHEY_DUPLEX, scale, ink, 1, cv2.LINE_AA)
    return np.vstack([banner, picture])


def require_windows() -> None:
    """Refuse where no window can be opened; asking OpenCV itself would end the program on some builds.

    Raises:
        BackendUnavailable: a headless OpenCV, or no screen.
    """
    gui = next((line for line in cv2.getBuildInformation().splitlines() if line.strip().startswith("GUI:")), "")
    if "NONE" in gui.upper():
        raise BackendUnavailable(
            f"--display needs windows, and this OpenCV ({cv2.__version__}) was built without them",
            "use --view 127.0.0.1:8080, or: pip uninstall opencv-python-headless && pip install opencv-python",
        )
    if sys.platform.startswith("linux") and not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        raise BackendUnavailable(
            "--display finds no screen: neither DISPLAY nor WAYLAND_DISPLAY is set", "use --view 127.0.0.1:8080"
        )


class _CvWindow:
    """OpenCV's window."""

    def __init__(self) -> None:
        cv2.namedWindow(_TITLE, cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO)

    def show(self, picture: UInt8Array) -> None:
        cv2.imshow(_TITLE, picture)

    def key(self) -> str:
        code = cv2.waitKey(_KEY_WAIT_MS)
        return chr(code & 0xFF) if code >= 0 else ""

    def is_open(self) -> bool:
        return cv2.getWindowProperty(_TITLE, cv2.WND_PROP_VISIBLE) >= 1

    def close(self) -> None:
        cv2.destroyWindow(_TITLE)
