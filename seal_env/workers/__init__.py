"""Workers: processes of this and other machines that carry self-edits out, by Ray."""
