"""Every setting: type, default, range, meaning; and how a config is composed."""
