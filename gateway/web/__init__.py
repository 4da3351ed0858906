"""What Poterne serves over HTTP."""
