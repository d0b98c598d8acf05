"""Objectives: what a training step minimises.

Read `objective` first. `supervised` is a loss on labels; `online_teacher` is consistency with a
teacher that is the moving average of the student; `averaged` is another objective, whose model is
the moving average of the network. An objective draws its random numbers from counters (seed,
iteration, step). Its only state is that of `state_dict`, so that a training can be resumed without
a trace.
"""
