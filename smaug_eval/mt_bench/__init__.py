"""Run MT-Bench and question sets in its form: answers, judge, scores; protocol and formats are FastChat's."""
