"""What a row is: the use case, its features, and how a model of it is judged. Stands on nothing else of ours."""
