"""``confide audit``: empirical lower bounds on epsilon, beside the claim."""
