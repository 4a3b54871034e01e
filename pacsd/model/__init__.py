"""Values and decisions of a PACS: no I/O, no clock, nothing of ours imported from elsewhere."""
