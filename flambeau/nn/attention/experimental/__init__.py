"""Attention over caches in pages."""
