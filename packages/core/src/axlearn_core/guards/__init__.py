"""What watches over a run: its numbers, its pace, and the bits that its devices compute."""
