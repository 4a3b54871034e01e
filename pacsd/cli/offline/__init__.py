"""What commands do with the database and the pools themselves; apart from the verbs, so that `pacsd` starts fast."""
