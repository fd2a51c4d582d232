"""Records of topics once more, in the order and at the pace of then, onto topics of a replay's own."""
