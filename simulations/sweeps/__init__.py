"""Many runs, and one page that compares them."""
