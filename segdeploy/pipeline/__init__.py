"""The line, stage by stage: the only place where stages meet."""
