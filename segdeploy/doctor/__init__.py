"""What this machine can run, why not the rest, and what to install for it."""
