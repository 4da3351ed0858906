"""What the imaging side says about exams: rejection notes, performed steps, availability of instances; rows of their
own."""
