"""Compiled loops that label an image tile by tile, and interpolate only where classes compete.

`masks.py` builds the tables that they read; docs/masks.md says why the result is exact. All loops
run without the interpreter's lock, on scratch memory of their own.
"""
