"""Kills an action before a step of it, without a process to kill; what that leaves is then looked at."""


class KilledError(BaseException):
    """Stands in for SIGKILL: nothing after it runs."""


def count_steps(monkeypatch, steps, action, last=None):
    """How many of `steps`, by owner and name, the action takes; it is killed right before number `last`."""
    done = []

    def counted(real):
        def step(*arguments, **options):
            if last is not None and len(done) >= last:
                raise KilledError
            done.append(real)
            return real(*arguments, **options)

        return step

    with monkeypatch.context() as patch:
        for owner, name in steps:
            patch.setattr(owner, name, counted(getattr(owner, name)))
        action()
    return len(done)
