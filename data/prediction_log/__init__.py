"""The prediction log as files: their columns, and the command that reads them."""
