"""A household's part in its community: standing and voting in elections, reporting in secret, and leading when it is elected."""
