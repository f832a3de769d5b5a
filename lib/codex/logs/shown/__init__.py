"""How the record is shown: words, times, colours, tables, transcripts."""
