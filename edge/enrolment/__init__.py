"""How this household joins its community and keeps its certificate fresh."""
