"""The two sides of a comparison: the same jobs, declared for each queue, and one producer each."""
