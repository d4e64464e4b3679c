"""Films rendered here, so that the truth about them is exact.

    scene      what moves where and when, drawn from (seed, split, index) alone
    render     the scene as the bytes of an H.264 film
    questions  the scene as a caption, events, and questions with short answers
    source     the `Source` that ties them together

Two forms of film. *Together*: one to three shapes are there from the first frame to the last, so
that their colour, shape and number are seen in any single frame. *In turn*: two to four shapes
are shown one after another, so that order, time and total number are seen in no single frame.
"""
