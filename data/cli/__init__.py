"""The data commands: what they take, and what every command shows on a terminal."""
