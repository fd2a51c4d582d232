"""confluent-kafka without Faust: administration, batch consumer, producer, dead letters."""
