"""What a site copies, and what derivatives are made from."""
