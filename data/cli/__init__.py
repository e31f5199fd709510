"""The data commands: what they take, and what every command shows on a terminal."""

from data.cli.process_hooks import leave_quietly_on_interrupt

# The first of our imports in every command: what follows takes long enough for a Ctrl-C.
leave_quietly_on_interrupt()
