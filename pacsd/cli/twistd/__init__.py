"""What the twistd plugins run: `pacsd` with all roles, and one module per role."""
