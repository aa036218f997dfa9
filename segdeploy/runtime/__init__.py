"""Sessions: an artifact, loaded and ready to run."""
