"""What Aisle knows of a person, handed out and taken away: export, erasure, periods of keeping, a log of it all."""
