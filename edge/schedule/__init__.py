"""The household schedule: one convex problem over 24 to 48 hours, stated in `specification`, solved on the arrays of `arrays`."""
