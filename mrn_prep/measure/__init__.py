"""Measurements in regions, with their validity flags."""
