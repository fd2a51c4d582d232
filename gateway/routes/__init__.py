"""The routes of /api/v1, one module a theme; each says what access and which allowance it asks for."""
