"""Programs of several ranks: groups, collectives, and what is built from them."""
