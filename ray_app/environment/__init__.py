"""Environment variables that Ray Serve and HAProxy read when they start, and free TCP ports for them."""
