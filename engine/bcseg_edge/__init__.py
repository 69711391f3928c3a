"""Real-time segmentation of breast tumours in ultrasound, on the cart.

    import bcseg_edge

    with bcseg_edge.Segmenter(bcseg_edge.load_model("edge")) as segmenter:
        segmentation = segmenter(frame)  # uint8 [H, W] or [H, W, 3]
        lesions = bcseg_edge.find_lesions(segmentation, spacing_mm=(0.1, 0.1))

Importing the package loads nothing; each name below loads its module when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from bcseg_edge import errors as errors
    from bcseg_edge.crop import without_margins as without_margins
    from bcseg_edge.errors import BcsegError as BcsegError
    from bcseg_edge.frames import CLASSES as CLASSES
    from bcseg_edge.frames import Frame as Frame
    from bcseg_edge.frames import Segmentation as Segmentation
    from bcseg_edge.lesions import Lesion as Lesion
    from bcseg_edge.lesions import find_lesions as find_lesions
    from bcseg_edge.models import LoadedModel as LoadedModel
    from bcseg_edge.models import Model as Model
    from bcseg_edge.models import load_model as load_model
    from bcseg_edge.segmenter import Segmenter as Segmenter
    from bcseg_edge.sources import open_source as open_source
    from bcseg_edge.tiling import TileGrid as TileGrid

    __version__: str

_HOMES = {
    "CLASSES": "frames",
    "BcsegError": "errors",
    "Frame": "frames",
    "Lesion": "lesions",
    "LoadedModel": "models",
    "Model": "models",
    "Segmentation": "frames",
    "Segmenter": "segmenter",
    "TileGrid": "tiling",
    "find_lesions": "lesions",
    "load_model": "models",
    "open_source": "sources",
    "without_margins": "crop",
}

__all__ = ["__version__", "errors", *_HOMES]


def __getattr__(name: str) -> Any:
    if name == "errors":
        return import_module("bcseg_edge.errors")
    if name == "__version__":
        return _version()
    if name in _HOMES:
        return getattr(import_module(f"bcseg_edge.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'bcseg_edge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("bcseg-edge")
    except PackageNotFoundError:  # a source tree on the path, not installed
        return "0+source"
