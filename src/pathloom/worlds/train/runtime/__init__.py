"""The run: a plan of the train world carried out by one process a node."""
