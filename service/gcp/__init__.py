"""Thin adapters over Google's clients: generations and preconditions, no policy."""
