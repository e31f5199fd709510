"""The online store on Cassandra."""
