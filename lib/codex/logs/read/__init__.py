"""What the commands ask the database: every query stands here, behind functions that give records."""
