"""How tensors are written on their way between coordinator and institutions."""
