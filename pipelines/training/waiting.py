"""Words for users while no rank of a training has begun. A file of its own because it knows neither Ray nor the run."""


def explain_wait(
    workers: tuple[int, int], resources: dict[str, int], there: dict[str, int], queued: bool, seconds: float
) -> str:
    """The line for users while no rank has begun: what the cluster lacks, or that workers are only starting.

    `workers`: the fewest and the most; `resources`: of one; `there`: of the whole cluster; `queued`: they have no
    place yet.
    """
    needs = {name: workers[0] * number for name, number in resources.items() if number}
    lacks = [
        f"{_plural(need, name)}: the cluster has {there[name]}" for name, need in needs.items() if there[name] < need
    ]
    so_far = f"({seconds:.0f} s so far)"
    if lacks:
        return f"waiting for {'; and for '.join(lacks)} {so_far}"
    if queued:
        asked = " and ".join(_plural(need, name) for name, need in needs.items())
        return f"waiting for {asked}: other work holds the cluster's {so_far}"
    count = " to ".join(str(number) for number in sorted(set(workers)))
    return f"starting {_plural(count, 'worker')} {so_far}"


def _plural(number: int | str, thing: str) -> str:
    return f"{number} {thing}" if str(number) == "1" else f"{number} {thing}s"
