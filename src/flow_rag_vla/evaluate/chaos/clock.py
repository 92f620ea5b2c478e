# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""A system clock that can be set for chosen processes only, so that a jump needs no privilege and harms nobody else.

A few lines of C, built where the faults are injected, stand before the C library's calls and add an offset that all
chosen processes share through a file. Steady clocks are left alone, as they are when a real clock is set.
"""

from __future__ import annotations

import mmap
import shutil
import struct
import subprocess
from pathlib import Path

OFFSET_VARIABLE = "FLOW_RAG_VLA_CLOCK_OFFSET"

_SOURCE = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile int64_t *offset;
static int (*real)(clockid_t, struct timespec *);

__attribute__((constructor)) static void prepare(void) {
    const char *path = getenv("FLOW_RAG_VLA_CLOCK_OFFSET");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    if (file >= 0) {
        void *place = mmap(0, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        if (place != MAP_FAILED) offset = place;
        close(file);
    }
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!real) real = (int (*)(clockid_t, struct timespec *))dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (result == 0 && offset && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        int64_t moved = (int64_t)now->tv_sec * 1000000000 + now->tv_nsec + *offset;
        now->tv_sec = moved / 1000000000;
        now->tv_nsec = moved % 1000000000;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    struct timespec precise;
    (void)zone;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    now->tv_sec = precise.tv_sec;
    now->tv_usec = precise.tv_nsec / 1000;
    return 0;
}

/* A moment of the system clock that the process sees, on the true one. */
static struct timespec true_moment_of(const struct timespec *until, int64_t ahead) {
    int64_t moment = (int64_t)until->tv_sec * 1000000000 + until->tv_nsec - ahead;
    if (moment < 0) moment = 0;
    return (struct timespec){moment / 1000000000, moment % 1000000000};
}

/* A wait until a moment of the system clock, as libraries built against an old C library do for every timeout. The
   kernel compares with the clock as it is then: one that is set back meanwhile makes the wait longer. */
int pthread_cond_timedwait(pthread_cond_t *condition, pthread_mutex_t *mutex, const struct timespec *until) {
    typedef int (*wait_function)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
    static wait_function wait;
    struct timespec now;
    if (!wait) wait = (wait_function)dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
    if (!wait) wait = (wait_function)dlsym(RTLD_NEXT, "pthread_cond_timedwait");
    clock_gettime(CLOCK_REALTIME, &now);
    /* Far from the system clock: the condition uses the steady one. */
    if (!offset || llabs((long long)until->tv_sec - now.tv_sec) > 100000000) return wait(condition, mutex, until);
    int64_t before = *offset;
    struct timespec moment = true_moment_of(until, before);
    int result = wait(condition, mutex, &moment);
    /* Set back meanwhile: the moment is still to come, so this was no timeout. A wake-up for no reason is allowed, and
       makes the caller look whether there was one, and wait on until the same moment. */
    return result == ETIMEDOUT && *offset < before ? 0 : result;
}

/* Shared memory waits on semaphores and locks in the same way. Left alone, every such wait would be over at once while
   the clock is set back, and begin anew: a thread that computes without a pause. These may not end for no reason. */
int sem_timedwait(sem_t *semaphore, const struct timespec *until) {
    static int (*wait)(sem_t *, const struct timespec *);
    if (!wait) wait = (int (*)(sem_t *, const struct timespec *))dlsym(RTLD_NEXT, "sem_timedwait");
    for (;;) {
        int64_t before = offset ? *offset : 0;
        struct timespec moment = true_moment_of(until, before);
        int result = wait(semaphore, &moment);
        if (result == 0 || errno != ETIMEDOUT || !offset || *offset >= before) return result;
    }
}

int pthread_mutex_timedlock(pthread_mutex_t *mutex, const struct timespec *until) {
    static int (*lock)(pthread_mutex_t *, const struct timespec *);
    if (!lock) lock = (int (*)(pthread_mutex_t *, const struct timespec *))dlsym(RTLD_NEXT, "pthread_mutex_timedlock");
    for (;;) {
        int64_t before = offset ? *offset : 0;
        struct timespec moment = true_moment_of(until, before);
        int result = lock(mutex, &moment);
        if (result != ETIMEDOUT || !offset || *offset >= before) return result;
    }
}

time_t time(time_t *out) {
    struct timespec precise;
    if (clock_gettime(CLOCK_REALTIME, &precise)) return -1;
    if (out) *out = precise.tv_sec;
    return precise.tv_sec;
}
"""


class SettableClock:
    """The offset of the clock that processes with ``environment`` see. Use it as a context manager, or ``close`` it."""

    def __init__(self, folder: Path) -> None:
        """Build the library in ``folder``.

        Raises:
            RuntimeError: if there is no C compiler or it fails; the message names the remedy.
        """
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise RuntimeError("no C compiler was found (cc, gcc or clang); install one to let the clock jump")
        folder.mkdir(parents=True, exist_ok=True)
        source, library = folder / "clock.c", folder / "clock.so"
        source.write_text(_SOURCE, encoding="utf-8")
        built = subprocess.run(
            [compiler, "-shared", "-fPIC", "-O2", "-o", str(library), str(source), "-ldl"],
            capture_output=True,
            text=True,
            check=False,
        )
        if built.returncode:
            lines = built.stderr.strip().splitlines() or ["it said nothing"]
            raise RuntimeError(f"{compiler} failed on {source}: {lines[-1]}; repair the compiler")
        path = folder / "clock_offset"
        path.write_bytes(bytes(8))
        self._file = path.open("r+b")
        self._shared = mmap.mmap(self._file.fileno(), 8)
        self.environment = {"LD_PRELOAD": str(library.resolve()), OFFSET_VARIABLE: str(path.resolve())}

    def set(self, offset_ns: int) -> None:
        """Put the clock that far from the true one."""
        self._shared[:] = struct.pack("=q", offset_ns)

    def close(self) -> None:
        """Let go of the file; processes that still run keep the last offset."""
        self._shared.close()
        self._file.close()

    def __enter__(self) -> SettableClock:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()
