"""What changed from one report to another, and whether the samples can show it."""
