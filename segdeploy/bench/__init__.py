"""Speed and accuracy of the same artifact, beside PyTorch and the reference."""
