"""XDM archives (drim-m §7, ITI TF-2 3.32): published exams from one box to the next, and back from a backup."""
