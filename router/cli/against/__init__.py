"""What another configuration would change: printed, and tried on the requests of a decision log."""
