"""What was said between us and the index about one exam: kept sealed, shown masked, told in full by right alone."""
