"""Where torch lives: weights, model, the one thread that owns it, and the call both doors use.

A request goes through the package so: `segmenter` takes a `queue_slot` from the model's thread (`batcher`), decodes and
prepares its image (`images`) and runs a task on the slot, which hands it over as a `work` and waits for its answer. The
thread asks the `schedule` for the next step of all works that it has, and runs it (`forwards`): calls of the engine
(`base`; `sam3` or `official`), halved by `salvage` where they fail, whose outcome is written into the works. Of the
answer the segmenter drops what overlaps (`suppression`), and makes masks of the rest.
"""
