"""Build the stages of a run from its recipe, in an order in which each can be done.

:class:`~smaug_eval.runs.stages.builder.StageBuilder` settles the order. What a stage depends on and does is said by the
module of its kind: pairs, trainings, their checkpoints, evaluations, dialogues and their judgments, the report.
"""
