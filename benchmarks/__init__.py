"""Benchmarks of genfast against what a user could run instead: `genfast bench`."""
