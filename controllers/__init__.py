"""Hardware: one executor of the switch protocol, its journal, drivers, and the service around them."""
