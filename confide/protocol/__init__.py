"""What coordinator and institution send each other."""
