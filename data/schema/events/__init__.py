"""Sources of events as they are declared, and the files that a command is given for them."""
