"""Data sets and their test protocols."""
