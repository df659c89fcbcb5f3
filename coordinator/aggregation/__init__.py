"""The operator's part of aggregation rounds: its key, which leader it believes, what the sums say, and what follows for envelopes."""
