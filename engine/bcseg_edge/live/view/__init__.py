"""The live page: what the loop finds, in a browser."""

from bcseg_edge.live.view.address import ViewAddress, parse_address
from bcseg_edge.live.view.sink import ViewFacts, ViewSink

__all__ = ["ViewAddress", "ViewFacts", "ViewSink", "parse_address"]
