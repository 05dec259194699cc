"""One round after another, over any Flower grid."""
