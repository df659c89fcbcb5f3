"""Studies: the papers' own cases, their tables beside ours, with a verdict that the numbers give."""
