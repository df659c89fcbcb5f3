"""What edge, coordinator and bench say to each other, and what is needed to verify it."""
