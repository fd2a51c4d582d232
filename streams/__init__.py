"""Pure stream transformations, (state, event) -> (state, outputs): all that decides lives here and sees no Kafka."""
