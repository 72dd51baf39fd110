"""Workers that share runs: each sits in a seat and waits to be invited by whoever runs a net.

A caller invites free workers, does its own part, and takes back what invitations nobody has followed. It never waits
for a worker that has claimed no task, so a run ends as soon as its work is done, however busy the machine is. All this
is compiled: a worker needs no interpreter lock between two runs.

A seat's state goes round: FREE, or ASLEEP once it waited in vain; TAKEN while a caller writes the invitation; then the
address of the run's counters, which tells whose invitation it is; BUSY from when the worker follows it until it touches
nothing of that run any more. STOPPED ends the worker.
"""

from typing import Any

import numpy as np
from numba import carray, types

from runtime.kernels.address import floats_at, pointer_to
from runtime.kernels.atomic import exchange_if, fetch_add, load_acquire, pause, store_release, yield_core
from runtime.kernels.clock import POSIX, now_ns
from runtime.kernels.engine import COUNTER_STRIDE, GROUPS_DONE, wait_for, work
from runtime.kernels.options import entry_kernel, kernel
from runtime.kernels.step import STEP
from runtime.kernels.vector import COMPILED

FREE, ASLEEP, TAKEN, BUSY, STOPPED = range(5)
STRIDE = 16  # int64 values from the state of one seat to the next: two cache lines
SPINS = 2_000  # of a free worker before it offers its core between two looks
WAIT_SPINS = 100_000  # of one before it sleeps, where there is no clock
BELL_BYTES = 128  # room for a pthread_mutex_t, and for a pthread_cond_t: at most 64 bytes on Linux and macOS

INVITATION = np.dtype(
    [
        (name, np.int64)
        for name in (
            "member apart steps n_steps groups lanes images arena_size arena n_arena "
            "weights n_weights index n_index counters n_counters times times_rows times_columns".split()
        )
    ]
)
"""What a worker is told: its number in this run, how work is shared, and what is shared, arrays by address and size."""

Board = tuple[np.ndarray, np.ndarray, np.ndarray]
"""The seats of a pool: i64[seats * STRIDE] states, INVITATION[seats], u8[seats * 2 * BELL_BYTES] bells, each a
mutex and a condition variable. Lives as long as any of the pool's workers."""


def new_board(seats: int) -> Board:
    """A board whose seats are all free."""
    states, invitations = np.zeros(seats * STRIDE, np.int64), np.zeros(seats, INVITATION)
    board = states, invitations, np.zeros(seats * 2 * BELL_BYTES, np.uint8)
    make_bells(board)
    return board


# --- Sleeping: POSIX's condition variables; elsewhere a worker naps outside, see `serve` ------------------------------


def _function(name: str, arguments: int) -> Any:
    """A function of the C library on addresses, which gives an int that is 0 here."""
    return types.ExternalFunction(name, types.int32(*[types.intp] * arguments))


mutex_init, cond_init = _function("pthread_mutex_init", 2), _function("pthread_cond_init", 2)
mutex_lock, mutex_unlock = _function("pthread_mutex_lock", 1), _function("pthread_mutex_unlock", 1)
cond_wait, cond_signal = _function("pthread_cond_wait", 2), _function("pthread_cond_signal", 1)


@kernel
def _mutex(board, seat):
    return board[2].ctypes.data + seat * 2 * BELL_BYTES


@entry_kernel
def make_bells(board):
    """Initialise every bell."""
    if POSIX:
        for seat in range(len(board[1])):
            mutex_init(_mutex(board, seat), 0)
            cond_init(_mutex(board, seat) + BELL_BYTES, 0)


@kernel
def _ring(board, seat):
    """Wake the worker of a seat whose state is no longer ASLEEP."""
    if POSIX:
        mutex_lock(_mutex(board, seat))
        cond_signal(_mutex(board, seat) + BELL_BYTES)
        mutex_unlock(_mutex(board, seat))


@kernel
def _sleep(board, seat):
    """Until the state is no longer ASLEEP."""
    mutex_lock(_mutex(board, seat))
    while load_acquire(board[0], seat * STRIDE) == ASLEEP:
        cond_wait(_mutex(board, seat) + BELL_BYTES, _mutex(board, seat))
    mutex_unlock(_mutex(board, seat))


# --- The worker's side -----------------------------------------------------------------------------------------------


if COMPILED:
    steps_at, integers_at, words_at = map(pointer_to, (STEP, np.int32, np.int64))


@kernel
def _follow(note):
    """Do a worker's part in the run that it is invited to."""
    counters = carray(words_at(note["counters"]), note["n_counters"])
    shared = (
        carray(steps_at(note["steps"]), note["n_steps"]),
        note["groups"],
        note["lanes"],
        note["images"],
        note["arena_size"],
        carray(floats_at(note["arena"]), note["n_arena"]),
        carray(floats_at(note["weights"]), note["n_weights"]),
        carray(integers_at(note["index"]), note["n_index"]),
        counters,
        carray(words_at(note["times"]), (note["times_rows"], note["times_columns"])),
    )
    work(note["member"], note["apart"] != 0, shared)
    fetch_add(counters, len(counters) - COUNTER_STRIDE, -1)


@entry_kernel
def serve(board, seat, wait_ns):
    """Work for whoever invites this seat, until it is stopped; sleep when nobody invited for so long. Gives whether it
    was stopped: where there are no condition variables it ends instead of sleeping, and is to be called again.
    """
    states, invitations, _ = board
    place = seat * STRIDE
    while True:
        begin, spins = now_ns(), 0
        state = load_acquire(states, place)
        while state in (FREE, TAKEN):
            spins += 1
            if spins < SPINS:
                pause()
            else:
                yield_core()
            if spins % 64 == 0 and (spins > WAIT_SPINS or now_ns() - begin > wait_ns):
                if not POSIX:
                    return False
                if exchange_if(states, place, FREE, ASLEEP):
                    _sleep(board, seat)
            state = load_acquire(states, place)
        if state == STOPPED:
            return True
        if exchange_if(states, place, state, BUSY):
            _follow(invitations[seat])
            store_release(states, place, FREE)


# --- The caller's side -----------------------------------------------------------------------------------------------


@kernel
def _invite(board, seat, member, apart, shared):
    """Invite a worker, if it is free, under the address of the run's counters; gives whether it was."""
    states, invitations, _ = board
    place = seat * STRIDE
    asleep = False
    if not exchange_if(states, place, FREE, TAKEN):
        asleep = exchange_if(states, place, ASLEEP, TAKEN)
        if not asleep:
            return False
    steps, groups, lanes, images, arena_size, arena, weights, index, counters, times = shared
    note = invitations[seat]
    note["member"], note["apart"] = member, apart
    note["groups"], note["lanes"], note["images"], note["arena_size"] = groups, lanes, images, arena_size
    note["steps"], note["n_steps"] = steps.ctypes.data, len(steps)
    note["arena"], note["n_arena"] = arena.ctypes.data, len(arena)
    note["weights"], note["n_weights"] = weights.ctypes.data, len(weights)
    note["index"], note["n_index"] = index.ctypes.data, len(index)
    note["counters"], note["n_counters"] = counters.ctypes.data, len(counters)
    note["times"], note["times_rows"], note["times_columns"] = times.ctypes.data, times.shape[0], times.shape[1]
    fetch_add(counters, len(counters) - COUNTER_STRIDE, 1)
    store_release(states, place, counters.ctypes.data)
    if asleep:
        _ring(board, seat)
    return True


@entry_kernel
def share(board, seats, workers, apart, shared):
    """A whole run with up to workers - 1 others from the first `seats`.

    Gives how many of them may still read steps, counters and times, though none holds a task: these arrays must live
    until the last counter is 0.
    """
    counters = shared[8]
    member = 1
    for seat in range(seats):
        if member < workers and _invite(board, seat, member, apart, shared):
            member += 1
    work(0, apart, shared)
    for seat in range(seats):  # takes back what nobody has followed
        if exchange_if(board[0], seat * STRIDE, counters.ctypes.data, FREE):
            fetch_add(counters, len(counters) - COUNTER_STRIDE, -1)
    if apart:
        wait_for(counters, GROUPS_DONE, shared[1])
    return load_acquire(counters, len(counters) - COUNTER_STRIDE)


@entry_kernel
def stop(board, seats):
    """Stop the workers of the first `seats`; each ends when its run does."""
    for seat in range(seats):
        place = seat * STRIDE
        while load_acquire(board[0], place) != STOPPED:
            if exchange_if(board[0], place, FREE, STOPPED):
                break
            if exchange_if(board[0], place, ASLEEP, STOPPED):
                _ring(board, seat)
                break
            yield_core()
