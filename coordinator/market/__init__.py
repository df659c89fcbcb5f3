"""Mechanisms held live: the conversation of `coordinator.mechanisms` with one group for each node, round by round over the bus."""
