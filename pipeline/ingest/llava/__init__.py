"""Users' own data, in the form that LLaVA's trainers read.

    {"id": "000123", "image": "a.jpg", "conversations": [
        {"from": "human", "value": "<image> What is this?"}, {"from": "gpt", "value": "A cat."}]}

`image` may be a list, `video` may stand in its place, and without either the entry is text.

    reading  the file, entry by entry: a broken line is one rejection, not the end
    talk     LLaVA's turns as question and answer pairs
    source   the `Source` that ties them together
"""
