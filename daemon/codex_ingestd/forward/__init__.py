"""Ships committed rows from the local database, which is the spool, to an engine that many hosts share."""
