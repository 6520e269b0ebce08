"""Report a study: its questions, answers, charts and arms."""
