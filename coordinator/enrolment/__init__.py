"""The community's certificate authority, its members, and the broker's files that follow from both."""
