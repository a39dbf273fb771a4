"""Where fastpool meets other projects; each module needs what its name says."""
