"""Topics as people handle them: look, filter, export, import, copy, and mend what was refused; the work of the CLI."""
