"""A day or a week of the fleet as one page: what the database says, figures, HTML."""
