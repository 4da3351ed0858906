"""Getting back after the machine is lost: copies of the database, what is not on one yet, and the way back."""
