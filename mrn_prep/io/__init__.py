"""Files: images, BIDS names, sidecars, tables."""
