"""Exact algebra on graphs: the same labels from fewer operations, one small pass a file."""
