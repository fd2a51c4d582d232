"""What two modes of a class are worth to each other, learned online: the core of the predictive policy.

The *upper* mode draws more, the *lower* less. `u` is what the upper earns more an hour, in units of a switch there and
back, so that 1 / u is the payback time in hours and neither market nor device enters after that. With D the advantage
of being in the upper mode from the next interval on, Bellman's equation of the two modes is one line:

    D(s) = E[h * u' + clamp(D(s'), down, up) | s]        go up at D >= up, down at D <= down

D is learned by regression on its own right-hand side: local in asinh(u) (twelve nodes, hat functions), and linear in
the height of the time of day ahead, the last change of asinh(u) and where the time of day leads. A learner that falls
behind lazy capacity provisioning by `GUARD_MAX` switches there and back gives it the word until it has won that back.

All state is one row of doubles, changed in place; `streams.policies.predictive` keeps the rows. Deterministic: the same
intervals give the same bits wherever sinh, asinh and exp of the C library do.
"""

import math
from array import array
from typing import Final, NamedTuple, TypeAlias

from hcp.model.units import MS_PER_DAY, MS_PER_HOUR

SHADOW_COST: Final = 0.5
"""Added to the threshold at both ends, in switches there and back: pays for what the estimate does not know."""
GUARD_MAX: Final = 100.0
"""Behind lazy capacity provisioning by so many switches there and back, the learner gives it the word."""
U_MAX: Final = 1e6
"""No plausible gain is a million switches an hour; keeps every sum finite."""
NODE_FIRST: Final = -5.6
NODE_STEP: Final = 0.8
NODES: Final = 12
"""Places on the scale of asinh(u) at which the advantage is learned."""
BINS: Final = 48
"""Of a day."""
_SEASON_DAYS: Final = 5.0
"""Half-life of the time of day's height."""
_SEASON_LEVEL: Final = 2.5
"""asinh(u) below which the height counts: only dear hours have a shape worth knowing."""
_TREND_BINS: Final = 2
_PRIOR: Final = (25.0, 5.0, 10.0, 5.0)
"""Weight of what is believed of a node before it is seen, in intervals: level, height, change, trend."""
_MEMORY: Final = 1_000.0
"""Visits after which a node's past has faded to 1/e."""
_TAUGHT_MAX: Final = 25.0
"""An interval teaches a gain or loss of at most so many switches: an outlier must not rule its node."""
_CHANGE_MAX: Final = 4.0
_USUAL_MAX: Final = 20.0
_REVERSION_HOURS: Final = 2.0
"""How fast a gain is believed to fall back to the usual one before anything is known."""
_USUAL_HOURS: Final = 168.0
"""Half-life of the usual gain."""
_SOLVE_RATIO: Final = 0.01
"""A node is solved again when its weight has grown by this share."""
AHEAD_MAX: Final = 16
"""Intervals ahead that the probability of an order's lasting looks at most."""
_PROBABILITY_PRIOR: Final = 8.0
_CHANGE_EDGE: Final = 0.3
"""A change of asinh(u) beyond this is a fall or a rise."""
_EXITS_MAX: Final = 64

# A row of doubles; each name is the place where its part begins.
IS_UP, LEAD, MARK, EXITS, IS_OUT, LCP_UP, LCP_REGRET = range(7)
USUAL, STEPS, HAS_LAST, NODE, SHARE, HEIGHT, CHANGE, TREND, LEVEL = range(7, 16)
ADVANTAGE, DOWN, UP, COST_USD, PROBABILITY = range(16, 21)
STATS: Final = 21
STAT_COUNT: Final = 14
"""Of a node: upper triangle of the 4x4 moments (10), the 4 moments with the target."""
BETAS: Final = STATS + NODES * STAT_COUNT
FRESH: Final = BETAS + NODES * 4
PROFILE: Final = FRESH + NODES
TRIALS: Final = PROFILE + BINS
HITS: Final = TRIALS + 4 * NODES
DUE: Final = HITS + 4 * NODES
"""A ring of predictions not yet settled: when each is due, its cell, the sign it predicts."""
RING: Final = AHEAD_MAX + 1
ROW_LENGTH: Final = DUE + 3 * RING


Row: TypeAlias = "array[float]"
"""`ROW_LENGTH` doubles."""


class Interval(NamedTuple):
    """What an interval made of the two modes.

    A tuple and not a dataclass: one is made for every pair of modes at every price.

    Attributes:
        start_ms: When it began, event time.
        interval_ms: Its length; above 0.
        gain_usd_per_hour: Upper less lower; any sign.
        start_usd: Cost of lower to upper; above 0.
        stop_usd: Cost of upper to lower; above 0.
    """

    start_ms: int
    interval_ms: int
    gain_usd_per_hour: float
    start_usd: float
    stop_usd: float


def new_row() -> Row:
    """Return a learner that has seen nothing, in its upper mode."""
    row = array("d", bytes(8 * ROW_LENGTH))
    row[IS_UP] = row[LCP_UP] = 1.0
    for node in range(NODES):
        row[FRESH + node] = math.inf
    return row


def observe(row: Row, seen: Interval) -> None:
    """Take in an interval: learn from it, and leave what is to be weighed for the next one."""
    cost_usd = seen.start_usd + seen.stop_usd
    hours = seen.interval_ms / MS_PER_HOUR
    u = max(-U_MAX, min(U_MAX, seen.gain_usd_per_hour / cost_usd))
    stop = seen.stop_usd / cost_usd
    down, up = -stop - SHADOW_COST, 1.0 - stop + SHADOW_COST
    level = math.asinh(u)
    change = max(-_CHANGE_MAX, min(_CHANGE_MAX, level - row[LEVEL])) if row[HAS_LAST] else 0.0
    height, trend = _season(row, seen, level=level)
    _learn_usual(row, u=u, hours=hours)
    place = max(0.0, min(NODES - 1.001, (level - NODE_FIRST) / NODE_STEP))
    node = int(place)
    share = place - node
    for at in (node, node + 1):
        if row[FRESH + at] > _SOLVE_RATIO * (row[STATS + at * STAT_COUNT] + _PRIOR[0]):
            _solve(row, at, hours=hours, down=down, up=up)
    advantage = _value(row, node, share, height, change, trend)
    if row[HAS_LAST]:
        _learn(row, max(-_TAUGHT_MAX, min(_TAUGHT_MAX, hours * u)) + max(down, min(up, advantage)))
    row[HAS_LAST], row[NODE], row[SHARE], row[LEVEL] = 1.0, node, share, level
    row[HEIGHT], row[CHANGE], row[TREND] = height, change, trend
    row[PROBABILITY] = _probability(row, u=u, hours=hours, node=node + (share > 0.5), change=change)  # noqa: PLR2004
    row[ADVANTAGE], row[DOWN], row[UP], row[COST_USD] = advantage, down, up, cost_usd
    _compare(row, u=u, hours=hours, stop=stop)


def _learn_usual(row: Row, *, u: float, hours: float) -> None:
    row[STEPS] += 1.0
    rate = max(1.0 - 0.5 ** (hours / _USUAL_HOURS), 1.0 / row[STEPS])
    row[USUAL] += rate * (max(-_USUAL_MAX, min(_USUAL_MAX, u)) - row[USUAL])


def _season(row: Row, seen: Interval, *, level: float) -> tuple[float, float]:
    """Update the time of day's height; return that of the next interval, and where it leads from now."""
    bin_ms = MS_PER_DAY // BINS
    now = seen.start_ms % MS_PER_DAY // bin_ms
    rate = 1.0 - 0.5 ** (1.0 / (_SEASON_DAYS * max(bin_ms / seen.interval_ms, 1.0)))
    row[PROFILE + now] += rate * (min(level - _SEASON_LEVEL, 0.0) - row[PROFILE + now])
    ahead = (seen.start_ms + seen.interval_ms) % MS_PER_DAY // bin_ms
    height = 0.5 * (row[PROFILE + ahead] + row[PROFILE + (ahead + 1) % BINS])
    return height, row[PROFILE + (ahead + _TREND_BINS - 1) % BINS] - row[PROFILE + now]


def _value(  # the hot path
    row: Row, node: int, share: float, height: float, change: float, trend: float
) -> float:
    """Return D at a place between two nodes."""
    a0, a1, a2, a3, b0, b1, b2, b3 = row[BETAS + 4 * node : BETAS + 4 * node + 8]
    low = a0 + a1 * height + a2 * change + a3 * trend
    return low + share * (b0 + b1 * height + b2 * change + b3 * trend - low)


def _solve(row: Row, node: int, *, hours: float, down: float, up: float) -> None:
    """Solve a node anew, shrunk to what is believed before: the gain decays towards the usual one."""
    u = math.sinh(NODE_FIRST + NODE_STEP * node)
    decay = math.exp(-hours / _REVERSION_HOURS)
    coming = hours * (decay * u + (1.0 - decay) * row[USUAL])
    believed = max(-_TAUGHT_MAX, min(_TAUGHT_MAX, coming)) + max(down, min(up, coming))
    first = STATS + node * STAT_COUNT
    solved = _ridge(row[first : first + STAT_COUNT], believed=believed)
    row[BETAS + 4 * node : BETAS + 4 * node + 4] = array("d", solved)
    row[FRESH + node] = 0.0


def _ridge(s: Row, *, believed: float) -> tuple[float, float, float, float]:
    """Return the ridge regression of a node: a Cholesky of a 4x4, written out because it is the hot path."""
    a00 = s[0] + _PRIOR[0]
    l10, l20, l30 = s[1] / a00, s[2] / a00, s[3] / a00
    d1 = s[4] + _PRIOR[1] - l10 * s[1]
    b21 = s[5] - l20 * s[1]
    b31 = s[6] - l30 * s[1]
    l21, l31 = b21 / d1, b31 / d1
    d2 = s[7] + _PRIOR[2] - l20 * s[2] - l21 * b21
    b32 = s[8] - l30 * s[2] - l31 * b21
    l32 = b32 / d2
    d3 = s[9] + _PRIOR[3] - l30 * s[3] - l31 * b31 - l32 * b32
    y0 = s[10] + _PRIOR[0] * believed
    y1 = s[11] - l10 * y0
    y2 = s[12] - l20 * y0 - l21 * y1
    y3 = s[13] - l30 * y0 - l31 * y1 - l32 * y2
    w3 = y3 / d3
    w2 = y2 / d2 - l32 * w3
    w1 = y1 / d1 - l21 * w2 - l31 * w3
    return y0 / a00 - l10 * w1 - l20 * w2 - l30 * w3, w1, w2, w3


def _learn(row: Row, target: float) -> None:
    """Add what followed the last interval to the two nodes it lay between."""
    node, share = int(row[NODE]), row[SHARE]
    x1, x2, x3 = row[HEIGHT], row[CHANGE], row[TREND]
    for at, w in ((node, 1.0 - share), (node + 1, share)):
        k = 1.0 - w / _MEMORY
        w1, w2, w3, wy = w * x1, w * x2, w * x3, w * target
        first = STATS + at * STAT_COUNT
        s0, s1, s2, s3, s4, s5, s6, s7, s8, s9, t0, t1, t2, t3 = row[first : first + STAT_COUNT]
        row[first : first + STAT_COUNT] = array(
            "d",
            (
                s0 * k + w, s1 * k + w1, s2 * k + w2, s3 * k + w3,
                s4 * k + w1 * x1, s5 * k + w1 * x2, s6 * k + w1 * x3,
                s7 * k + w2 * x2, s8 * k + w2 * x3, s9 * k + w3 * x3,
                t0 * k + wy, t1 * k + wy * x1, t2 * k + wy * x2, t3 * k + wy * x3,
            ),
        )  # fmt: skip
        row[FRESH + at] += w


def _probability(row: Row, *, u: float, hours: float, node: int, change: float) -> float:
    """Settle what was predicted for now; return how often the order lasted until payback from a state like this."""
    now, sign = row[STEPS], 1.0 if u > 0.0 else -1.0
    keep = 1.0 - 1.0 / _MEMORY
    for at in range(DUE, DUE + 3 * RING, 3):
        if row[at] == now:
            held = 1.0 if row[at + 2] == sign else 0.0
            cell = int(row[at + 1])
            for counted in (cell, cell | 3):
                row[TRIALS + counted] = row[TRIALS + counted] * keep + 1.0
                row[HITS + counted] = row[HITS + counted] * keep + held
    size = abs(u) * hours
    ahead = AHEAD_MAX if size * AHEAD_MAX <= 1.0 else math.ceil(1.0 / size)
    cell = 4 * node + (0 if change < -_CHANGE_EDGE else 2 if change > _CHANGE_EDGE else 1)
    place = DUE + 3 * (int(now) % RING)
    row[place], row[place + 1], row[place + 2] = now + ahead, cell, sign
    base = 1.0 - 0.5 * math.exp(-min(50.0, size * ahead * 0.5))
    pooled = (row[HITS + (cell | 3)] + _PROBABILITY_PRIOR * base) / (row[TRIALS + (cell | 3)] + _PROBABILITY_PRIOR)
    return (row[HITS + cell] + _PROBABILITY_PRIOR * pooled) / (row[TRIALS + cell] + _PROBABILITY_PRIOR)


def _compare(row: Row, *, u: float, hours: float, stop: float) -> None:
    """Let the learner and lazy capacity provisioning decide side by side, and say who has the word."""
    was_up, lcp_was_up = row[IS_UP], row[LCP_UP]
    row[IS_UP] = wanted(was_up, row[ADVANTAGE], down=row[DOWN], up=row[UP])
    regret = row[LCP_REGRET] if row[STEPS] > 1.0 else 1.0 - stop  # before anything is known, both modes stand alike
    row[LCP_REGRET] = max(0.0, min(1.0, regret + u * hours))
    if row[LCP_REGRET] >= 1.0:
        row[LCP_UP] = 1.0
    elif row[LCP_REGRET] <= 0.0:
        row[LCP_UP] = 0.0
    paid = _paid(was_up, row[IS_UP], stop) - _paid(lcp_was_up, row[LCP_UP], stop)
    won = hours * u * (was_up - lcp_was_up) - paid
    if won:
        _guard(row, won)


def wanted(was_up: float, advantage: float, *, down: float, up: float) -> float:
    """Return 1 for the upper mode, 0 for the lower: the one there was, unless the advantage leaves the band of holding.

    For the same advantages a wider band around it never moves more often, and higher advantages never end lower.
    """
    if advantage >= up:
        return 1.0
    return 0.0 if advantage <= down else was_up


def _paid(was_up: float, is_up: float, stop: float) -> float:
    """Return what a move costs, in switches there and back."""
    if was_up == is_up:
        return 0.0
    return 1.0 - stop if is_up else stop


def _guard(row: Row, won: float) -> None:
    """Take in what the learner earned more than lazy capacity provisioning, in switches there and back.

    It is out once it has lost `GUARD_MAX` since its last high-water mark; after its k-th exit it must win back
    2^(k-1) times that virtually before it has the word again, and k falls by one for each `GUARD_MAX` gained while it
    has it. So it loses at most (k_max + 1) * (GUARD_MAX + J + 2) to it, J the largest move of one interval.
    """
    row[LEAD] += won
    lead, mark, exits = row[LEAD], row[MARK], row[EXITS]
    if row[IS_OUT]:
        row[MARK] = min(mark, lead)
        if lead - row[MARK] >= GUARD_MAX * 2.0 ** (exits - 1.0):
            row[IS_OUT], row[MARK] = 0.0, lead
    elif lead <= mark - GUARD_MAX:
        row[IS_OUT], row[EXITS], row[MARK] = 1.0, min(exits + 1.0, _EXITS_MAX), lead
    elif exits and lead >= mark + GUARD_MAX:
        row[EXITS], row[MARK] = exits - 1.0, lead
    elif lead > mark and not exits:
        row[MARK] = lead
