"""The page as one self-contained document, with the headers that keep it so."""

from __future__ import annotations

import base64
import hashlib
from importlib import resources
from typing import NamedTuple

from bcseg_edge.drawing import COLOURS_BGR, TINT_OPACITY
from bcseg_edge.frames import CLASSES


class Page(NamedTuple):
    """The document, and the headers to serve it with."""

    html: str
    headers: dict[str, str]


def load_page() -> Page:
    """Put style and script into the document; only these two, by their hashes, may run."""
    folder = resources.files("bcseg_edge.live.view")
    style = _colours() + folder.joinpath("view.css").read_text("utf-8")
    script = folder.joinpath("view.js").read_text("utf-8")
    html = folder.joinpath("view.html").read_text("utf-8")
    html = (
        html.replace("/*STYLE*/", style).replace("/*SCRIPT*/", script).replace("OPACITY", f"{TINT_OPACITY * 100:.0f}")
    )
    policy = "; ".join(
        (
            "default-src 'none'",
            f"script-src '{_sha256(script)}'",
            f"style-src '{_sha256(style)}'",
            "img-src blob: data:",
            "connect-src 'self'",
            "base-uri 'none'",
            "form-action 'none'",
            "frame-ancestors 'none'",
        )
    )
    return Page(html, {"Content-Security-Policy": policy, **COMMON_HEADERS})


COMMON_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


def _colours() -> str:
    """The classes' colours, the same as in the files that are written."""
    rules = []
    for label, (blue, green, red) in COLOURS_BGR.items():
        rules.append(f"--{CLASSES[label]}:#{red:02x}{green:02x}{blue:02x}")
    return f":root{{{';'.join(rules)}}}\n"


def _sha256(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
