"""Quantitative MR neurography, from BIDS to nerve measurements."""

__version__ = "0.1.0"
