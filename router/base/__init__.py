"""The ground floor: clock, errors, units, references. Knows nothing of requests or clouds."""
