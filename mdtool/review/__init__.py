"""For reviewers: check, compare, merge, look at and carry around descriptions that people edit and keep in git."""
