"""What is measured: requests, tables to train on, reads of a store, faults."""
