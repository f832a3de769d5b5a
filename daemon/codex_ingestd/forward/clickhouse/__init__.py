"""The sink ClickHouse, and what speaks its protocol. Importing it loads clickhouse-connect, the extra `clickhouse`."""
