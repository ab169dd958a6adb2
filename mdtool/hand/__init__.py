"""For people: check, compare, merge, look at and carry around descriptions that they edit by hand and keep in git."""
