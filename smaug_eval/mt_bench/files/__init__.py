"""Read and write the files of a question set, of answers and of judgments."""
