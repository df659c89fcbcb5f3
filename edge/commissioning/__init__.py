"""From bare addresses to a configuration: what is there, what it can do, which way the meter counts."""
