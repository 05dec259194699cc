"""Made-up populations: records that follow from a seed and an institution's number alone."""
