"""What it means: statistics, rankings, selection maths and reports over arrays and one Arrow table."""
