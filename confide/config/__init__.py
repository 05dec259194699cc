"""Every setting: type, default, range, meaning."""
