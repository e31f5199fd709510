"""What Ray Serve and HAProxy read from the environment when they start."""
