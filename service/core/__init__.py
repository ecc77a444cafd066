"""Plain functions and frozen dataclasses: no I/O, no torch, no Flask."""
