"""What a chat model is asked, in files: `shared.yaml`, and one file a kind of material.

system      the rules of all talks, then those of the kind    the same for every sample of a kind,
user        notes of the worked example                       so that an engine computes it once
assistant   the worked example's talk                         and keeps it (prefix caching)
user        kind of talk, notes, rounds wanted, id            the sample's own
"""
