"""The only code that touches Flower's private corners."""
