"""Mechanism `disco`: end-users and distribution company, as published and as a negotiation."""
