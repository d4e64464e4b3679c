"""Tars as a stranger's hand would make them."""

import io
import tarfile


def tar_of(members, form=tarfile.USTAR_FORMAT, **facts):
    """The bytes of a tar of (name, payload); `facts` are fields of every header."""
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w", format=form) as tar:
        for name, payload in members:
            info = tarfile.TarInfo(name)
            info.size = len(payload)
            for field, value in facts.items():
                setattr(info, field, value)
            tar.addfile(info, io.BytesIO(payload))
    return file.getvalue()
