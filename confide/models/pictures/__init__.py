"""Models of pictures: pretrained ones, and a network that starts at random."""
