"""Late events, looked at: logged decisions, made again of the events that the store holds now."""
