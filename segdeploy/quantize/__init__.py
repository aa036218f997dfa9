"""INT8 graphs: activations made easy to round, weights rounded, Q/DQ pairs where they fuse."""
