"""How the members of a community agree on one leader over a transport that may lose, delay, repeat and reorder."""
