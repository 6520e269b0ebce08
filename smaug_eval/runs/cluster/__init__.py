"""Run a recipe on a Ray cluster: its stages, and shares of its evaluations, done by workers on many machines.

The process that is started, here called the driver, keeps every record and the one journal. Workers answer requests
and train; what they answer streams back chunk by chunk. Only :mod:`smaug_eval.runs.cluster.ray_library` imports Ray.
"""
