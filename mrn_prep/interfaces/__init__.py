"""Thin nipype interfaces: load, one model call, save."""
