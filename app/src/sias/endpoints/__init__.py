"""What the endpoints ask the database."""
