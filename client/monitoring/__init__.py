"""What an institution shows of itself: read from its kit's files, and from nothing else."""
