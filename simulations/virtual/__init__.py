"""Virtual time: a clock that real time does not move, and what decides when clients answer."""
