"""The phantom: a physical simulation of a breast under a linear probe. See `imaging.py` and `anatomy.py`."""

from bcseg_edge.sources.phantom.source import GRAMMAR, PhantomSource, PhantomSpec, parse_phantom

__all__ = ["GRAMMAR", "PhantomSource", "PhantomSpec", "parse_phantom"]
