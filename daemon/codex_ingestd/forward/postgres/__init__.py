"""The sink PostgreSQL, and what speaks its protocol. Importing it loads psycopg, the extra `postgres`."""
