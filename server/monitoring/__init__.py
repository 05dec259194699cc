"""What a coordinator shows of itself: read from its kit's and its runs' files, and nothing else."""
