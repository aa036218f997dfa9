"""The networks in pure PyTorch, and how their checkpoints are read."""
