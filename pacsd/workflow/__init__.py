"""What a PACS does, as functions over ports (see `ports`): no socket, no SQL text, no file is named here."""
