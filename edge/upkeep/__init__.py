"""What keeps a deployed edge looked after: its present state for people and machines, the doctor, and what is about to expire."""
