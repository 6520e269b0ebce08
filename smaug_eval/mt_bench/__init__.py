"""MT-Bench and question sets in its form: answers, judge, scores; protocol and file formats are FastChat's."""
