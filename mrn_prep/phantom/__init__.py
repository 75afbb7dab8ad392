"""The digital limb: simulated raw BIDS data with known truth."""
