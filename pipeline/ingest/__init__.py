"""Ingest: from named data sets to `Sample`s.

A source lists its entries cheaply (`Source.entries`), then makes each into a `Sample`
(`Source.sample`), which may fetch or render its media; `probe` looks at the media's headers.
"""
