"""What flows through the pipeline: one frozen record for each arrow of the picture.

    Sample -> Quota -> Conversation -> Frames -> Features -> tar -> Ledger
    and, from any stage, Rejection(key, stage, reason)

Nothing here imports our other packages. Times are int64 nanoseconds, intervals are half-open
(`start_ns`, `exclusive_end_ns`), rates and shares are exact fractions.
"""
