# SPDX-FileCopyrightText: 2026 The Flow-RAG-VLA authors
# SPDX-License-Identifier: Apache-2.0
"""How a thread waits for its request: woken when it is done, and by itself when time alone may change something."""

from __future__ import annotations

from flow_rag_vla.residency.admission import Admission
from flow_rag_vla.residency.books import LOOK_S, Books
from flow_rag_vla.residency.errors import CanceledError
from flow_rag_vla.residency.lease import Lease
from flow_rag_vla.residency.model import Cancel
from flow_rag_vla.residency.records import Request
from flow_rag_vla.residency.requests import Requests


class Waiting:
    """Blocks the calling thread. Not under the lock."""

    def __init__(self, books: Books, requests: Requests, admission: Admission) -> None:
        self._books, self._requests, self._admission = books, requests, admission

    def wait(self, request: Request, cancel: Cancel | None = None) -> Lease | None:
        """The request's lease, None for one that keeps none.

        Raises:
            ResidencyError: the request's own error, at its deadline at the latest; CanceledError when it was withdrawn.
        """
        if cancel is not None:
            cancel.when_canceled(request.wake.set)
        try:
            # One whose models were there is done already.
            if not request.done:
                self._sleep(request, cancel)
        except BaseException:
            # An interrupt, say: nobody will come for what is granted from here on.
            with self._books.lock:
                if not request.done:
                    self._requests.fail(request, CanceledError("interrupted"))
            if request.result is not None:
                request.result.release()
            raise
        finally:
            if cancel is not None:
                cancel.forget(request.wake.set)
        if request.error is not None:
            raise request.error
        if request.result is not None and cancel is not None and cancel.canceled:
            request.result.release()
            raise _withdrawn(request)
        return request.result

    def _sleep(self, request: Request, cancel: Cancel | None) -> None:
        books, woken = self._books, True
        while True:
            with books.lock:
                # Before the look at the token: what it sets from here on ends the wait below.
                request.wake.clear()
                if not request.done and cancel is not None and cancel.canceled:
                    self._requests.fail(request, _withdrawn(request))
                    books.look()
                # Whoever changes something looks itself; here only time has passed.
                if not request.done and not woken:
                    books.look()
                if request.done:
                    return
                pause = self._admission.next_event(request) - books.clock()
            woken = request.wake.wait(max(0.0, min(pause, LOOK_S)))


def _withdrawn(request: Request) -> CanceledError:
    return CanceledError(f"the request for {', '.join(request.names)} was withdrawn")
