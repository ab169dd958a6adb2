"""The machine description: the tree, its YAML, and the facts about buses, properties and drivers."""
