"""What event loops need of the core, and what tasks call. Knows no pool but by its manager."""
